/* SPDX-License-Identifier: MIT */
/* Waits until appended bytes are durable: joins the group that the next sync serves. */
#include "file/file_internal.h"

/* Has the end verified after a failed sync, for an fsync that was to be served by
 * `round` at the earliest. Returns 0: the file is not poisoned any more; 1: nor is it,
 * but the fsync must ask once more, since the verification may have begun before it or
 * attributes have changed, which a verification does not sync; -errno. */
static int wait_verify(struct jsonl_file *f, uint64_t round)
{
	off_t end;
	int rc = jsonl_file_freeze_as_is(f, &end);

	if (rc)
		return rc > 0 || rc == -EAGAIN || rc == -EBADF ? -EIO : rc;
	jsonl_file_unfreeze(f);
	pthread_mutex_lock(&f->sync_lock);
	rc = f->rounds_ended < round || f->attributes;
	pthread_mutex_unlock(&f->sync_lock);
	return rc;
}

/* Does what jsonl_file_wait does, once; *again: the caller must call it once more. When
 * it answers QUEUED, `w` and `rc` may be gone already. */
static enum jsonl_wait wait_once(struct jsonl_file *f, struct jsonl_file_user *user,
				 bool force, struct jsonl_waiter *w, int *rc, bool *again)
{
	enum jsonl_wait answer = JSONL_WAIT_DONE;
	bool verify = false, full = force;
	uint64_t seq, round;

	*rc = 0;
	*again = false;
	pthread_mutex_lock(&f->sync_lock);
	seq = user->last;
	round = f->rounds_begun + 1;
	full &= f->attributes;
	if (force && user->last > user->asked && !f->poisoned) {
		user->asked = user->last;
		/* A sync for somebody else may cover the user's appends and everything
		 * else that had changed by now. */
		seq = f->changed > seq ? f->changed : seq;
		force = full;
	}
	if (jsonl_file_failure_due(f, user)) {
		*rc = -EIO;
	} else if (f->poisoned) {
		verify = force;
		user->asked = user->last;
	} else if (force || seq > f->durable) {
		w->next = NULL;
		w->user = user;
		w->seq = seq;
		w->round = force ? round : 0;
		f->full |= full;
		*f->waiters_tail = w;
		f->waiters_tail = &w->next;
		answer = f->syncing ? JSONL_WAIT_QUEUED : JSONL_WAIT_LEAD;
		f->syncing = true;
	}
	pthread_mutex_unlock(&f->sync_lock);
	if (verify) {
		*rc = wait_verify(f, round);
		*again = *rc > 0;
	}
	return answer;
}

enum jsonl_wait jsonl_file_wait(struct jsonl_file *f, struct jsonl_file_user *user,
				bool force, struct jsonl_waiter *w, int *rc)
{
	enum jsonl_wait answer;
	bool again;

	do
		answer = wait_once(f, user, force, w, rc, &again);
	while (again);
	return answer;
}

struct blocking_waiter {
	struct jsonl_waiter waiter; /* first: cast back */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool answered;
	int rc;
};

static void blocking_done(struct jsonl_waiter *w, int rc)
{
	struct blocking_waiter *b = (struct blocking_waiter *)w;

	pthread_mutex_lock(&b->lock);
	b->answered = true;
	b->rc = rc;
	pthread_cond_signal(&b->cond);
	pthread_mutex_unlock(&b->lock);
}

int jsonl_file_sync(struct jsonl_file *f, struct jsonl_file_user *user)
{
	struct blocking_waiter b = {.waiter.done = blocking_done,
				    .lock = PTHREAD_MUTEX_INITIALIZER,
				    .cond = PTHREAD_COND_INITIALIZER};
	enum jsonl_wait how = jsonl_file_wait(f, user, false, &b.waiter, &b.rc);

	if (how == JSONL_WAIT_DONE)
		return b.rc;
	if (how == JSONL_WAIT_LEAD)
		jsonl_file_lead(f);
	pthread_mutex_lock(&b.lock);
	while (!b.answered)
		pthread_cond_wait(&b.cond, &b.lock);
	pthread_mutex_unlock(&b.lock);
	return b.rc;
}
