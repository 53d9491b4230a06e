/* SPDX-License-Identifier: MIT */
#include "ctl/check/check_pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define PART	   (32ULL << 20) /* bytes of a file that one thread reads at a time */
#define JOBS_MAX   64
#define QUEUED	   4	/* parts that are being read or wait, per thread */
#define KEPT	   1024 /* findings of a part that are not reported yet */
#define LOOK_EVERY 200	/* milliseconds, for the progress line */

struct file {
	int fd;
	char *shown;
	struct jsonl_limits limits;
	struct jsonl_check_counts sum; /* of the parts that were reported */
	int rc;
};

struct part {
	struct part *next;
	struct check_pool *pool;
	struct file *file; /* freed with its last part */
	struct jsonl_part range;
	struct jsonl_check_counts counts;
	int rc;
	/* Under the pool's lock: */
	bool done;
	struct jsonl_finding *findings; /* KEPT of them; NULL: none */
	size_t count;
};

struct check_pool {
	struct check_report *report;
	atomic_ullong read; /* bytes that the progress line does not have yet */
	unsigned njobs;
	size_t queued; /* parts from head on; for the reporting thread alone */
	pthread_t threads[JOBS_MAX];
	pthread_mutex_t lock;
	pthread_cond_t work; /* a part was added, or it is the end */
	pthread_cond_t room; /* findings were taken */
	pthread_cond_t told; /* a part has findings, or is done */
	/* Under lock: */
	struct part *head, *tail; /* in order; head is reported next */
	struct part *fresh;	  /* the first that no thread has taken */
	bool ending;
};

/* ---- the threads ---- */

static int keep_finding(void *ctx, const struct jsonl_finding *f)
{
	struct part *p = ctx;
	struct check_pool *pool = p->pool;
	cleanup_unlock pthread_mutex_t *lock = &pool->lock;

	pthread_mutex_lock(lock);
	/* Ends when this part comes to the head, whose findings are taken. */
	while (p->count == KEPT)
		pthread_cond_wait(&pool->room, lock);
	if (!p->findings)
		p->findings = malloc(KEPT * sizeof(*p->findings));
	if (!p->findings)
		return -ENOMEM;
	p->findings[p->count++] = *f;
	if (p == pool->head && p->count == 1)
		pthread_cond_signal(&pool->told);
	return 0;
}

static void keep_progress(void *ctx, uint64_t bytes)
{
	atomic_fetch_add(&((struct part *)ctx)->pool->read, bytes);
}

static void check_part(struct part *p)
{
	const struct jsonl_check check = {
	    .finding = keep_finding,
	    .progress = keep_progress,
	    .ctx = p,
	};

	p->rc = jsonl_check_part(&jsonl_io_system, p->file->fd, &p->file->limits, &check,
				 &p->range, &p->counts);
}

static void *serve(void *ctx)
{
	struct check_pool *pool = ctx;
	struct part *p;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (!pool->fresh && !pool->ending)
			pthread_cond_wait(&pool->work, &pool->lock);
		p = pool->fresh;
		if (!p)
			break;
		pool->fresh = p->next;
		pthread_mutex_unlock(&pool->lock);
		check_part(p);
		pthread_mutex_lock(&pool->lock);
		p->done = true;
		if (p == pool->head)
			pthread_cond_signal(&pool->told);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* ---- telling ---- */

static void wait_for_news(struct check_pool *pool)
{
	struct timespec until;

	if (!check_report_wants_total(pool->report)) {
		pthread_cond_wait(&pool->told, &pool->lock);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += LOOK_EVERY * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_nsec -= 1000000000L;
		until.tv_sec++;
	}
	(void)pthread_cond_timedwait(&pool->told, &pool->lock, &until);
}

/* Waits until the part at the head has findings or is done. Returns their number;
 * *findings is to be freed. */
static size_t take_findings(struct check_pool *pool, struct part *p,
			    struct jsonl_finding **findings)
{
	cleanup_unlock pthread_mutex_t *lock = &pool->lock;
	size_t count;

	pthread_mutex_lock(lock);
	if (!p->count && !p->done)
		wait_for_news(pool);
	count = p->count;
	*findings = steal_ptr(&p->findings);
	p->count = 0;
	if (count == KEPT)
		pthread_cond_broadcast(&pool->room);
	return count;
}

static bool is_done(struct check_pool *pool, const struct part *p)
{
	cleanup_unlock pthread_mutex_t *lock = &pool->lock;

	pthread_mutex_lock(lock);
	return p->done && !p->count;
}

static void tell_findings(struct check_pool *pool, struct part *p)
{
	while (!is_done(pool, p)) {
		cleanup_free struct jsonl_finding *findings = NULL;
		size_t count = take_findings(pool, p, &findings);

		for (size_t i = 0; i < count; i++) {
			findings[i].line += p->file->sum.lines;
			check_report_finding(pool->report, &findings[i]);
		}
		check_report_progress(pool->report, atomic_exchange(&pool->read, 0));
	}
}

static void end_file(struct check_pool *pool, struct file *f)
{
	check_report_end(pool->report, &f->sum);
	if (f->rc < 0)
		check_report_error(pool->report, f->shown, f->rc);
	(void)close(f->fd);
	free(f->shown);
	free(f);
}

/* Reports the part at the head, waits until it is checked, and frees it. */
static void tell_head(struct check_pool *pool)
{
	struct part *p = pool->head;
	struct file *f = p->file;

	if (p->range.from == 0)
		check_report_begin(pool->report, f->shown);
	tell_findings(pool, p);
	jsonl_check_add(&f->sum, &p->counts);
	f->rc = f->rc ? f->rc : p->rc;
	if (p->range.to == UINT64_MAX)
		end_file(pool, f);
	pthread_mutex_lock(&pool->lock);
	pool->head = p->next;
	pthread_mutex_unlock(&pool->lock);
	pool->queued--;
	free(p->findings);
	free(p);
}

void check_pool_drain(struct check_pool *pool)
{
	while (pool->queued)
		tell_head(pool);
}

/* ---- adding ---- */

static void add_part(struct check_pool *pool, struct part *p)
{
	while (pool->queued >= (size_t)QUEUED * pool->njobs)
		tell_head(pool);
	pool->queued++;
	pthread_mutex_lock(&pool->lock);
	if (pool->head)
		pool->tail->next = p;
	else
		pool->head = p;
	pool->tail = p;
	if (!pool->fresh)
		pool->fresh = p;
	pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
}

static struct file *new_file(int fd, const char *shown, const struct jsonl_limits *limits)
{
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	*f = (struct file){.fd = fd, .shown = strdup(shown), .limits = *limits};
	if (f->shown)
		return f;
	free(f);
	return NULL;
}

static int add_parts(struct check_pool *pool, struct file *f, uint64_t size)
{
	uint64_t to = 0;

	while (to < UINT64_MAX) {
		struct part *p = calloc(1, sizeof(*p));

		/* The file's end is not reported, nor is it freed: memory has run
		 * out. */
		if (!p)
			return -ENOMEM;
		p->pool = pool;
		p->file = f;
		p->range.from = to;
		to = size - to > PART ? to + PART : UINT64_MAX;
		p->range.to = to;
		p->range.size = size;
		add_part(pool, p);
	}
	return 0;
}

int check_pool_add(struct check_pool *pool, int fd, const char *shown,
		   const struct jsonl_limits *limits)
{
	struct file *f = new_file(fd, shown, limits);
	struct stat st;

	if (!f) {
		(void)close(fd);
		return -ENOMEM;
	}
	if (fstat(fd, &st) < 0)
		st.st_size = 0;
	return add_parts(pool, f, (uint64_t)st.st_size);
}

/* ---- beginning and ending ---- */

static unsigned processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set)
							    : 1;
}

struct check_pool *check_pool_new(struct check_report *report, unsigned jobs)
{
	struct check_pool *pool = calloc(1, sizeof(*pool));

	if (!pool) {
		ctl_error("out of memory");
		return NULL;
	}
	pool->report = report;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->room, NULL);
	pthread_cond_init(&pool->told, NULL);
	jobs = jobs ? jobs : processors();
	jobs = jobs < JOBS_MAX ? jobs : JOBS_MAX;
	while (pool->njobs < jobs &&
	       pthread_create(&pool->threads[pool->njobs], NULL, serve, pool) == 0)
		pool->njobs++;
	if (pool->njobs)
		return pool;
	ctl_error("no thread could be started: %s", jsonl_error_text(-EAGAIN));
	check_pool_free(pool);
	return NULL;
}

void check_pool_free(struct check_pool *pool)
{
	check_pool_drain(pool);
	pthread_mutex_lock(&pool->lock);
	pool->ending = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->njobs; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->told);
	pthread_cond_destroy(&pool->room);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
