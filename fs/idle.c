/* Programs that open, append and close do so again soon, and opening and closing the
 * backing file costs as much as a request of the kernel: the last close leaves it open.
 * So many files, for so long, and only while the kernel knows the file: what was deleted
 * outside the mount must not keep its room on the disk. */
#include <stdlib.h>
#include <sys/resource.h>

#include "shared.h"

#define IDLE_FILES_MAX 64
#define IDLE_PART      64 /* one of so many descriptors that may be open; a file takes two */
#define IDLE_MS	       2000

struct fs_idle {
	pthread_mutex_t lock;		/* a leaf, within inode->lock; under it: */
	struct fs_shared *first, **end; /* oldest first */
	unsigned count;
	unsigned max; /* constant */
	bool watched; /* a job is under way */
};

int fs_idle_init(struct fs_mount *m)
{
	struct fs_idle *l = calloc(1, sizeof(*l));
	struct rlimit limit = {.rlim_cur = 1024};

	if (!l)
		return -ENOMEM;
	getrlimit(RLIMIT_NOFILE, &limit);
	l->max = limit.rlim_cur / IDLE_PART < IDLE_FILES_MAX
		     ? (unsigned)(limit.rlim_cur / IDLE_PART)
		     : IDLE_FILES_MAX;
	pthread_mutex_init(&l->lock, NULL);
	l->end = &l->first;
	m->idle = l;
	return 0;
}

void fs_idle_deinit(struct fs_mount *m)
{
	if (!m->idle)
		return;
	pthread_mutex_destroy(&m->idle->lock);
	free(steal_ptr(&m->idle));
}

/* Under lock. Nobody frees s meanwhile: the list is a user of it. */
static struct fs_shared *idle_remove(struct fs_idle *l, struct fs_shared *s)
{
	*s->idle_pprev = s->idle_next;
	*(s->idle_next ? &s->idle_next->idle_pprev : &l->end) = s->idle_pprev;
	l->count--;
	s->idle = false;
	return s;
}

struct fs_shared *fs_idle_add(struct fs_mount *m, struct fs_shared *s)
{
	struct fs_idle *l = m->idle;
	struct fs_shared *victim = NULL;

	pthread_mutex_lock(&l->lock);
	s->idle = true;
	s->idle_since = fs_now_ms();
	s->idle_next = NULL;
	s->idle_pprev = l->end;
	*l->end = s;
	l->end = &s->idle_next;
	if (++l->count > l->max)
		victim = idle_remove(l, l->first);
	pthread_mutex_unlock(&l->lock);
	return victim;
}

/* The oldest that is of this inode (NULL: of any) and was added before `before`. */
static struct fs_shared *idle_take(struct fs_idle *l, const struct fs_inode *i,
				   int64_t before)
{
	struct fs_shared *s;

	pthread_mutex_lock(&l->lock);
	s = l->first;
	while (s && i && s->inode != i)
		s = s->idle_next;
	if (s)
		s = s->idle_since < before ? idle_remove(l, s) : NULL;
	pthread_mutex_unlock(&l->lock);
	return s;
}

void fs_idle_drop(struct fs_mount *m, struct fs_inode *i)
{
	struct fs_shared *s;

	while (m->idle && (s = idle_take(m->idle, i, INT64_MAX)))
		fs_shared_close(m, s);
}

/* Closes what has been idle for long enough; comes again for the rest. */
static int idle_run(struct fs_mount *m, struct fs_job *job, bool last)
{
	struct fs_idle *l = m->idle;
	struct fs_shared *s;
	int rc = -EAGAIN;

	while ((s = idle_take(l, NULL, fs_now_ms() - IDLE_MS)))
		fs_shared_close(m, s);
	pthread_mutex_lock(&l->lock);
	if (last || !l->first) {
		l->watched = false;
		rc = 0;
	} else {
		job->not_before = l->first->idle_since + IDLE_MS + 1;
	}
	pthread_mutex_unlock(&l->lock);
	if (!rc)
		free(job);
	return rc;
}

void fs_idle_watch(struct fs_mount *m)
{
	struct fs_idle *l = m->idle;
	struct fs_job *job;
	bool needed;

	pthread_mutex_lock(&l->lock);
	needed = l->first && !l->watched;
	l->watched |= needed;
	pthread_mutex_unlock(&l->lock);
	if (!needed)
		return;
	job = calloc(1, sizeof(*job));
	if (job) {
		job->run = idle_run;
		job->timeout_ms = UINT32_MAX;
		job->not_before = fs_now_ms() + IDLE_MS;
		if (fs_defer(m, job) == 0)
			return;
		free(job);
	}
	/* Without a watch nothing is kept. */
	pthread_mutex_lock(&l->lock);
	l->watched = false;
	pthread_mutex_unlock(&l->lock);
	fs_idle_drop(m, NULL);
}
