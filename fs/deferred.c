/* One thread for what must wait without holding a worker (a write that meets a lock held
 * outside), and for what must be done after the answer (invalidations, which the kernel
 * would deadlock on within the request). Started when first needed. */
#include "fs.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFERRED_POLL_MS 4

struct fs_deferred {
	struct fs_mount *m;
	pthread_mutex_t lock; /* a leaf */
	pthread_cond_t cond;
	pthread_t thread;
	bool stop, fresh; /* fresh: a job was added */
	struct fs_job *jobs; /* not being run now; oldest first */
};

int64_t fs_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void jobs_append(struct fs_job **list, struct fs_job *job)
{
	while (*list)
		list = &(*list)->next;
	*list = job;
}

/* Runs every job once; those that must wait on are returned, in order. */
static struct fs_job *jobs_run(struct fs_mount *m, struct fs_job *jobs, bool stop)
{
	struct fs_job *waiting = NULL, **tail = &waiting;

	while (jobs) {
		struct fs_job *job = jobs;

		jobs = job->next;
		job->next = NULL;
		bool last = stop || fs_now_ms() >= job->deadline;

		if ((!last && fs_now_ms() < job->not_before) ||
		    job->run(m, job, last) == -EAGAIN) {
			*tail = job;
			tail = &job->next;
		}
	}
	return waiting;
}

/* Until when nothing is to be done, if nothing new comes. */
static int64_t jobs_due(const struct fs_job *jobs)
{
	int64_t soon = fs_now_ms() + DEFERRED_POLL_MS, due = INT64_MAX;

	for (; jobs; jobs = jobs->next) {
		int64_t at = jobs->not_before > soon ? jobs->not_before : soon;

		due = at < due ? at : due;
	}
	return due;
}

/* Under lock, which it gives up meanwhile: until something new comes or is due. */
static void jobs_wait(struct fs_deferred *d)
{
	int64_t due = jobs_due(d->jobs);
	struct timespec until = {.tv_sec = due / 1000, .tv_nsec = due % 1000 * 1000000};

	while (!d->stop && !d->fresh) {
		if (!d->jobs)
			pthread_cond_wait(&d->cond, &d->lock);
		else if (pthread_cond_timedwait(&d->cond, &d->lock, &until) == ETIMEDOUT)
			break;
	}
	d->fresh = false;
}

static void *deferred_main(void *arg)
{
	struct fs_deferred *d = arg;
	bool stop = false;

	while (!stop) {
		struct fs_job *jobs;

		pthread_mutex_lock(&d->lock);
		jobs_wait(d);
		stop = d->stop;
		jobs = steal_ptr(&d->jobs);
		pthread_mutex_unlock(&d->lock);
		jobs = jobs_run(d->m, jobs, stop);
		if (!jobs)
			continue;
		pthread_mutex_lock(&d->lock);
		jobs_append(&jobs, d->jobs);
		d->jobs = jobs;
		pthread_mutex_unlock(&d->lock);
	}
	return NULL;
}

/* Under inodes_lock, which is free for this: nobody asks for a first job twice. */
static int deferred_start(struct fs_mount *m)
{
	struct fs_deferred *d = calloc(1, sizeof(*d));
	pthread_condattr_t attr;
	int rc;

	if (!d)
		return -ENOMEM;
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->cond, &attr);
	pthread_condattr_destroy(&attr);
	d->m = m;
	rc = pthread_create(&d->thread, NULL, deferred_main, d);
	if (!rc) {
		m->deferred = d;
	} else {
		pthread_cond_destroy(&d->cond);
		pthread_mutex_destroy(&d->lock);
		free(d);
	}
	return -rc;
}

int fs_defer(struct fs_mount *m, struct fs_job *job)
{
	struct fs_deferred *d;
	int rc = 0;

	pthread_mutex_lock(&m->inodes_lock);
	if (!m->deferred)
		rc = deferred_start(m);
	d = m->deferred;
	pthread_mutex_unlock(&m->inodes_lock);
	if (rc)
		return rc;
	job->next = NULL;
	job->deadline = fs_now_ms() + job->timeout_ms;
	pthread_mutex_lock(&d->lock);
	d->fresh = true;
	jobs_append(&d->jobs, job);
	pthread_cond_signal(&d->cond);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

void fs_defer_stop(struct fs_mount *m)
{
	struct fs_deferred *d;

	pthread_mutex_lock(&m->inodes_lock);
	d = steal_ptr(&m->deferred);
	pthread_mutex_unlock(&m->inodes_lock);
	if (!d)
		return;
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_signal(&d->cond);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->thread, NULL);
	/* What came while the thread was on its last round. */
	jobs_run(m, d->jobs, true);
	pthread_cond_destroy(&d->cond);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

struct invalidation {
	struct fs_job job;
	struct fs_inode *parent;
	char name[];
};

static int invalidation_run(struct fs_mount *m, struct fs_job *job, bool last)
{
	struct invalidation *inv = (struct invalidation *)job;

	if (!last)
		fuse_lowlevel_notify_inval_entry(m->se, fs_inode_number(m, inv->parent),
						 inv->name, strlen(inv->name));
	fs_inode_unref(m, inv->parent);
	free(inv);
	return 0;
}

void fs_invalidate_entry(struct fs_mount *m, struct fs_inode *parent, const char *name)
{
	size_t len = strlen(name) + 1;
	struct invalidation *inv = malloc(sizeof(*inv) + len);

	if (!inv)
		return;
	inv->job = (struct fs_job){.run = invalidation_run, .timeout_ms = 10000};
	inv->parent = fs_inode_ref(m, parent);
	memcpy(inv->name, name, len);
	if (fs_defer(m, &inv->job)) {
		fs_inode_unref(m, parent);
		free(inv);
	}
}
