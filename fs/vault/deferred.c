/* SPDX-License-Identifier: MIT */
/* Runs a pool of threads for work that must not hold a worker up: a write that meets a
 * lock held outside, a look at another process, judging a whole file. Each job belongs to
 * a uid, and no uid has more than a few threads at a time, so slow jobs of a user delay
 * only that user. Notifications of the kernel about names have a thread of their own,
 * because the kernel may take as long as somebody else's request. All threads are started
 * when first needed. */
#include "vault/deferred.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "vault/vault.h"

#define DEFERRED_POLL_MS 4
#define DEFERRED_THREADS 64
#define DEFERRED_OF_ONE	 8 /* threads at work for one uid */

/* Held while the pool is made and found, and while it is taken away; a leaf but for the lock
 * of the pool. */
static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;

struct fs_deferred {
	pthread_mutex_t lock; /* a leaf; under it: */
	pthread_cond_t cond;
	bool stop;
	int64_t timed;	     /* time until which a thread waits; INT64_MAX: none does */
	struct fs_job *jobs; /* jobs that wait; oldest first */
	unsigned count;	     /* of them */
	unsigned threads, idle;
	pthread_t thread[DEFERRED_THREADS];
	struct {
		uid_t uid;
		unsigned threads; /* 0: this place is free */
	} busy[DEFERRED_THREADS];
	/* Notes for the kernel: */
	pthread_cond_t noted;
	struct fs_job *notes;
	pthread_t notifier;
	bool notifies;
};

static _Thread_local bool in_pool;

bool fs_defer_here(void)
{
	return in_pool;
}

static void jobs_append(struct fs_job **list, struct fs_job *job)
{
	job->next = NULL;
	while (*list)
		list = &(*list)->next;
	*list = job;
}

/* ---- who is at work; under lock ---- */

static unsigned *busy_find(struct fs_deferred *d, uid_t uid)
{
	unsigned *unused = NULL;

	for (size_t k = 0; k < DEFERRED_THREADS; k++) {
		if (d->busy[k].threads && d->busy[k].uid == uid)
			return &d->busy[k].threads;
		if (!d->busy[k].threads && !unused) {
			unused = &d->busy[k].threads;
			d->busy[k].uid = uid;
		}
	}
	return unused; /* there is always one: each place in use has a thread */
}

/* Takes the oldest job out that may run now; NULL: there is none, and *due is when the
 * next one may. */
static struct fs_job *job_take(struct fs_deferred *d, int64_t *due)
{
	const int64_t now = jsonl_now_ms();

	*due = INT64_MAX;
	for (struct fs_job **p = &d->jobs; *p; p = &(*p)->next) {
		struct fs_job *job = *p;
		int64_t at = job->not_before < job->deadline ? job->not_before
							     : job->deadline;

		if (*busy_find(d, job->uid) >= DEFERRED_OF_ONE)
			continue; /* the thread that ends looks again */
		if (d->stop || at <= now) {
			*p = job->next;
			d->count--;
			return job;
		}
		*due = at < *due ? at : *due;
	}
	return NULL;
}

/* Runs a job, without the lock. */
static void job_run(struct fs_deferred *d, struct fs_job *job)
{
	const uid_t uid = job->uid;
	const bool last = d->stop || jsonl_now_ms() >= job->deadline;
	int rc;

	(*busy_find(d, uid))++;
	/* This thread may have been the one that looks at the clock for the others. */
	if (d->count)
		pthread_cond_signal(&d->cond);
	pthread_mutex_unlock(&d->lock);
	rc = job->run(job, last);
	pthread_mutex_lock(&d->lock);
	(*busy_find(d, uid))--;
	if (rc == -EAGAIN) {
		const int64_t soon = jsonl_now_ms() + DEFERRED_POLL_MS;

		if (job->not_before < soon)
			job->not_before = soon;
		jobs_append(&d->jobs, job);
		d->count++;
	}
	if (d->count)
		pthread_cond_signal(&d->cond);
}

/* Waits, without the lock, until a job comes or is due. One thread looks at the
 * clock. */
static void job_wait(struct fs_deferred *d, int64_t due)
{
	const struct timespec until = {.tv_sec = due / 1000,
				       .tv_nsec = due % 1000 * 1000000};

	d->idle++;
	if (due >= d->timed) {
		pthread_cond_wait(&d->cond, &d->lock);
	} else {
		d->timed = due;
		pthread_cond_timedwait(&d->cond, &d->lock, &until);
		if (d->timed == due)
			d->timed = INT64_MAX;
	}
	d->idle--;
}

static void *pool_main(void *arg)
{
	struct fs_deferred *d = arg;
	int64_t due;

	in_pool = true;
	pthread_mutex_lock(&d->lock);
	while (!d->stop || d->jobs) {
		struct fs_job *job = job_take(d, &due);

		if (job)
			job_run(d, job);
		else
			job_wait(d, due);
	}
	pthread_cond_broadcast(&d->cond);
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

static void *notifier_main(void *arg)
{
	struct fs_deferred *d = arg;

	pthread_mutex_lock(&d->lock);
	for (;;) {
		struct fs_job *note = d->notes;
		bool stop = d->stop;

		if (!note && stop)
			break;
		if (!note) {
			pthread_cond_wait(&d->noted, &d->lock);
			continue;
		}
		d->notes = note->next;
		pthread_mutex_unlock(&d->lock);
		note->run(note, stop);
		pthread_mutex_lock(&d->lock);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* ---- beginning and end ---- */

static struct fs_deferred *deferred_new(void)
{
	struct fs_deferred *d = calloc(1, sizeof(*d));
	pthread_condattr_t attr;

	if (!d)
		return NULL;
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->cond, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&d->noted, NULL);
	d->timed = INT64_MAX;
	return d;
}

/* Returns the pool with its lock taken, or NULL. Under start_lock: it is not made twice,
 * and not freed while its lock is being taken. */
static struct fs_deferred *deferred_get(struct fs_vault *v)
{
	struct fs_deferred *d;

	pthread_mutex_lock(&start_lock);
	if (!v->deferred)
		v->deferred = deferred_new();
	d = v->deferred;
	if (d)
		pthread_mutex_lock(&d->lock);
	pthread_mutex_unlock(&start_lock);
	return d;
}

int fs_defer(struct fs_vault *v, struct fs_job *job)
{
	struct fs_deferred *d = deferred_get(v);
	int rc = 0;

	if (!d)
		return -ENOMEM;
	if (d->idle <= d->count && d->threads < DEFERRED_THREADS) {
		rc = pthread_create(&d->thread[d->threads], NULL, pool_main, d);
		d->threads += !rc;
	}
	if (d->threads) {
		rc = 0;
		job->deadline = jsonl_now_ms() + job->timeout_ms;
		jobs_append(&d->jobs, job);
		d->count++;
		pthread_cond_signal(&d->cond);
	}
	pthread_mutex_unlock(&d->lock);
	return -rc;
}

unsigned fs_defer_count(struct fs_vault *v, uid_t uid)
{
	struct fs_deferred *d = deferred_get(v);
	unsigned count = 0;

	if (!d)
		return 0;
	for (const struct fs_job *job = d->jobs; job; job = job->next)
		count += job->uid == uid;
	pthread_mutex_unlock(&d->lock);
	return count;
}

int fs_defer_note(struct fs_vault *v, struct fs_job *note)
{
	struct fs_deferred *d = deferred_get(v);
	int rc = 0;

	if (!d)
		return -ENOMEM;
	if (!d->notifies)
		rc = pthread_create(&d->notifier, NULL, notifier_main, d);
	if (!rc) {
		d->notifies = true;
		jobs_append(&d->notes, note);
		pthread_cond_signal(&d->noted);
	}
	pthread_mutex_unlock(&d->lock);
	return -rc;
}

bool fs_defer_stop(struct fs_vault *v)
{
	struct fs_deferred *d;

	pthread_mutex_lock(&start_lock);
	d = steal_ptr(&v->deferred);
	pthread_mutex_unlock(&start_lock);
	if (!d)
		return false;
	/* Those who still have it are under its lock. */
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_broadcast(&d->cond);
	pthread_cond_signal(&d->noted);
	pthread_mutex_unlock(&d->lock);
	for (unsigned k = 0; k < d->threads; k++)
		pthread_join(d->thread[k], NULL);
	if (d->notifies)
		pthread_join(d->notifier, NULL);
	pthread_cond_destroy(&d->cond);
	pthread_cond_destroy(&d->noted);
	pthread_mutex_destroy(&d->lock);
	free(d);
	return true;
}

/* ---- a request that is carried out later ---- */

struct later {
	struct fs_job job; /* first: cast back */
	fuse_req_t req;
	struct fs_handle *handle;
	struct fuse_file_info fi;
	fs_later_op *run;
};

static int later_run(struct fs_job *job, bool last)
{
	struct later *l = (struct later *)job;

	(void)last;
	l->run(l->req, l->handle, &l->fi);
	free(l);
	return 0;
}

void fs_defer_request(struct fs_vault *v, fuse_req_t req, struct fs_handle *h,
		      struct fuse_file_info *fi, fs_later_op *run)
{
	bool here = v->single || fs_defer_here();
	struct later *l = here ? NULL : malloc(sizeof(*l));

	if (l) {
		*l = (struct later){.job = {.run = later_run,
					    .uid = fuse_req_ctx(req)->uid,
					    .timeout_ms = UINT32_MAX},
				    .req = req,
				    .handle = h,
				    .fi = *fi,
				    .run = run};
		if (fs_defer(v, &l->job) == 0)
			return;
		free(l);
	}
	if (here)
		run(req, h, fi);
	else
		fuse_reply_err(req, ENOMEM);
}
