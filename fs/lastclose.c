#include "lastclose.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"

#define TASK_SIGNALED 0x400 /* PF_SIGNALED of the kernel, field 9 of /proc/PID/stat */

/* Reads a small file of /proc; bytes, or -1. */
static ssize_t proc_read(int dir, const char *path, char *buf, size_t size)
{
	cleanup_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	buf[n > 0 ? n : 0] = '\0';
	return n;
}

/* Fields of /proc/PID/stat from the third on: the second is a name that may hold
 * anything.
 */
static const char *stat_fields(pid_t pid, char *buf, size_t size)
{
	char path[64];
	char *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (proc_read(AT_FDCWD, path, buf, size) <= 0)
		return NULL;
	end = strrchr(buf, ')');
	return end && end[1] ? end + 2 : NULL;
}

/* Field `number` of the line, counted as proc(5) does. */
static uint64_t stat_field(const char *fields, int number)
{
	for (int i = 3; i < number && fields; i++) {
		fields = strchr(fields, ' ');
		fields += fields != NULL;
	}
	return fields ? strtoull(fields, NULL, 10) : 0;
}

/* What /proc/PID/status says behind a label such as "\nTgid:", which can be asked in the
 * middle of an exec, too; -1: nothing. */
static long status_number(pid_t pid, const char *label)
{
	char path[64], buf[4096];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (pid <= 0 || proc_read(AT_FDCWD, path, buf, sizeof(buf)) <= 0)
		return -1;
	at = strstr(buf, label);
	return at ? strtol(at + strlen(label), NULL, 10) : -1;
}

pid_t fs_process_of(pid_t pid)
{
	/* Most often it is the first thread, whose number is that of the process; this is
	 * open to such alone, and much cheaper than the text. */
	cleanup_close int first = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	long tgid = first < 0 ? status_number(pid, "\nTgid:") : pid;

	return tgid > 0 ? (pid_t)tgid : pid;
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

/* What it exits with the kernel shows only to who may trace it. To others (`hidden`) it
 * is killed when this thread is, which is wrong where another thread has called exit. */
static bool is_killed(pid_t pid, bool hidden)
{
	char buf[1024];
	const char *fields = pid > 0 ? stat_fields(pid, buf, sizeof(buf)) : NULL;

	/* When a program exits, its other threads are ended as by a signal: what it exits
	 * with tells. */
	return fields && stat_field(fields, 9) & TASK_SIGNALED &&
	       (hidden || stat_field(fields, 52) & 0x7f);
}

bool fs_process_killed(pid_t pid)
{
	return is_killed(pid, false);
}

/* A process that ends has let go of its table of descriptors before it closes them. */
static bool is_exiting(pid_t pid)
{
	return status_number(pid, "\nFDSize:") == 0;
}

/* The number behind a label of fdinfo; -1: there is none. */
static long long info_number(const char *info, const char *label, int base)
{
	const char *at = strstr(info, label);

	return at ? strtoll(at + strlen(label), NULL, base) : -1;
}

enum descriptors {
	DESCRIPTORS_HIDDEN, /* they may not be looked at */
	DESCRIPTORS_NONE,
	DESCRIPTORS_OTHERS,
	DESCRIPTORS_HELD, /* one of the file is among them */
};

/* One descriptor, by its entry in fdinfo: "flags:\t0100001\n" ... "ino:\t1234\n". */
static enum descriptors descriptor_look(int dir, const char *name, ino_t ino, int flags,
					int backing)
{
	const long long kind = O_ACCMODE | O_APPEND;
	char buf[1024];

	errno = 0;
	/* Gone meanwhile, or we have no descriptor or memory left to look. */
	if (proc_read(dir, name, buf, sizeof(buf)) <= 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM
			   ? DESCRIPTORS_HIDDEN
			   : DESCRIPTORS_OTHERS;
	return info_number(buf, "\nino:\t", 10) == (long long)ino &&
		       (info_number(buf, "flags:\t", 8) & kind) == (flags & kind) &&
		       (backing < 0 || info_number(buf, "\nmnt_id:\t", 10) != backing)
		   ? DESCRIPTORS_HELD
		   : DESCRIPTORS_OTHERS;
}

static enum descriptors descriptors_look(pid_t pid, ino_t ino, int flags, int backing)
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
			what =
			    descriptor_look(dirfd(dir), e->d_name, ino, flags, backing);
	closedir(dir);
	return what;
}

bool fs_process_holds(pid_t pid, ino_t ino, int flags, int backing)
{
	return descriptors_look(pid, ino, flags, backing) == DESCRIPTORS_HELD;
}

/* ---- at a FLUSH ---- */

enum fs_closing fs_process_closing(const struct fs_closing_question *q)
{
	/* The closing thread shares its descriptors with the process, and has them also
	 * where the first thread of the process has ended. */
	enum descriptors own = descriptors_look(q->thread, q->ino, q->flags, q->backing);

	if (own == DESCRIPTORS_HELD)
		return FS_CLOSING_MORE;
	if (own != DESCRIPTORS_OTHERS && is_exiting(q->thread)) {
		if (own == DESCRIPTORS_HIDDEN ? is_killed(q->pid, true)
					      : is_killed(q->thread, false))
			return FS_CLOSING_KILLED;
		own = DESCRIPTORS_NONE;
	}
	for (size_t k = 0; k < sizeof(q->who) / sizeof(q->who[0]); k++)
		if (q->who[k] != q->pid &&
		    fs_process_holds(q->who[k], q->ino, q->flags, q->backing))
			return FS_CLOSING_MORE;
	return own == DESCRIPTORS_HIDDEN ? FS_CLOSING_HIDDEN : FS_CLOSING_LAST;
}
