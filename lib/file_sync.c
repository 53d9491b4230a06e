/* What is durable, who waits for it, and what happens when the disk says no.
 *
 * One thread at a time leads: it runs fdatasync for everybody who appended before it
 * began, answers them, and goes on while others have come to wait. A failed sync is never
 * repeated and believed, because the kernel marks the lost pages clean: the file is
 * poisoned, everybody who had appended is told once, and before anything else is appended
 * the bytes kept in memory are compared with what the disk gives back. */
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "file_internal.h"

/* ---- retained bytes; under sync_lock ---- */

/* Memory for retained bytes, of all files of the process. */
static _Atomic size_t kept_total;

void jsonl_file_kept_free(struct jsonl_file *f)
{
	kept_total -= f->kept_cap;
	free(steal_ptr(&f->kept));
	f->kept_cap = 0;
}

static void kept_drop(struct jsonl_file *f, size_t n)
{
	size_t gone = 0;

	if (n > f->kept_len)
		n = f->kept_len;
	f->kept_head += n;
	f->kept_len -= n;
	f->kept_dropped += n;
	while (n && gone < f->nseg) {
		struct file_segment *s = &f->seg[gone];
		size_t take = n < s->len ? n : s->len;

		s->off += (off_t)take;
		s->len -= take;
		n -= take;
		if (!s->len)
			gone++;
	}
	if (gone) {
		f->nseg -= gone;
		memmove(f->seg, f->seg + gone, f->nseg * sizeof(*f->seg));
	}
	if (!f->kept_len) {
		f->kept_head = 0;
		if (f->kept_cap > FILE_RETAIN_SOFT || kept_total > FILE_RETAIN_TOTAL)
			jsonl_file_kept_free(f);
	}
}

static bool kept_room(struct jsonl_file *f, size_t len)
{
	size_t cap = f->kept_cap ? f->kept_cap : 4096;
	char *grown;

	if (f->kept_head + f->kept_len + len <= f->kept_cap)
		return true;
	if (f->kept_head) {
		memmove(f->kept, f->kept + f->kept_head, f->kept_len);
		f->kept_head = 0;
	}
	while (cap < f->kept_len + len)
		cap *= 2;
	if (cap == f->kept_cap)
		return true;
	grown = realloc(f->kept, cap);
	if (!grown)
		return false;
	kept_total += cap - f->kept_cap;
	f->kept = grown;
	f->kept_cap = cap;
	return true;
}

static bool kept_segment(struct jsonl_file *f, off_t off, size_t len)
{
	struct file_segment *last = f->nseg ? &f->seg[f->nseg - 1] : NULL;

	if (last && last->off + (off_t)last->len == off) {
		last->len += len;
		return true;
	}
	if (f->nseg == f->seg_cap) {
		size_t cap = f->seg_cap ? f->seg_cap * 2 : 4;
		struct file_segment *grown = realloc(f->seg, cap * sizeof(*grown));

		if (!grown)
			return false;
		f->seg = grown;
		f->seg_cap = cap;
	}
	f->seg[f->nseg++] = (struct file_segment){.off = off, .len = len};
	return true;
}

static void kept_add(struct jsonl_file *f, const struct iovec *iov, int niov, off_t off)
{
	size_t len = 0;

	for (int i = 0; i < niov; i++)
		len += iov[i].iov_len;
	/* Without memory the bytes cannot be compared after a failed sync; the writer
	 * is told of the failure all the same. */
	if (!len || !kept_room(f, len) || !kept_segment(f, off, len))
		return;
	for (int i = 0; i < niov; i++) {
		memcpy(f->kept + f->kept_head + f->kept_len, iov[i].iov_base,
		       iov[i].iov_len);
		f->kept_len += iov[i].iov_len;
	}
}

/* ---- failures; under sync_lock ---- */

static void failure_add(struct jsonl_file *f)
{
	uint64_t number = f->nfailures ? f->failures[f->nfailures - 1].number + 1 : 1;

	if (f->nfailures == FILE_FAILURES) {
		/* The two oldest become one: rather told twice than never. */
		f->failures[1].after = f->failures[0].after;
		memmove(f->failures, f->failures + 1,
			(FILE_FAILURES - 1) * sizeof(f->failures[0]));
		f->nfailures--;
	}
	f->failures[f->nfailures++] = (struct file_failure){
	    .number = number, .after = f->durable, .upto = f->appended};
}

/* Has a sync failed over what this user appended, and was it not told yet? */
static bool failure_due(struct jsonl_file *f, struct jsonl_file_user *user)
{
	bool due = user->failed;

	user->failed = false;
	for (unsigned i = 0; i < f->nfailures; i++) {
		const struct file_failure *e = &f->failures[i];

		if (e->number <= user->seen)
			continue;
		if (user->last > e->after && user->first <= e->upto)
			due = true;
		user->seen = e->number;
	}
	return due;
}

void jsonl_file_note_append(struct jsonl_file *f, const struct iovec *iov, int niov,
			    off_t off, struct jsonl_file_user *user)
{
	pthread_mutex_lock(&f->sync_lock);
	f->appended++;
	if (user) {
		if (user->last <= f->durable) {
			user->failed = failure_due(f, user);
			user->first = f->appended;
		}
		user->last = f->appended;
		/* A sync failed while this was being written, and may have taken it
		 * along. */
		if (f->poisoned)
			user->failed = true;
	}
	if (!niov) {
		kept_drop(f, f->kept_len);
		f->changed = f->appended;
	} else if (f->opt.retain) {
		kept_add(f, iov, niov, off);
	}
	pthread_mutex_unlock(&f->sync_lock);
}

void jsonl_file_note_change(struct jsonl_file *f)
{
	pthread_mutex_lock(&f->sync_lock);
	f->changed = ++f->appended;
	pthread_mutex_unlock(&f->sync_lock);
}

bool jsonl_file_is_poisoned(struct jsonl_file *f)
{
	bool poisoned;

	pthread_mutex_lock(&f->sync_lock);
	poisoned = f->poisoned;
	pthread_mutex_unlock(&f->sync_lock);
	return poisoned;
}

void jsonl_file_set_directory(struct jsonl_file *f, int fd, struct jsonl_file_user *user)
{
	int old;

	pthread_mutex_lock(&f->sync_lock);
	old = f->dir_fd;
	f->dir_fd = fd;
	pthread_mutex_unlock(&f->sync_lock);
	/* A new name is something to make durable, even with nothing in the file. */
	jsonl_file_note_append(f, &(struct iovec){0}, 1, 0, user);
	if (old >= 0)
		f->io->close(f->io, old);
}

/* ---- group commit ---- */

/* Those whom the round that has just ended serves; all of them when it failed. */
static struct jsonl_waiter *waiters_take(struct jsonl_file *f, bool failed)
{
	struct jsonl_waiter *taken = NULL, **tail = &taken;
	struct jsonl_waiter **p = &f->waiters;

	while (*p) {
		struct jsonl_waiter *w = *p;

		if (failed || (w->seq <= f->durable && w->round <= f->rounds_ended)) {
			if (failed)
				w->user->seen = f->failures[f->nfailures - 1].number;
			*p = w->next;
			w->next = NULL;
			*tail = w;
			tail = &w->next;
		} else {
			p = &w->next;
		}
	}
	f->waiters_tail = p;
	return taken;
}

static void waiters_answer(struct jsonl_waiter *w, int rc)
{
	while (w) {
		struct jsonl_waiter *next = w->next;

		w->done(w, rc); /* may free it */
		w = next;
	}
}

/* A round: a sync by whoever has the turn (f->syncing). There is never more than one of a
 * file, because the kernel tells of a page that it lost only once: a second sync beside
 * the one that is told would take its own success for that of the page. */
struct round {
	uint64_t target; /* what had been appended when it began */
	uint64_t mark;	 /* and retained */
	int dir_fd;	 /* a directory with a new name, or -1 */
	bool verifies;	 /* its success is proof for a file that is poisoned */
};

static void turn_take(struct jsonl_file *f)
{
	pthread_mutex_lock(&f->sync_lock);
	while (f->syncing)
		pthread_cond_wait(&f->sync_done, &f->sync_lock);
	f->syncing = true;
	pthread_mutex_unlock(&f->sync_lock);
}

/* With the turn. What is appended from here on may not be in it. `dir_fd`: taken over;
 * -1: the one that waits for it. */
static struct round round_begin(struct jsonl_file *f, int dir_fd)
{
	struct round r;

	pthread_mutex_lock(&f->sync_lock);
	r = (struct round){.target = f->appended,
			   .mark = f->kept_dropped + f->kept_len,
			   .dir_fd = dir_fd >= 0 ? dir_fd : steal_fd(&f->dir_fd)};
	f->rounds_begun++;
	pthread_mutex_unlock(&f->sync_lock);
	return r;
}

static int round_run(struct jsonl_file *f, const struct round *r, bool metadata)
{
	/* Set once, before the first append, and closed only by _free. */
	int append_fd = __atomic_load_n(&f->append_fd, __ATOMIC_ACQUIRE);
	int fd = append_fd >= 0 ? append_fd : f->fd;
	int rc = metadata ? f->io->fsync(f->io, fd) : f->io->fdatasync(f->io, fd);

	if (!rc && r->dir_fd >= 0)
		rc = f->io->fsync(f->io, r->dir_fd);
	return rc;
}

/* Gives the turn back and answers those who waited. True: more have come meanwhile, and
 * the caller has the turn again, for jsonl_file_lead. */
static bool round_end(struct jsonl_file *f, struct round *r, int rc)
{
	struct jsonl_waiter *answered;
	bool good, fresh, more;

	pthread_mutex_lock(&f->sync_lock);
	good = !rc && (r->verifies || !f->poisoned);
	fresh = rc && !f->poisoned; /* of an earlier one everybody has been told */
	f->syncs++;
	f->rounds_ended = f->rounds_begun;
	f->poisoned = !good;
	if (good) {
		if (r->target > f->durable)
			f->durable = r->target;
		if (r->mark > f->kept_dropped)
			kept_drop(f, (size_t)(r->mark - f->kept_dropped));
	} else if (f->dir_fd < 0) {
		f->dir_fd = steal_fd(&r->dir_fd);
	}
	if (fresh) {
		f->sync_failures++;
		failure_add(f);
	}
	answered = waiters_take(f, !good);
	/* Answering wakes many, one after the other: whoever comes to wait meanwhile
	 * leads the next round, and need not wait for that. */
	f->syncing = false;
	pthread_cond_broadcast(&f->sync_done);
	pthread_mutex_unlock(&f->sync_lock);
	if (r->dir_fd >= 0)
		f->io->close(f->io, r->dir_fd);
	if (fresh)
		f->events->report(f->ctx, "sync-failed", rc, -1, 0);
	waiters_answer(answered, good ? 0 : -EIO);
	pthread_mutex_lock(&f->sync_lock);
	more = f->waiters && !f->syncing;
	f->syncing |= more;
	pthread_mutex_unlock(&f->sync_lock);
	return more;
}

void jsonl_file_lead(struct jsonl_file *f)
{
	struct round r;

	do
		r = round_begin(f, -1);
	while (round_end(f, &r, round_run(f, &r, false)));
}

int jsonl_file_sync_frozen(struct jsonl_file *f, bool metadata)
{
	struct round r;
	int rc;

	turn_take(f);
	r = round_begin(f, -1);
	rc = round_run(f, &r, metadata);
	if (round_end(f, &r, rc))
		jsonl_file_lead(f);
	return rc;
}

/* A failed sync has been told; an fsync asks whether the disk is well again. 0: it is;
 * 1: as somebody else has found, maybe before this fsync, which was to be served by
 * `round` at the earliest. */
static int wait_verify(struct jsonl_file *f, uint64_t round)
{
	off_t end;
	int rc = jsonl_file_freeze(f, &end);

	if (rc)
		return rc > 0 || rc == -EAGAIN || rc == -EBADF ? -EIO : rc;
	jsonl_file_unfreeze(f);
	pthread_mutex_lock(&f->sync_lock);
	rc = f->rounds_ended < round;
	pthread_mutex_unlock(&f->sync_lock);
	return rc;
}

/* *again: it is to be asked once more. Once it is in the queue w and *rc may be gone. */
static enum jsonl_wait wait_once(struct jsonl_file *f, struct jsonl_file_user *user,
				 bool force, struct jsonl_waiter *w, int *rc, bool *again)
{
	enum jsonl_wait answer = JSONL_WAIT_DONE;
	bool verify = false;
	uint64_t seq, round;

	*rc = 0;
	*again = false;
	pthread_mutex_lock(&f->sync_lock);
	seq = user->last;
	round = f->rounds_begun + 1;
	if (force && user->last > user->asked && !f->poisoned) {
		/* All up to its own last record, and what had changed by now besides. */
		user->asked = user->last;
		seq = f->changed > seq ? f->changed : seq;
		force = false;
	}
	if (failure_due(f, user)) {
		*rc = -EIO;
	} else if (f->poisoned) {
		verify = force;
		user->asked = user->last;
	} else if (force || seq > f->durable) {
		w->next = NULL;
		w->user = user;
		w->seq = seq;
		w->round = force ? round : 0;
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

void jsonl_file_get_state(struct jsonl_file *f, struct jsonl_file_state *state)
{
	pthread_mutex_lock(&f->sync_lock);
	*state = (struct jsonl_file_state){
	    .appended = f->appended,
	    .durable = f->durable,
	    .syncs = f->syncs,
	    .sync_failures = f->sync_failures,
	    .retained = f->kept_len,
	    .poisoned = f->poisoned,
	};
	pthread_mutex_unlock(&f->sync_lock);
}

bool jsonl_file_wants_sync(struct jsonl_file *f, bool soon)
{
	bool wants;

	pthread_mutex_lock(&f->sync_lock);
	wants = !f->syncing && !f->poisoned &&
		((soon && f->appended > f->durable) || f->kept_len > FILE_RETAIN_SOFT ||
		 (f->kept_len && kept_total > FILE_RETAIN_TOTAL));
	if (wants)
		f->syncing = true;
	pthread_mutex_unlock(&f->sync_lock);
	return wants;
}

void jsonl_file_backpressure(struct jsonl_file *f)
{
	bool lead = false;

	pthread_mutex_lock(&f->sync_lock);
	while (!lead && !f->poisoned && f->kept_len > FILE_RETAIN_HARD) {
		if (f->syncing)
			pthread_cond_wait(&f->sync_done, &f->sync_lock);
		else
			lead = f->syncing = true;
	}
	pthread_mutex_unlock(&f->sync_lock);
	if (lead)
		jsonl_file_lead(f);
}

/* ---- after a failed sync; under file->lock and flock ---- */

/* Does the disk, not the page cache, hold the retained bytes? 1 yes, 0 no, -errno. */
static int disk_has_kept(struct jsonl_file *f)
{
	const char *bytes = f->kept + f->kept_head;
	int rc = 1;

	for (size_t i = 0; rc == 1 && i < f->nseg; i++) {
		off_t page = f->seg[i].off & ~(off_t)(FILE_PAGE - 1);

		rc = f->io->drop_cache(f->io, f->fd, page, 0);
		if (!rc)
			rc = jsonl_file_equals(f, bytes, f->seg[i].len, f->seg[i].off);
		bytes += f->seg[i].len;
	}
	return rc;
}

/* Cuts the unsure bytes off, if nothing that is not ours stands behind or between them.
 */
static int kept_cut_back(struct jsonl_file *f)
{
	struct stat st;
	int rc = f->io->fstat(f->io, f->append_fd, &st);

	if (rc)
		return rc;
	if (f->nseg != 1 || st.st_size > f->seg[0].off + (off_t)f->seg[0].len ||
	    st.st_size < f->seg[0].off)
		return -EBUSY;
	jsonl_file_view_hold(f, f->seg[0].off);
	rc = f->io->ftruncate(f->io, f->append_fd, f->seg[0].off);
	if (!rc)
		f->end = f->seg[0].off;
	return rc;
}

static int kept_rewrite(struct jsonl_file *f)
{
	struct iovec iov = {.iov_base = f->kept + f->kept_head, .iov_len = f->kept_len};
	size_t written;
	int rc = jsonl_io_write_full(f->io, f->append_fd, &iov, 1, &written);

	if (!rc)
		rc = f->io->fdatasync(f->io, f->append_fd);
	if (!rc)
		rc = disk_has_kept(f);
	if (rc < 0)
		return rc;
	return rc == 1 ? 0 : -EIO;
}

/* The disk does not hold what was appended: write it once more and look again; else leave
 * the file with what is durable, and the rest in the quarantine. */
static int kept_restore(struct jsonl_file *f)
{
	struct iovec iov = {.iov_base = f->kept + f->kept_head, .iov_len = f->kept_len};
	int rc = kept_cut_back(f);

	if (rc == -EBUSY) {
		/* Others have written behind, or cut: only save what is unsure. */
		rc = f->events->set_aside(f->ctx, "sync-failed", -EIO, &iov, 1,
					  f->seg[0].off, 0);
		f->end_known = false;
		return rc;
	}
	if (rc)
		return rc;
	if (!kept_rewrite(f)) {
		f->end = f->seg[0].off + (off_t)f->seg[0].len;
		f->events->report(f->ctx, "sync-rewritten", 0, f->seg[0].off,
				  f->kept_len);
		return 0;
	}
	rc = f->events->set_aside(f->ctx, "sync-failed", -EIO, &iov, 1, f->seg[0].off, 0);
	if (!rc)
		rc = kept_cut_back(f);
	if (!rc)
		rc = f->io->fsync(f->io, f->append_fd);
	if (!rc)
		f->events->report(f->ctx, "sync-cut-back", -EIO, f->seg[0].off,
				  f->kept_len);
	return rc;
}

static int verify_all(struct jsonl_file *f, const struct round *r)
{
	/* What is still dirty is written now; success alone proves nothing of what the
	 * kernel has given up, hence the look at the disk. */
	int rc = round_run(f, r, false);

	if (rc)
		return rc;
	if (!f->nseg) {
		f->end_known = false;
		return f->io->drop_cache(f->io, f->fd, 0, 0);
	}
	rc = disk_has_kept(f);
	if (rc < 0)
		return rc;
	return rc == 1 ? 0 : kept_restore(f);
}

int jsonl_file_verify(struct jsonl_file *f)
{
	struct round r;
	int rc;

	/* Nobody else syncs meanwhile, so the retained bytes stand still without the
	 * lock. */
	turn_take(f);
	r = round_begin(f, -1);
	r.verifies = true;
	rc = verify_all(f, &r);
	if (round_end(f, &r, rc))
		jsonl_file_lead(f);
	if (rc)
		return -EIO;
	jsonl_file_view_release(f);
	f->events->report(f->ctx, "sync-verified", 0, f->end, 0);
	return 0;
}

/* ---- another file in its place; under file->lock and flock ---- */

int jsonl_file_switch(struct jsonl_file *f, int fd, int append_fd, off_t end, int dir_fd)
{
	struct round r;
	int rc;

	/* A sync of the old file must not be taken for one of the new. */
	turn_take(f);
	r = round_begin(f, dir_fd);
	jsonl_file_view_hold(f, end);
	rc = f->io->refer(f->io, fd, f->fd);
	if (!rc)
		rc = f->io->refer(f->io, append_fd, f->append_fd);
	f->io->close(f->io, fd);
	f->io->close(f->io, append_fd);
	f->end = end;
	f->end_known = true;
	f->undo_from = -1;
	f->quiet_size = -1;
	f->tail_seen.size = -1;
	jsonl_file_view_release(f);
	if (!rc)
		rc = f->io->fsync(f->io, dir_fd);
	/* Everybody gets his answer: what was appended is in the new file, durably, or
	 * the new file may be gone after a power cut. */
	pthread_mutex_lock(&f->sync_lock);
	kept_drop(f, f->kept_len); /* of the old file */
	pthread_mutex_unlock(&f->sync_lock);
	if (round_end(f, &r, rc))
		jsonl_file_lead(f);
	return rc;
}
