#include "lastclose.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"

#define CLOSING_STEP_MS 10
#define CLOSING_MAX_MS	10000
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

pid_t fs_process_of(pid_t pid)
{
	char path[64], buf[4096];
	const char *tgid;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (pid <= 0 || proc_read(AT_FDCWD, path, buf, sizeof(buf)) <= 0)
		return pid;
	tgid = strstr(buf, "\nTgid:");
	return tgid ? (pid_t)strtol(tgid + 6, NULL, 10) : pid;
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

bool fs_process_killed(pid_t pid)
{
	char buf[1024];
	const char *fields = pid > 0 ? stat_fields(pid, buf, sizeof(buf)) : NULL;

	/* When a program exits, its other threads are ended as by a signal: what it exits
	 * with tells. */
	return fields && stat_field(fields, 9) & TASK_SIGNALED &&
	       stat_field(fields, 52) & 0x7f;
}

/* The number behind a label of fdinfo; -1: there is none. */
static long long info_number(const char *info, const char *label, int base)
{
	const char *at = strstr(info, label);

	return at ? strtoll(at + strlen(label), NULL, base) : -1;
}

/* One descriptor, by its entry in fdinfo: "flags:\t0100001\n" ... "ino:\t1234\n". */
static bool is_descriptor_of(int dir, const char *name, ino_t ino, int flags, int backing)
{
	const long long kind = O_ACCMODE | O_APPEND;
	char buf[1024];

	return proc_read(dir, name, buf, sizeof(buf)) > 0 &&
	       info_number(buf, "\nino:\t", 10) == (long long)ino &&
	       (info_number(buf, "flags:\t", 8) & kind) == (flags & kind) &&
	       (backing < 0 || info_number(buf, "\nmnt_id:\t", 10) != backing);
}

bool fs_process_holds(pid_t pid, ino_t ino, int flags, int backing)
{
	struct dirent *e;
	bool found = false;
	char path[64];
	DIR *dir;

	if (pid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)pid);
	dir = opendir(path);
	if (!dir)
		return false;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): our own stream */
	while (!found && (e = readdir(dir)))
		found = e->d_name[0] != '.' &&
			is_descriptor_of(dirfd(dir), e->d_name, ino, flags, backing);
	closedir(dir);
	return found;
}

/* ---- at a FLUSH ---- */

struct closing {
	struct fs_closing_question q;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	/* Under lock: */
	unsigned users;
	pid_t looker; /* the thread; 0: it does not run yet */
	bool answered;
	enum fs_closing answer;
};

static void closing_put(struct closing *c)
{
	bool last;

	pthread_mutex_lock(&c->lock);
	last = !--c->users;
	pthread_mutex_unlock(&c->lock);
	if (!last)
		return;
	pthread_cond_destroy(&c->cond);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static enum fs_closing closing_look(const struct fs_closing_question *q)
{
	if (fs_process_killed(q->pid))
		return FS_CLOSING_KILLED;
	if (fs_process_holds(q->pid, q->ino, q->flags, q->backing))
		return FS_CLOSING_MORE;
	for (size_t k = 0; k < sizeof(q->who) / sizeof(q->who[0]); k++)
		if (q->who[k] != q->pid &&
		    fs_process_holds(q->who[k], q->ino, q->flags, q->backing))
			return FS_CLOSING_MORE;
	return FS_CLOSING_LAST;
}

static void *closing_main(void *arg)
{
	struct closing *c = arg;
	enum fs_closing answer;

	pthread_mutex_lock(&c->lock);
	c->looker = gettid();
	pthread_mutex_unlock(&c->lock);
	answer = closing_look(&c->q);
	pthread_mutex_lock(&c->lock);
	c->answer = answer;
	c->answered = true;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
	closing_put(c);
	return NULL;
}

static struct closing *closing_start(const struct fs_closing_question *q)
{
	struct closing *c = calloc(1, sizeof(*c));
	pthread_condattr_t monotonic;
	pthread_t thread;

	if (!c)
		return NULL;
	c->q = *q;
	c->users = 2;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&c->cond, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (pthread_create(&thread, NULL, closing_main, c)) {
		c->users = 1;
		closing_put(c);
		return NULL;
	}
	pthread_detach(thread);
	return c;
}

/* Under lock. Waits for the answer, a step long. */
static void closing_wait(struct closing *c)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += CLOSING_STEP_MS * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	pthread_cond_timedwait(&c->cond, &c->lock, &until);
}

/* Under lock. Does the thread that looks wait for something, and not for a processor? */
static bool closing_hangs(const struct closing *c)
{
	char buf[1024];
	const char *fields =
	    c->looker ? stat_fields(c->looker, buf, sizeof(buf)) : NULL;

	return fields && (*fields == 'D' || *fields == 'S');
}

enum fs_closing fs_process_closing(const struct fs_closing_question *q)
{
	struct closing *c = closing_start(q);
	enum fs_closing answer = FS_CLOSING_MORE;
	int hung = 0;

	if (!c)
		return answer;
	pthread_mutex_lock(&c->lock);
	for (int waited = 0; !c->answered && hung < FS_CLOSING_MS &&
			     waited < CLOSING_MAX_MS;
	     waited += CLOSING_STEP_MS) {
		closing_wait(c);
		hung = closing_hangs(c) ? hung + CLOSING_STEP_MS : 0;
	}
	if (c->answered)
		answer = c->answer;
	pthread_mutex_unlock(&c->lock);
	closing_put(c);
	return answer;
}
