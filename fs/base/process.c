/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "base/error.h"
#include "base/fdinfo.h"

#define LATELY	  16  /* answers that a thread remembers */
#define LATELY_MS     250 /* in which no thread number is used again */
#define TASK_SIGNALED 0x400 /* PF_SIGNALED of the kernel, field 9 of /proc/PID/stat */

/* Reads a small file of /proc; bytes, or -1. */
static ssize_t proc_read(const char *path, char *buf, size_t size)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	buf[n > 0 ? n : 0] = '\0';
	return n;
}

/* Finds the fields of /proc/PID/stat from the third on; the second is a name that may
 * hold anything. */
static const char *stat_fields(pid_t pid, char *buf, size_t size)
{
	char path[64];
	char *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (proc_read(path, buf, size) <= 0)
		return NULL;
	end = strrchr(buf, ')');
	return end && end[1] ? end + 2 : NULL;
}

/* Returns field `number` of the line, counted as in proc(5). */
static uint64_t stat_field(const char *fields, int number)
{
	for (int i = 3; i < number && fields; i++) {
		fields = strchr(fields, ' ');
		fields += fields != NULL;
	}
	return fields ? strtoull(fields, NULL, 10) : 0;
}

/* Returns the number that /proc/PID/status has behind a label such as "\nTgid:", or -1.
 * It can be asked in the middle of an exec, too. */
static long status_number(pid_t pid, const char *label)
{
	char path[64], buf[4096];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (pid <= 0 || proc_read(path, buf, sizeof(buf)) <= 0)
		return -1;
	at = strstr(buf, label);
	return at ? strtol(at + strlen(label), NULL, 10) : -1;
}

pid_t fs_process_of(pid_t pid)
{
	/* Most often it is the first thread of its process, whose number is the
	 * process's. pidfd_open works for such only, and is much cheaper than the
	 * text. */
	cleanup_close int first = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	long tgid = first < 0 ? status_number(pid, "\nTgid:") : pid;

	return tgid > 0 ? (pid_t)tgid : pid;
}

pid_t fs_process_lately(pid_t pid)
{
	static _Thread_local struct {
		pid_t pid, process;
		int64_t until;
	} answers[LATELY];
	const int64_t now = jsonl_now_ms();
	const size_t at = (size_t)pid % LATELY;

	if (answers[at].pid != pid || now >= answers[at].until) {
		answers[at].process = fs_process_of(pid);
		answers[at].pid = pid;
		answers[at].until = now + LATELY_MS;
	}
	return answers[at].process;
}

bool fs_process_identify(pid_t pid, struct fs_process *p)
{
	char buf[4096];
	const char *fields;

	if (pid <= 0)
		return false;
	p->tgid = fs_process_of(pid);
	fields = stat_fields(p->tgid, buf, sizeof(buf));
	if (!fields)
		return false;
	p->start = stat_field(fields, 22);
	return true;
}

/* Returns true when the process was killed. The kernel shows an exit status only to
 * processes that may trace this one. Without it (`hidden`) the state of this thread
 * decides, wrongly where another thread has called exit. */
static bool is_killed(pid_t pid, bool hidden)
{
	char buf[1024];
	const char *fields = pid > 0 ? stat_fields(pid, buf, sizeof(buf)) : NULL;

	/* When a program exits its other threads end as by a signal; so the exit status
	 * decides. */
	return fields && stat_field(fields, 9) & TASK_SIGNALED &&
	       (hidden || stat_field(fields, 52) & 0x7f);
}

/* Returns true when the process is exiting: it gives up its table of descriptors before
 * it closes them. */
static bool is_exiting(pid_t pid)
{
	return status_number(pid, "\nFDSize:") == 0;
}

enum descriptors {
	DESCRIPTORS_HIDDEN, /* they may not be looked at */
	DESCRIPTORS_NONE,
	DESCRIPTORS_OTHERS,
	DESCRIPTORS_HELD, /* one of them is of the file */
};

/* Returns true when the mount with this number, as the process sees it, is this one, and
 * when that cannot be found out. */
static bool mount_is_ours(pid_t pid, long long id, dev_t device)
{
	cleanup_free char *line = NULL;
	unsigned major_number, minor_number;
	bool ours = true, found = false;
	size_t size = 0;
	char path[64];
	long long this;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
	f = device ? fopen(path, "re") : NULL;
	while (f && !found && getline(&line, &size, f) > 0) {
		found = sscanf(line, "%lld %*d %u:%u", &this, &major_number,
			       &minor_number) == 3 &&
			this == id;
		if (found)
			ours = makedev(major_number, minor_number) == device;
	}
	if (f)
		fclose(f);
	return ours;
}

static bool is_number(const struct fs_closing_question *q, long long ino)
{
	for (size_t k = 0; k < FS_CLOSING_NUMBERS; k++)
		if (q->numbers[k] && (long long)q->numbers[k] == ino)
			return true;
	return false;
}

/* Examines one descriptor, by its entry in fdinfo. */
static enum descriptors descriptor_look(pid_t pid, int dir, const char *name,
					const struct fs_closing_question *q)
{
	const int kind = O_ACCMODE | O_APPEND;
	struct fs_fdinfo info;
	int rc = fs_fdinfo_read(dir, name, &info);

	/* Gone meanwhile, or we have no descriptor or memory left to look. */
	if (rc)
		return rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM
			   ? DESCRIPTORS_HIDDEN
			   : DESCRIPTORS_OTHERS;
	return is_number(q, info.ino) && (info.flags & kind) == (q->flags & kind) &&
		       mount_is_ours(pid, info.mount, q->device)
		   ? DESCRIPTORS_HELD
		   : DESCRIPTORS_OTHERS;
}

static enum descriptors descriptors_look(pid_t pid, const struct fs_closing_question *q)
{
	enum descriptors what = DESCRIPTORS_NONE;
	struct dirent *e;
	char path[64];
	DIR *dir;

	if (pid <= 0)
		return DESCRIPTORS_HIDDEN;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? DESCRIPTORS_NONE : DESCRIPTORS_HIDDEN;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): our own stream */
	while ((e = readdir(dir)) && what != DESCRIPTORS_HELD &&
	       what != DESCRIPTORS_HIDDEN)
		if (e->d_name[0] != '.')
			what = descriptor_look(pid, dirfd(dir), e->d_name, q);
	closedir(dir);
	return what;
}

/* ---- at a FLUSH ---- */

enum fs_closing fs_process_closing(const struct fs_closing_question *q)
{
	/* The closing thread shares its descriptors with the process, and has them also
	 * where the first thread of the process has ended. */
	enum descriptors own = descriptors_look(q->thread, q);

	if (own == DESCRIPTORS_HELD)
		return FS_CLOSING_MORE;
	if (own != DESCRIPTORS_OTHERS && is_exiting(q->thread)) {
		if (own == DESCRIPTORS_HIDDEN ? is_killed(q->pid, true)
					      : is_killed(q->thread, false))
			return FS_CLOSING_KILLED;
		own = DESCRIPTORS_NONE;
	}
	for (size_t k = 0; k < sizeof(q->who) / sizeof(q->who[0]); k++)
		if (q->who[k] != q->pid && descriptors_look(q->who[k], q) == DESCRIPTORS_HELD)
			return FS_CLOSING_MORE;
	return own == DESCRIPTORS_HIDDEN ? FS_CLOSING_HIDDEN : FS_CLOSING_LAST;
}
