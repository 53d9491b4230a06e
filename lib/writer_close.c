/* How a writer pauses and ends: flush, fsync, release. */
#include "writer_internal.h"

/* Orphans of one handle: the oldest is set aside when there are more. */
#define WRITER_MAX_ORPHANS 1024

static const struct iovec newline = {.iov_base = "\n", .iov_len = 1};

/* Commits the fragment with the newline that its writer left out. */
static int fragment_commit(struct jsonl_writer *w, struct jsonl_slot *s)
{
	struct iovec iov[2] = {{.iov_base = s->frame.buf, .iov_len = s->frame.len},
			       newline};
	size_t len = s->frame.len + 1;
	struct jsonl_writer_note note = {
	    .records = 1,
	    .bytes = len,
	    .oversize = len >= w->opt.limits.pipebuf,
	    .largest = len,
	    .no_newline = true,
	};
	int rc = jsonl_writer_append(w, iov, 2, 1);

	if (rc)
		return jsonl_writer_errno(rc);
	w->events->note(w->ctx, &note, s->who);
	jsonl_frame_clear(&s->frame);
	s->frame.swallow = true;
	jsonl_slot_charge(w, s);
	return 0;
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
	return fragment_commit(w, s);
}

/* ---- flush, fsync, release ---- */

/* The owner leaves: what it has not finished waits for the next one. */
static void slot_orphan(struct jsonl_writer *w, struct jsonl_slot **p)
{
	struct jsonl_slot *s = *p;
	struct jsonl_slot **end = &w->orphans;
	bool keep = jsonl_slot_has_bytes(s) || s->frame.swallow;

	*p = s->next;
	s->next = NULL;
	s->after_full = false;
	while (*end) {
		/* One newline to swallow is enough to remember. */
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

int jsonl_writer_flush(struct jsonl_writer *w, uint64_t owner)
{
	struct jsonl_slot **p;
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	p = jsonl_slot_find(w, owner);
	if (*p) {
		rc = jsonl_slot_settle(w, *p);
		if (rc < 0 && rc != -EAGAIN)
			(*p)->told = rc;
		if (rc != -EAGAIN)
			slot_orphan(w, p);
	}
	pthread_mutex_unlock(&w->lock);
	return jsonl_writer_errno(rc);
}

int jsonl_writer_settle(struct jsonl_writer *w)
{
	struct jsonl_slot *lists[2];
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	lists[0] = w->orphans;
	lists[1] = w->slots;
	for (int i = 0; i < 2 && rc >= 0; i++)
		for (struct jsonl_slot *s = lists[i]; s && rc >= 0; s = s->next)
			rc = jsonl_slot_settle(w, s);
	pthread_mutex_unlock(&w->lock);
	return rc < 0 ? rc : 0;
}

/* -EAGAIN: not yet. Else the slot holds nothing any more. */
static int slot_release(struct jsonl_writer *w, struct jsonl_slot *s, bool last,
			bool *committed)
{
	bool can_grow;
	size_t offset;
	int rc = jsonl_frame_judge(&s->frame, &w->opt.limits, &can_grow, &offset);

	if (rc == JSONL_OK) {
		/* Who has been told that it is not there may have written it once more. */
		rc = s->told ? s->told : fragment_commit(w, s);
		if (!rc)
			*committed = true;
		if (!rc || (rc == -EAGAIN && !last))
			return rc;
		offset = 0;
	}
	if (rc == JSONL_BLANK)
		jsonl_frame_clear(&s->frame);
	else
		jsonl_slot_give_up(w, s, rc, offset);
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
