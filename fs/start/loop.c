/* SPDX-License-Identifier: MIT */
/* Reads and serves requests. One thread at a time has the role of reading them. It
 * serves each request itself, and hands the role over only before it waits
 * (jsonl_waits): then an idle thread takes it. So a short request costs no switch to
 * another thread, and there are as many threads as requests that wait.
 *
 * Where a program writes alone no request comes while the reader waits for the disk, and
 * the hand-over, several system calls and two switches, is for nothing. So the reader
 * keeps the role once few of the last hand-overs were of use, and tries one now and then.
 *
 * Some waits cannot be foreseen: a directory that is not in the cache, a page that was
 * swapped out. The watch thread looks every millisecond whether the reader is still in
 * the request that it had at the last look, and then takes the role away from it.
 *
 * A thread that takes the role first makes sure that there is an idle one. That one is
 * started then, not when it is needed: a new thread inherits the identity of the thread
 * that starts it, which within a request may be the caller's. */
#include "start/loop.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/error.h"
#include "base/fuse.h"
#include "base/waits.h"

#define LOOP_LOOK_NANOS 1000000L
/* After so many looks that found no request the watch sleeps until there is one. */
#define LOOP_QUIET_LOOKS 100
/* The use of hand-overs lately: LOOP_USE_ALWAYS when each was of use; each counts for an
 * eighth. Below LOOP_USE_FEW only one of LOOP_TRY waits hands the role over. */
#define LOOP_USE_ALWAYS 256U
#define LOOP_USE_FEW	64U
#define LOOP_TRY	16U

struct worker {
	pthread_t thread;
	pthread_cond_t called; /* this thread has got the role, or the loop has ended */
	struct worker *next;   /* in loop.idle */
	struct worker *older;  /* in loop.all */
	atomic_bool reads;     /* has the role */
	atomic_bool busy;      /* is within a request */
	atomic_uint requests;  /* requests that it has begun */
	/* Which thread took the role over within the last request of this one, NULL: none
	 * was idle; and how many requests that thread had begun. This one's own while it
	 * has no role. */
	const struct worker *heir;
	unsigned heir_requests;
	unsigned waits;
	struct fuse_buf buf;
};

static struct {
	struct fuse_session *se;
	unsigned most;
	sem_t ended; /* posted by each thread that finds the session ended */
	atomic_bool watch_sleeps;
	atomic_int error; /* the first */
	atomic_uint use;  /* of hand-overs, see LOOP_USE_ALWAYS */

	pthread_mutex_t lock; /* lock of all below; a leaf */
	pthread_cond_t woken; /* wakes the watch */
	/* The thread that came last is called first: its cache is warm. */
	struct worker *idle;
	struct worker *all;
	struct worker *reader; /* NULL: the next one that has time */
	unsigned threads;
	bool stop;
} loop = {.lock = PTHREAD_MUTEX_INITIALIZER,
	  .woken = PTHREAD_COND_INITIALIZER,
	  .use = LOOP_USE_ALWAYS};

static _Thread_local struct worker *self;

/* ---- the role; under loop.lock ---- */

static void role_give(struct worker *w)
{
	loop.reader = w;
	atomic_store(&w->reads, true);
}

/* Takes the role from the reader: for an idle thread or, if there can be no more
 * threads, for the next one that ends its request. */
static void role_pass(void)
{
	struct worker *from = loop.reader, *w = loop.idle;

	from->heir = w;
	from->heir_requests = w ? atomic_load(&w->requests) : 0;
	atomic_store(&from->reads, false);
	loop.reader = NULL;
	if (w) {
		loop.idle = w->next;
		role_give(w);
		pthread_cond_signal(&w->called);
	}
}

/* Notes whether the thread that took the role from this one has had a request since. */
static void role_judge(const struct worker *w)
{
	unsigned use = atomic_load_explicit(&loop.use, memory_order_relaxed);
	bool was_of_use;

	if (!w->heir)
		return;
	was_of_use = atomic_load(&w->heir->requests) != w->heir_requests;
	/* Another thread's note may get lost: it is an estimate. */
	atomic_store_explicit(&loop.use,
			      use - use / 8 + (was_of_use ? LOOP_USE_ALWAYS / 8 : 0),
			      memory_order_relaxed);
}

/* Returns true when the reader should keep the role: the watch takes it away should the
 * wait be long. */
static bool role_is_kept(struct worker *w)
{
	return atomic_load_explicit(&loop.use, memory_order_relaxed) < LOOP_USE_FEW &&
	       ++w->waits % LOOP_TRY != 0;
}

static void reader_waits(void)
{
	if (!self || !atomic_load(&self->reads) || role_is_kept(self))
		return;
	pthread_mutex_lock(&loop.lock);
	if (loop.reader == self)
		role_pass();
	pthread_mutex_unlock(&loop.lock);
}

/* ---- the threads ---- */

static void *worker_run(void *arg);

/* Starts a thread. Under loop.lock. 0 or -errno. */
static int worker_start(void)
{
	struct worker *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	pthread_cond_init(&w->called, NULL);
	r = pthread_create(&w->thread, NULL, worker_run, w);
	if (r) {
		pthread_cond_destroy(&w->called);
		free(w);
		return -r;
	}
	loop.threads++;
	w->older = loop.all;
	loop.all = w;
	return 0;
}

/* Waits for the role. False: the loop has ended. */
static bool worker_await(struct worker *w)
{
	bool stop;

	pthread_mutex_lock(&loop.lock);
	if (!loop.reader) {
		role_give(w);
	} else {
		w->next = loop.idle;
		loop.idle = w;
		while (!atomic_load(&w->reads) && !loop.stop)
			pthread_cond_wait(&w->called, &loop.lock);
	}
	/* If that fails this thread keeps the role while it waits: slower, but safe. */
	if (!loop.idle && loop.threads < loop.most && !loop.stop)
		(void)worker_start();
	stop = loop.stop;
	pthread_mutex_unlock(&loop.lock);
	return !stop;
}

static int worker_receive(struct worker *w)
{
	int state, n;

	/* Threads are cancelled only here. */
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
	n = fuse_session_receive_buf(loop.se, &w->buf);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return n;
}

static void watch_wake(void)
{
	pthread_mutex_lock(&loop.lock);
	atomic_store(&loop.watch_sleeps, false);
	pthread_cond_signal(&loop.woken);
	pthread_mutex_unlock(&loop.lock);
}

/* Reads and does requests as long as it has the role. False: the session has ended. */
static bool worker_serve(struct worker *w)
{
	while (atomic_load(&w->reads)) {
		int none = 0, n = worker_receive(w);

		if (fuse_session_exited(loop.se) || (n <= 0 && n != -EINTR)) {
			if (n < 0 && n != -EINTR)
				atomic_compare_exchange_strong(&loop.error, &none, n);
			fuse_session_exit(loop.se);
			return false;
		}
		if (n < 0)
			continue;
		atomic_fetch_add_explicit(&w->requests, 1, memory_order_relaxed);
		/* The watch does the same the other way round, so one of the two sees the
		 * other: sequentially consistent, both of them. */
		atomic_store(&w->busy, true);
		if (atomic_load(&loop.watch_sleeps))
			watch_wake();
		fuse_session_process_buf(loop.se, &w->buf);
		atomic_store_explicit(&w->busy, false, memory_order_relaxed);
	}
	role_judge(w);
	return true;
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	int state;

	self = w;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	while (worker_await(w) && worker_serve(w))
		;
	sem_post(&loop.ended);
	return NULL;
}

static void *watch_run(void *arg)
{
	static const struct timespec look = {.tv_nsec = LOOP_LOOK_NANOS};
	const struct worker *last = NULL;
	unsigned requests = 0, quiet = 0;

	(void)arg;
	pthread_mutex_lock(&loop.lock);
	while (!loop.stop) {
		const struct worker *w = loop.reader;
		unsigned now = w ? atomic_load(&w->requests) : 0;
		bool same = w && w == last && now == requests;

		if (same && atomic_load(&w->busy))
			role_pass();
		quiet = same ? quiet + 1 : 0;
		last = w;
		requests = now;
		if (quiet > LOOP_QUIET_LOOKS) {
			quiet = 0;
			atomic_store(&loop.watch_sleeps, true);
			/* Once it is to stop, the worker may be gone. */
			while (!loop.stop && !atomic_load(&w->busy) &&
			       atomic_load(&loop.watch_sleeps))
				pthread_cond_wait(&loop.woken, &loop.lock);
			atomic_store(&loop.watch_sleeps, false);
		}
		pthread_mutex_unlock(&loop.lock);
		nanosleep(&look, NULL);
		pthread_mutex_lock(&loop.lock);
	}
	pthread_mutex_unlock(&loop.lock);
	return NULL;
}

/* Ends all threads; each finishes its request first. */
static void workers_end(void)
{
	struct worker *w;

	pthread_mutex_lock(&loop.lock);
	loop.stop = true;
	pthread_cond_signal(&loop.woken);
	for (w = loop.all; w; w = w->older)
		pthread_cond_signal(&w->called);
	w = loop.all;
	pthread_mutex_unlock(&loop.lock);
	/* From here on no thread is started. */
	for (struct worker *each = w; each; each = each->older)
		pthread_cancel(each->thread);
	for (struct worker *each = w; each; each = each->older)
		pthread_join(each->thread, NULL);
	/* Not before all have ended: each may still look at the one that took its role.
	 */
	while (w) {
		struct worker *older = w->older;

		pthread_cond_destroy(&w->called);
		free(w->buf.mem);
		free(w);
		w = older;
	}
}

int fs_loop(struct fuse_session *se, unsigned most)
{
	pthread_t watch;
	int r;

	loop.se = se;
	loop.most = most;
	sem_init(&loop.ended, 0, 0);
	jsonl_waits_tell(reader_waits);
	r = -pthread_create(&watch, NULL, watch_run, NULL);
	if (r)
		return r;
	pthread_mutex_lock(&loop.lock);
	r = worker_start();
	pthread_mutex_unlock(&loop.lock);
	/* A signal that is to end the session interrupts this. */
	while (!r && !fuse_session_exited(se))
		sem_wait(&loop.ended);
	workers_end();
	pthread_join(watch, NULL);
	sem_destroy(&loop.ended);
	return r ? r : atomic_load(&loop.error);
}
