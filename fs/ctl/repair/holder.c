/* SPDX-License-Identifier: MIT */
#include "ctl/repair/holder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/fdinfo.h"

#define LOOK_SECONDS 1 /* for one process */
#define HANGING_MAX  5 /* processes; then no more are looked at */

/* Looks at one process. /proc does not answer while the process hangs in an execve(), so
 * a thread does it, which is left behind when it takes too long. */
struct look {
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool finished, found; /* under lock, as is: */
	unsigned users;	      /* the caller, the thread */
	char pid[24];
	dev_t dev;
	ino_t ino;
};

/* ---- in the thread ---- */

/* Returns true when descriptor `fd` of the process is this inode, open for writing. */
static bool is_writer(int fds, const struct look *l, const char *fd)
{
	struct statx sx;

	/* Does not ask the file system, which may hang. */
	if (statx(fds, fd, AT_STATX_DONT_SYNC, STATX_INO, &sx) < 0 ||
	    sx.stx_ino != l->ino || makedev(sx.stx_dev_major, sx.stx_dev_minor) != l->dev)
		return false;
	return fs_fdinfo_writes(l->pid, fd);
}

static bool holds(const struct look *l)
{
	char path[64];
	struct dirent *e;
	bool found = false;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%.16s/fd", l->pid);
	dir = opendir(path);
	if (!dir)
		return false;
	/* Our own stream. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (!found && (e = readdir(dir)))
		found = e->d_name[0] != '.' && is_writer(dirfd(dir), l, e->d_name);
	closedir(dir);
	return found;
}

static void look_put(struct look *l)
{
	bool last;

	pthread_mutex_lock(&l->lock);
	last = --l->users == 0;
	pthread_mutex_unlock(&l->lock);
	if (!last)
		return;
	pthread_cond_destroy(&l->done);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void *look_run(void *arg)
{
	struct look *l = arg;
	bool found = holds(l);

	pthread_mutex_lock(&l->lock);
	l->found = found;
	l->finished = true;
	pthread_cond_signal(&l->done);
	pthread_mutex_unlock(&l->lock);
	look_put(l);
	return NULL;
}

/* ---- in the caller ---- */

static struct look *look_new(const char *pid, const struct stat *st)
{
	struct look *l = calloc(1, sizeof(*l));
	pthread_condattr_t clock;

	if (!l)
		return NULL;
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->done, &clock);
	pthread_condattr_destroy(&clock);
	l->users = 2;
	l->dev = st->st_dev;
	l->ino = st->st_ino;
	(void)snprintf(l->pid, sizeof(l->pid), "%.16s", pid);
	return l;
}

/* Looks at a process for a second at most. 1: it has the file open for writing; 0: it
 * has not; -ETIMEDOUT, or -errno. */
static int look_at(const char *pid, const struct stat *st)
{
	struct look *l = look_new(pid, st);
	pthread_attr_t detached;
	struct timespec until;
	pthread_t thread;
	int rc = l ? 0 : -ENOMEM;

	if (rc)
		return rc;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LOOK_SECONDS;
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	rc = -pthread_create(&thread, &detached, look_run, l);
	pthread_attr_destroy(&detached);
	if (rc) {
		look_put(l);
		look_put(l);
		return rc;
	}
	pthread_mutex_lock(&l->lock);
	while (!l->finished && !rc)
		rc = -pthread_cond_timedwait(&l->done, &l->lock, &until);
	if (l->finished)
		rc = l->found;
	pthread_mutex_unlock(&l->lock);
	look_put(l);
	return rc;
}

static void read_comm(const char *pid, char comm[32])
{
	char path[64];
	FILE *f;

	comm[0] = '\0';
	(void)snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(comm, 32, f))
		comm[strcspn(comm, "\n")] = '\0';
	(void)fclose(f);
}

int ctl_holder(const struct stat *st, char comm[32])
{
	DIR *proc = opendir("/proc");
	int found = 0, hanging = 0;
	struct dirent *e;

	if (!proc)
		return 0;
	/* Our own stream. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (!found && hanging < HANGING_MAX && (e = readdir(proc))) {
		long pid = strtol(e->d_name, NULL, 10);
		int rc = pid > 0 && pid != getpid() ? look_at(e->d_name, st) : 0;

		if (rc > 0) {
			read_comm(e->d_name, comm);
			found = (int)pid;
		}
		hanging += rc < 0;
	}
	closedir(proc);
	return found ? found : hanging ? -ETIMEDOUT : 0;
}
