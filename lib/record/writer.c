/* SPDX-License-Identifier: MIT */
/* Takes a WRITE: decides where it lands, cuts it into records, appends those. */
#include "record/writer_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "rules/config.h"

int jsonl_writer_new(struct jsonl_file *file, const struct jsonl_writer_options *opt,
		     const struct jsonl_writer_events *events, void *ctx, off_t size,
		     struct jsonl_writer **writer)
{
	struct jsonl_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->file = file;
	w->opt = *opt;
	w->events = events;
	w->ctx = ctx;
	w->open_size = w->begin = size;
	w->virtual_end = size;
	w->copy = opt->copy;
	pthread_mutex_init(&w->lock, NULL);
	*writer = w;
	return 0;
}

struct jsonl_file_user *jsonl_writer_user(struct jsonl_writer *w)
{
	return &w->user;
}

void jsonl_writer_retarget(struct jsonl_writer *w, struct jsonl_file *file, off_t size)
{
	struct jsonl_file_state state;
	bool failed;
	off_t end;

	pthread_mutex_lock(&w->lock);
	failed = jsonl_file_sync(w->file, &w->user) != 0;
	jsonl_file_get_state(w->file, &state);
	if (state.poisoned && w->user.last > state.durable) {
		/* Even if the failure was reported: a later fsync asks for the new file
		 * only, so verify the old one now. */
		if (!jsonl_file_freeze_as_is(w->file, &end))
			jsonl_file_unfreeze(w->file);
		jsonl_file_get_state(w->file, &state);
		failed |= state.poisoned;
	}
	/* Sequence numbers belong to one file. */
	w->user = (struct jsonl_file_user){
	    .failed = failed, .check = w->user.check, .ctx = w->user.ctx};
	w->file = file;
	w->open_size = size;
	w->virtual_end = size;
	w->copy = false;
	pthread_mutex_unlock(&w->lock);
}

void jsonl_writer_free(struct jsonl_writer *w)
{
	struct jsonl_slot *lists[2];

	if (!w)
		return;
	lists[0] = w->slots;
	lists[1] = w->orphans;
	for (int i = 0; i < 2; i++) {
		while (lists[i]) {
			struct jsonl_slot *next = lists[i]->next;

			jsonl_slot_free(w, lists[i]);
			lists[i] = next;
		}
	}
	jsonl_owner_free_all(w);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

/* ---- where a write may land ---- */

/* Decides for a write without O_APPEND. `plain`: nothing is pending and nothing was
 * refused, so the bytes may be compared with what is stored. 0 or -errno. */
static int place(struct jsonl_writer *w, off_t off, bool plain, struct jsonl_request *r)
{
	off_t visible;
	size_t below;
	int rc;

	if (off == w->virtual_end)
		return 0;
	/* A program that sends its own first write again retries: no seek can have found
	 * that end. */
	if (off >= w->open_size &&
	    !(off == w->open_size && plain &&
	      jsonl_file_equals(w->file, r->data, r->len, off) == 1)) {
		rc = jsonl_file_is_boundary(w->file, off);
		if (rc)
			return rc < 0 ? rc : 0;
	}
	rc = jsonl_file_visible(w->file, &visible);
	if (rc)
		return rc;
	if (off > visible || !plain)
		return -EPERM;
	below = (uint64_t)(visible - off) < r->len ? (size_t)(visible - off) : r->len;
	rc = jsonl_file_equals(w->file, r->data, below, off);
	if (rc <= 0)
		return rc ? rc : -EPERM;
	/* Bytes that are stored already count as written; what goes beyond is an append.
	 */
	r->skip = below;
	r->below = true;
	r->ends = off + (off_t)below == visible && visible &&
		  jsonl_file_equals(w->file, "\n", 1, visible - 1) == 0;
	w->stored_end = off + (off_t)below;
	r->stored = below == r->len;
	return 0;
}

/* ---- write ---- */

static int cut_append(struct jsonl_writer *w, struct jsonl_slot *s,
		      const struct jsonl_cut *cut)
{
	struct jsonl_writer_note note = {
	    .records = cut->records,
	    .bytes = cut->bytes,
	    .oversize = cut->oversize,
	    .blank = cut->blank,
	    .marks = cut->marks,
	    .largest = cut->largest,
	    .split = cut->split,
	};
	int rc = 0;

	if (cut->niov)
		rc = jsonl_writer_append(w, cut->iov, cut->niov, cut->records, false);
	if (!rc && (cut->records || cut->blank || cut->marks))
		w->events->note(w->ctx, &note, s->who);
	if (!rc && cut->records)
		s->by->accepted = true;
	return jsonl_writer_errno(rc);
}

/* Gives up an orphan that a process killed in the middle of a record has left, and that
 * nobody completes: the next writer must not lose a record to it. 0 or -errno. */
static int orphan_give_up(struct jsonl_writer *w, struct jsonl_slot *s, const char *data,
			  size_t len)
{
	const char *nl = memchr(data, '\n', len);
	bool can_grow;
	size_t offset;
	int verdict, rc;

	if (!nl || !s->adopted || !s->frame.len ||
	    !jsonl_line_is_whole(w, data, (size_t)(nl - data)))
		return 0;
	verdict = jsonl_frame_judge(&s->frame, &w->opt.limits, &can_grow, &offset);
	if (verdict == JSONL_BLANK)
		return 0;
	/* A number is complete if nothing continues it. About another whole value a
	 * close has reported that it is not in the file. */
	if (!verdict && can_grow) {
		rc = jsonl_fragment_commit(w, s);
	} else {
		jsonl_slot_give_up(w, s, verdict ? verdict : -EIO, offset);
		rc = 0;
	}
	if (!rc)
		s->adopted = false;
	return rc;
}

/* Appends the good lines of a cut, then sets the bad ones aside. */
static int slot_take(struct jsonl_writer *w, struct jsonl_slot *s,
		     const struct jsonl_request *r, const struct jsonl_cut *cut)
{
	size_t len = r->len - r->skip;
	size_t rest = cut->open ? 0 : len - cut->used;
	/* Room for the fragment first: after the append there is no way back. */
	int rc = rest ? jsonl_slot_reserve(w, s, rest) : 0;

	if (!rc)
		rc = cut_append(w, s, cut);
	if (rc)
		return rc;
	jsonl_aside_settle(w, s, r);
	jsonl_bad_set_aside(w, s, r, cut, "bad-record");
	jsonl_frame_take(&s->frame, cut, r->data + r->skip, len);
	if (cut->used)
		s->adopted = false;
	return 0;
}

static int slot_write(struct jsonl_writer *w, struct jsonl_slot *s,
		      struct jsonl_request *r)
{
	struct jsonl_limits limits = w->opt.limits;
	bool copy = jsonl_writer_is_copy(w);
	const struct jsonl_bad_line *bad;
	struct jsonl_cut cut = {0};
	bool exchanged;
	int rc;

	rc = orphan_give_up(w, s, r->data + r->skip, r->len - r->skip);
	if (rc)
		return rc;
	exchanged = jsonl_refused_exchange(s, r);
	s->frame.copy = copy && s->frame.copy;
	s->frame.first = copy && !w->copied;
	if (copy)
		limits.blank = JSONL_BLANK_KEEP;
	if (r->ends)
		s->frame.copy = s->frame.swallow = true;
	rc = jsonl_frame_offer(&s->frame, &limits, r->data + r->skip,
			       r->len - r->skip, &cut);
	bad = rc ? NULL : jsonl_refused_reason(w, s, r, &cut);
	if (bad) {
		rc = jsonl_refused_enter(w, s, r, &cut, bad);
		exchanged = false;
	} else if (!rc) {
		rc = slot_take(w, s, r, &cut);
	}
	if (rc && exchanged)
		(void)jsonl_refused_exchange(s, r);
	jsonl_cut_deinit(&cut);
	if (rc)
		jsonl_frame_trim(&s->frame);
	return rc;
}

int jsonl_writer_write(struct jsonl_writer *w, uint64_t owner, void *caller, bool append,
		       off_t off, const char *data, size_t len)
{
	struct jsonl_request r = {.data = data, .len = len};
	cleanup_unlock pthread_mutex_t *locked = NULL;
	struct jsonl_slot *s;
	int rc = 0;

	if (!len)
		return 0;
	pthread_mutex_lock(&w->lock);
	locked = &w->lock;
	s = jsonl_slot_get(w, owner, caller);
	if (!s)
		return -ENOBUFS;
	jsonl_refused_recall(w, s, &r);
	if (!append) {
		rc = place(w, off, !s->frame.len && !r.skip && !r.again, &r);
		if (rc || r.stored)
			return rc;
	}
	if (r.skip < len)
		rc = slot_write(w, s, &r);
	else
		jsonl_aside_settle(w, s, &r);
	if (rc) {
		jsonl_slot_charge(w, s);
		return rc;
	}
	jsonl_refused_clear(&s->refused);
	w->virtual_end = off + (off_t)len;
	w->wrote = true;
	/* The fragment is committed early because some programs, as git, look at the
	 * length of a copy before they close it. If that fails it stays, and close
	 * reports it. */
	if ((w->opt.settle_each ||
	     (jsonl_writer_is_copy(w) && jsonl_frame_may_stay(&s->frame))) &&
	    jsonl_slot_settle(w, s))
		s->adopted = false;
	jsonl_slot_charge(w, s);
	return 0;
}

bool jsonl_writer_ends_at(struct jsonl_writer *w, off_t size)
{
	off_t visible;
	bool ends;

	pthread_mutex_lock(&w->lock);
	ends = w->wrote && size == w->virtual_end;
	/* Both in what is stored and in what is written a missing last newline counts as
	 * there. */
	if (!ends && size && size == w->stored_end)
		ends = !jsonl_file_visible(w->file, &visible) && visible == size + 1 &&
		       jsonl_file_equals(w->file, "\n", 1, size) == 1;
	pthread_mutex_unlock(&w->lock);
	return ends;
}
