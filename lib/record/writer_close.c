/* SPDX-License-Identifier: MIT */
/* Pauses and ends a writer: flush, fsync, release. */
#include "record/writer_internal.h"

#include "rules/config.h"

/* Bounds the orphans of a handle; the oldest is set aside when there are more. */
#define WRITER_MAX_ORPHANS 1024

static const struct iovec newline = {.iov_base = "\n", .iov_len = 1};

/* Commits the fragment with the newline that its writer left out. */
int jsonl_fragment_commit(struct jsonl_writer *w, struct jsonl_slot *s)
{
	bool open = jsonl_writer_is_copy(w) && jsonl_frame_may_stay(&s->frame);
	size_t len;
	const char *text = jsonl_frame_text(&s->frame, &len);
	struct iovec iov[2] = {{.iov_base = (char *)text, .iov_len = len}, newline};
	struct jsonl_writer_note note = {
	    .records = 1,
	    .bytes = len + !open,
	    .oversize = len + 1 >= w->opt.limits.pipebuf,
	    .largest = len + 1,
	    .marks = len != s->frame.len,
	    .no_newline = !open,
	    .end_open = open,
	};
	int rc = jsonl_writer_append(w, iov, open ? 1 : 2, 1, open);

	if (rc)
		return jsonl_writer_errno(rc);
	w->events->note(w->ctx, &note, s->who);
	if (s->by)
		s->by->accepted = true;
	jsonl_frame_clear(&s->frame);
	s->frame.swallow = true;
	s->frame.copy = open;
	s->frame.first = false;
	jsonl_slot_charge(w, s);
	return 0;
}

/* Commits white space at the end of a copy, with a newline. */
static void blank_commit(struct jsonl_writer *w, struct jsonl_slot *s, bool *committed)
{
	struct iovec iov[2] = {{.iov_base = s->frame.buf, .iov_len = s->frame.len},
			       newline};
	struct jsonl_writer_note note = {.bytes = s->frame.len + 1, .no_newline = true};

	if (!s->frame.len || (s->frame.swallow && !s->frame.copy) ||
	    !jsonl_writer_is_copy(w) ||
	    jsonl_writer_append(w, iov, 2, 0, false))
		return;
	w->events->note(w->ctx, &note, s->who);
	*committed = true;
}

/* Commits the fragment if it is whole and cannot grow. Returns 0, a verdict that says why
 * it was left (JSONL_OK also for a number or nothing), or -errno. */
int jsonl_slot_settle(struct jsonl_writer *w, struct jsonl_slot *s)
{
	bool can_grow;
	size_t offset;
	int verdict = jsonl_frame_judge(&s->frame, &w->opt.limits, &can_grow, &offset);

	if (s->told)
		return 0;
	if (verdict == JSONL_BLANK || (verdict == JSONL_OK && can_grow))
		return 0;
	if (verdict)
		return verdict;
	return jsonl_fragment_commit(w, s);
}

/* ---- flush, fsync, release ---- */

/* Ends a slot of an owner that leaves: what it has not finished waits for the next
 * one. */
static void slot_orphan(struct jsonl_writer *w, struct jsonl_slot **p)
{
	struct jsonl_slot *s = *p;
	struct jsonl_slot **end = &w->orphans;
	bool keep;

	*p = s->next;
	s->next = NULL;
	/* Only the process that was refused can repeat its request. */
	jsonl_refused_clear(&s->refused);
	jsonl_slot_charge(w, s);
	keep = jsonl_slot_has_bytes(s) || s->frame.swallow;
	s->by->writing = false;
	s->by = NULL;
	while (*end) {
		/* If an older orphan waits for a newline only, that is enough. */
		if (!jsonl_slot_has_bytes(s) && !jsonl_slot_has_bytes(*end))
			keep = false;
		end = &(*end)->next;
	}
	if (!keep) {
		jsonl_slot_free(w, s);
		return;
	}
	*end = s;
	if (++w->norphans <= WRITER_MAX_ORPHANS)
		return;
	s = w->orphans;
	w->orphans = s->next;
	w->norphans--;
	if (s->frame.len)
		jsonl_slot_give_up(w, s, JSONL_INCOMPLETE, s->frame.len);
	jsonl_slot_free(w, s);
}

/* Counts a copy that is closed without its last newline, once. */
static void copy_noted(struct jsonl_writer *w, const struct jsonl_slot *s)
{
	const struct jsonl_writer_note note = {.no_newline = true};

	if (w->noted || !s->frame.copy || !s->frame.swallow || s->frame.len)
		return;
	w->noted = true;
	w->events->note(w->ctx, &note, s->who);
}

int jsonl_writer_flush(struct jsonl_writer *w, uint64_t owner, void *caller)
{
	struct jsonl_slot **p;
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	p = jsonl_slot_find(w, owner);
	if (*p) {
		rc = jsonl_slot_settle(w, *p);
		if (rc < 0 && rc != -EAGAIN)
			(*p)->told = rc;
		if (!rc)
			copy_noted(w, *p);
		if (rc != -EAGAIN)
			slot_orphan(w, p);
	}
	if (rc > 0 && w->opt.onbad == JSONL_ONBAD_QUARANTINE)
		rc = 0;
	if (!rc)
		rc = jsonl_owner_close(w, owner, caller);
	pthread_mutex_unlock(&w->lock);
	return jsonl_writer_errno(rc);
}

int jsonl_writer_settle(struct jsonl_writer *w, void *caller)
{
	struct jsonl_slot *lists[2];
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	lists[0] = w->orphans;
	lists[1] = w->slots;
	for (int i = 0; i < 2 && rc >= 0; i++)
		for (struct jsonl_slot *s = lists[i]; s && rc >= 0; s = s->next)
			rc = jsonl_slot_settle(w, s);
	if (rc >= 0)
		rc = jsonl_owner_fsync(w, caller);
	pthread_mutex_unlock(&w->lock);
	return rc;
}

/* Empties a slot. -EAGAIN: not yet; else it holds nothing any more. */
static int slot_release(struct jsonl_writer *w, struct jsonl_slot *s, bool last,
			bool *committed)
{
	bool can_grow;
	size_t offset;
	int rc = jsonl_frame_judge(&s->frame, &w->opt.limits, &can_grow, &offset);

	if (rc == JSONL_OK) {
		/* If its close has reported that the record is not in the file, the
		 * program may have written it again. */
		rc = s->told ? s->told : jsonl_fragment_commit(w, s);
		if (!rc)
			*committed = true;
		if (!rc || (rc == -EAGAIN && !last))
			return rc;
		offset = 0;
	}
	if (rc != JSONL_BLANK) {
		jsonl_slot_give_up(w, s, rc, offset);
		return 0;
	}
	blank_commit(w, s, committed);
	jsonl_frame_clear(&s->frame);
	return 0;
}

int jsonl_writer_release(struct jsonl_writer *w, bool last, bool *committed)
{
	struct jsonl_slot **lists[2] = {&w->orphans, &w->slots};
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	for (int i = 0; i < 2 && !rc; i++) {
		while (*lists[i]) {
			struct jsonl_slot *s = *lists[i];

			rc = slot_release(w, s, last, committed);
			if (rc)
				break;
			*lists[i] = s->next;
			jsonl_slot_free(w, s);
		}
	}
	pthread_mutex_unlock(&w->lock);
	return rc;
}
