/* SPDX-License-Identifier: MIT */
/* Makes appended bytes durable, and tells their writers when that failed.
 *
 * One thread at a time leads: it runs fdatasync for everybody who appended before it
 * began, answers them, and syncs again while others have come to wait. A sync that failed
 * is never repeated and believed, because the kernel marks the lost pages clean. Instead
 * the file is poisoned: everybody who had appended is told once, and before the next
 * append the bytes kept in memory are compared with what the disk gives back. */
#include "file/file_internal.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/stamp.h"

/* ---- failures; under sync_lock ---- */

static void failure_add(struct jsonl_file *f)
{
	uint64_t number = f->nfailures ? f->failures[f->nfailures - 1].number + 1 : 1;

	if (f->nfailures == FILE_FAILURES) {
		/* Joins the two oldest: a user may get a failure reported twice, but
		 * never misses one. */
		f->failures[1].after = f->failures[0].after;
		memmove(f->failures, f->failures + 1,
			(FILE_FAILURES - 1) * sizeof(f->failures[0]));
		f->nfailures--;
	}
	f->failures[f->nfailures++] = (struct file_failure){
	    .number = number, .after = f->durable, .upto = f->appended};
}

bool jsonl_file_failure_due(struct jsonl_file *f, struct jsonl_file_user *user)
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
			user->failed = jsonl_file_failure_due(f, user);
			user->first = f->appended;
		}
		user->last = f->appended;
		/* A sync failed while this was being written, which may be lost, too. */
		if (f->poisoned)
			user->failed = true;
	}
	if (!niov) {
		jsonl_file_kept_drop(f, f->kept_len);
		f->changed = f->appended;
	} else if (f->opt.retain) {
		jsonl_file_kept_add(f, iov, niov, off);
	}
	pthread_mutex_unlock(&f->sync_lock);
}

void jsonl_file_note_change(struct jsonl_file *f)
{
	pthread_mutex_lock(&f->sync_lock);
	f->changed = ++f->appended;
	f->attributes = true;
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
	/* Counts as an append, so that the next sync has something to do even if the file
	 * is empty. */
	jsonl_file_note_append(f, &(struct iovec){0}, 1, 0, user);
	if (old >= 0)
		f->io->close(f->io, old);
}

/* ---- group commit ---- */

/* Takes those out of the queue whom the round that has just ended serves; all of them if
 * it failed. Under sync_lock. */
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

void jsonl_file_turn_take(struct jsonl_file *f)
{
	pthread_mutex_lock(&f->sync_lock);
	while (f->syncing)
		pthread_cond_wait(&f->sync_done, &f->sync_lock);
	f->syncing = true;
	pthread_mutex_unlock(&f->sync_lock);
}

struct file_round jsonl_file_round_begin(struct jsonl_file *f, int dir_fd, bool metadata)
{
	struct file_round r;

	pthread_mutex_lock(&f->sync_lock);
	metadata |= f->full;
	if (metadata)
		f->full = f->attributes = false;
	r = (struct file_round){.target = f->appended,
				.mark = f->kept_dropped + f->kept_len,
				.dir_fd = dir_fd >= 0 ? dir_fd : steal_fd(&f->dir_fd),
				.metadata = metadata};
	f->rounds_begun++;
	pthread_mutex_unlock(&f->sync_lock);
	return r;
}

/* Returns true when the lock may have been given to another host before the sync was
 * done: what it has made durable need not be where this host believes it, or be there at
 * all. */
static bool comes_late(struct jsonl_file *f)
{
	int64_t since = f->locked_since;

	return since && jsonl_now_ms() - since >=
			    (f->opt.late_ms ? f->opt.late_ms : JSONL_LATE_MS);
}

int jsonl_file_round_run(struct jsonl_file *f, const struct file_round *r)
{
	/* Read without file->lock: it is set once and closed only by jsonl_file_free. */
	int append_fd = __atomic_load_n(&f->append_fd, __ATOMIC_ACQUIRE);
	int fd = append_fd >= 0 ? append_fd : f->fd;
	int rc = r->metadata ? f->io->fsync(f->io, fd) : f->io->fdatasync(f->io, fd);

	if (!rc && r->dir_fd >= 0)
		rc = f->io->fsync(f->io, r->dir_fd);
	return !rc && comes_late(f) ? -ETIMEDOUT : rc;
}

bool jsonl_file_round_end(struct jsonl_file *f, struct file_round *r, int rc)
{
	struct jsonl_waiter *answered;
	bool good, fresh, more;

	pthread_mutex_lock(&f->sync_lock);
	good = !rc && (r->verifies || !f->poisoned);
	fresh = rc && !f->poisoned; /* else everybody knows already */
	f->syncs++;
	f->rounds_ended = f->rounds_begun;
	f->poisoned = !good;
	if (good) {
		if (r->target > f->durable)
			f->durable = r->target;
		if (r->mark > f->kept_dropped)
			jsonl_file_kept_drop(f, (size_t)(r->mark - f->kept_dropped));
	} else if (f->dir_fd < 0) {
		f->dir_fd = steal_fd(&r->dir_fd);
	}
	f->attributes |= rc && r->metadata;
	if (fresh)
		failure_add(f);
	answered = waiters_take(f, !good);
	/* Answering many takes a while. The turn is given back first, so that whoever
	 * comes meanwhile can lead the next round at once. */
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

void jsonl_file_lead_rounds(struct jsonl_file *f)
{
	struct file_round r;

	do
		r = jsonl_file_round_begin(f, -1, false);
	while (jsonl_file_round_end(f, &r, jsonl_file_round_run(f, &r)));
}

int jsonl_file_sync_frozen(struct jsonl_file *f, bool metadata)
{
	struct file_round r;
	int rc;

	jsonl_file_turn_take(f);
	r = jsonl_file_round_begin(f, -1, metadata);
	rc = jsonl_file_round_run(f, &r);
	if (jsonl_file_round_end(f, &r, rc))
		jsonl_file_lead_rounds(f);
	return rc;
}

void jsonl_file_get_state(struct jsonl_file *f, struct jsonl_file_state *state)
{
	pthread_mutex_lock(&f->sync_lock);
	*state = (struct jsonl_file_state){
	    .appended = f->appended,
	    .durable = f->durable,
	    .syncs = f->syncs,
	    .poisoned = f->poisoned,
	};
	pthread_mutex_unlock(&f->sync_lock);
}

bool jsonl_file_wants_sync(struct jsonl_file *f, bool soon)
{
	bool wants;

	pthread_mutex_lock(&f->sync_lock);
	wants = !f->syncing && !f->poisoned &&
		((soon && f->appended > f->durable) || jsonl_file_kept_much(f));
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
		jsonl_file_lead_rounds(f);
}

/* ---- another file in its place; under file->lock and flock ---- */

int jsonl_file_switch_finish(struct jsonl_file *f)
{
	/* The descriptor that appends comes first: until the other is exchanged, too,
	 * readers see what they have seen. */
	int rc = f->io->refer(f->io, f->next.append_fd, f->append_fd);

	if (rc)
		return rc;
	jsonl_file_view_hold(f, f->next.end);
	rc = f->io->refer(f->io, f->next.fd, f->fd);
	if (!rc) {
		f->io->close(f->io, steal_fd(&f->next.fd));
		f->io->close(f->io, steal_fd(&f->next.append_fd));
		f->end = f->next.end;
		f->end_known = true;
		f->append_lost = false;
		f->tenure.fresh = true;
		jsonl_file_end_look(f);
		f->undo_from = -1;
		f->quiet_size = -1;
		f->tail_seen.size = -1;
	}
	jsonl_file_view_release(f);
	return rc;
}

int jsonl_file_switch(struct jsonl_file *f, int fd, int append_fd, off_t end, int dir_fd)
{
	struct file_round r;
	int rc;

	/* A sync of the old file must not be taken for one of the new. */
	jsonl_file_turn_take(f);
	r = jsonl_file_round_begin(f, dir_fd, false);
	if (f->opt.remote)
		jsonl_io_direct(fd);
	f->next.fd = fd;
	f->next.append_fd = append_fd;
	f->next.end = end;
	rc = jsonl_file_switch_finish(f);
	if (!rc)
		rc = f->io->fsync(f->io, dir_fd);
	/* Success answers everybody: their bytes are in the new file and durable. After a
	 * failure the new file may be gone after a power cut, so everybody is told. */
	pthread_mutex_lock(&f->sync_lock);
	jsonl_file_kept_drop(f, f->kept_len); /* of the old file */
	pthread_mutex_unlock(&f->sync_lock);
	if (jsonl_file_round_end(f, &r, rc))
		jsonl_file_lead_rounds(f);
	return rc;
}
