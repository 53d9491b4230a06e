/* SPDX-License-Identifier: MIT */
/* Finds programs that have held governed files open for writing since before the mount:
 * their descriptors bypass it. A thread of its own looks in /proc, because looking at a
 * process takes as long as that hangs in an execve(). It looks at the mount under a
 * lock, and only while there is one. */
#include "start/bypass.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/stamp.h"
#include "base/fdinfo.h"
#include "base/program.h"
#include "base/syslog.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/mount.h"
#include "virtual/bypassers.h"

/* After this time it stops looking. */
#define BYPASS_MS      INT64_C(60000)
#define BYPASS_WAIT_MS 1000 /* of the mount command */
#define BYPASS_STEP_US 2000

struct fs_bypass {
	pthread_mutex_t lock;
	struct fs_mount *m; /* under lock; NULL: the mount has ended */
	unsigned users;	    /* under lock: the mount, the thread */
	char *source;
	dev_t device; /* of the mount itself */
	_Atomic bool done;
	int64_t until;
};

static void bypass_put(struct fs_bypass *b)
{
	bool last;

	pthread_mutex_lock(&b->lock);
	last = --b->users == 0;
	pthread_mutex_unlock(&b->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&b->lock);
	free(b->source);
	free(b);
}

static bool is_over(struct fs_bypass *b)
{
	bool over;

	pthread_mutex_lock(&b->lock);
	over = !b->m || jsonl_now_ms() > b->until;
	pthread_mutex_unlock(&b->lock);
	return over;
}

static bool is_governed(struct fs_bypass *b, const char *path)
{
	bool governed;

	pthread_mutex_lock(&b->lock);
	governed = b->m && jsonl_policy_classify(b->m->vault.policy, path) ==
			       JSONL_CLASS_GOVERNED;
	pthread_mutex_unlock(&b->lock);
	return governed;
}

static void tell(struct fs_bypass *b, const char *path, pid_t pid, const char *program)
{
	struct fs_bypasser one = {.pid = pid, .program = program, .path = path};
	char process[64];
	struct stat st;

	(void)snprintf(process, sizeof(process), "/proc/%d", (int)pid);
	one.uid = stat(process, &st) == 0 ? st.st_uid : (uid_t)-1;
	pthread_mutex_lock(&b->lock);
	if (b->m && fs_bypassers_add(b->m->bypassers, &one))
		FS_SYSLOG(LOG_WARNING, (uid_t)-1, "bypass", FS_STR("path", path),
			  FS_INT("pid", pid), FS_STR("program", program),
			  FS_STR("reason", "opened before the mount: its writes are not "
					   "checked"),
			  FS_STR("next", "restart it"));
	pthread_mutex_unlock(&b->lock);
}

static void look_at_descriptor(struct fs_bypass *b, const char *pid, int fds,
			       const char *fd)
{
	char target[PATH_MAX], program[PATH_MAX], own[PATH_MAX];
	size_t root = strcmp(b->source, "/") == 0 ? 0 : strlen(b->source);
	ssize_t n = readlinkat(fds, fd, target, sizeof(target) - 1);
	pid_t id = (pid_t)strtol(pid, NULL, 10);
	struct statx sx;

	if (n < 0)
		return;
	target[n] = '\0';
	/* The path is compared first: that asks no file system, which may hang. */
	if (strncmp(target, b->source, root) != 0 || target[root] != '/' ||
	    !is_governed(b, target + root + 1))
		return;
	if (statx(fds, fd, AT_STATX_DONT_SYNC, STATX_TYPE, &sx) ||
	    !S_ISREG(sx.stx_mode) ||
	    makedev(sx.stx_dev_major, sx.stx_dev_minor) == b->device ||
	    !fs_fdinfo_writes(pid, fd))
		return;
	fs_program_name(id, program, sizeof(program));
	/* Another daemon, perhaps one that is about to end, does not bypass the
	 * rules. */
	fs_program_name(getpid(), own, sizeof(own));
	if (strcmp(program, own) == 0)
		return;
	tell(b, target + root + 1, id, program);
}

static void look_at_process(struct fs_bypass *b, const char *pid)
{
	char path[64];
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
	dir = opendir(path);
	if (!dir)
		return; /* gone, or another user's */
	/* Our own stream. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (!is_over(b) && (e = readdir(dir))) {
		if (isdigit((unsigned char)e->d_name[0]))
			look_at_descriptor(b, pid, dirfd(dir), e->d_name);
	}
	closedir(dir);
}

static void *bypass_run(void *arg)
{
	struct fs_bypass *b = arg;
	DIR *proc = opendir("/proc");
	struct dirent *e;

	/* Our own stream. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (proc && !is_over(b) && (e = readdir(proc))) {
		if (isdigit((unsigned char)e->d_name[0]) &&
		    strtol(e->d_name, NULL, 10) != getpid())
			look_at_process(b, e->d_name);
	}
	if (proc)
		closedir(proc);
	b->done = true;
	bypass_put(b);
	return NULL;
}

void fs_bypass_start(struct fs_mount *m)
{
	struct fs_bypass *b = calloc(1, sizeof(*b));
	pthread_attr_t detached;
	pthread_t thread;

	if (!b)
		return;
	pthread_mutex_init(&b->lock, NULL);
	b->m = m;
	b->users = 2;
	b->source = strdup(m->vault.source);
	b->device = m->vault.device;
	b->until = jsonl_now_ms() + BYPASS_MS;
	m->bypass = b;
	m->bypassers = fs_bypassers_new();
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	if (!b->source || pthread_create(&thread, &detached, bypass_run, b)) {
		b->done = true;
		bypass_put(b);
	}
	pthread_attr_destroy(&detached);
}

void fs_bypass_wait(struct fs_mount *m)
{
	int64_t end = jsonl_now_ms() + BYPASS_WAIT_MS;

	while (m->bypass && !m->bypass->done && jsonl_now_ms() < end)
		usleep(BYPASS_STEP_US);
}

void fs_bypass_stop(struct fs_mount *m)
{
	struct fs_bypass *b = m->bypass;

	if (!b)
		return;
	pthread_mutex_lock(&b->lock);
	b->m = NULL;
	pthread_mutex_unlock(&b->lock);
	m->bypass = NULL;
	bypass_put(b);
	fs_bypassers_free(m->bypassers);
	m->bypassers = NULL;
}
