/* Slots, and what one WRITE does to them. */
#include "writer_internal.h"

#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "config.h"

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
		/* Told or not, a later fsync looks at the new file only. */
		if (!jsonl_file_freeze(w->file, &end))
			jsonl_file_unfreeze(w->file);
		jsonl_file_get_state(w->file, &state);
		failed |= state.poisoned;
	}
	/* Sequence numbers are of one file. */
	w->user = (struct jsonl_file_user){.failed = failed};
	w->file = file;
	w->open_size = size;
	w->virtual_end = size;
	pthread_mutex_unlock(&w->lock);
}

int jsonl_writer_errno(int rc)
{
	return rc > 0 ? -jsonl_error_errno(rc) : rc;
}

/* ---- slots ---- */

/* The first ones of a handle weigh nothing: they are bounded with the handles. */
#define WRITER_FREE_SLOTS 2
#define WRITER_MAX_SLOTS  4096

static size_t slot_weight(const struct jsonl_slot *s)
{
	return s->fixed + jsonl_frame_weight(&s->frame, 0) + s->refused.len +
	       jsonl_frame_weight(&s->refused.fragment, 0);
}

/* Tells what the slot weighs now; growth has been asked for before, so this cannot fail
 * for want of memory. */
void jsonl_slot_charge(struct jsonl_writer *w, struct jsonl_slot *s)
{
	size_t weight = slot_weight(s);

	if (weight != s->charged &&
	    w->events->charge(w->ctx, (int64_t)weight - (int64_t)s->charged) == 0)
		s->charged = weight;
}

void jsonl_slot_free(struct jsonl_writer *w, struct jsonl_slot *s)
{
	jsonl_frame_deinit(&s->frame);
	jsonl_refused_clear(&s->refused);
	s->fixed = 0;
	jsonl_slot_charge(w, s);
	free(s);
	w->nslots--;
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
	pthread_mutex_destroy(&w->lock);
	free(w);
}

struct jsonl_slot **jsonl_slot_find(struct jsonl_writer *w, uint64_t owner)
{
	struct jsonl_slot **p = &w->slots;

	while (*p && (*p)->owner != owner)
		p = &(*p)->next;
	return p;
}

/* Has it more to say than that a newline is to be swallowed? */
bool jsonl_slot_has_bytes(const struct jsonl_slot *s)
{
	return s->frame.len || s->refused.active;
}

static struct jsonl_slot *orphan_adopt(struct jsonl_writer *w)
{
	struct jsonl_slot **p = &w->orphans;
	struct jsonl_slot *s;

	while (*p && !jsonl_slot_has_bytes(*p))
		p = &(*p)->next;
	if (!*p)
		p = &w->orphans;
	s = *p;
	if (s) {
		*p = s->next;
		w->norphans--;
	}
	return s;
}

static bool orphans_have_bytes(const struct jsonl_writer *w)
{
	for (const struct jsonl_slot *s = w->orphans; s; s = s->next)
		if (jsonl_slot_has_bytes(s))
			return true;
	return false;
}

/* Takes a slot whose owner has left nothing in it: it gets another at its next write. */
static struct jsonl_slot *slot_take_idle(struct jsonl_writer *w)
{
	for (struct jsonl_slot **p = &w->slots; *p; p = &(*p)->next) {
		struct jsonl_slot *s = *p;

		if (jsonl_slot_has_bytes(s) || s->frame.swallow || s->after_full)
			continue;
		*p = s->next;
		s->adopted = false;
		return s;
	}
	return NULL;
}

/* NULL: too many, or no memory. */
static struct jsonl_slot *slot_new(struct jsonl_writer *w)
{
	bool first = w->nslots < WRITER_FREE_SLOTS;
	size_t fixed = first ? 0 : sizeof(struct jsonl_slot) + JSONL_FRAME_KEEP;
	struct jsonl_slot *s = first ? NULL : slot_take_idle(w);

	if (s)
		return s;
	if (w->nslots >= WRITER_MAX_SLOTS ||
	    (fixed && w->events->charge(w->ctx, (int64_t)fixed)))
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s) {
		if (fixed)
			(void)w->events->charge(w->ctx, -(int64_t)fixed);
		return NULL;
	}
	s->fixed = s->charged = fixed;
	w->nslots++;
	return s;
}

/* The owner's slot; an owner with nothing of its own goes on with the oldest orphan. */
static struct jsonl_slot *slot_get(struct jsonl_writer *w, uint64_t owner, void *caller)
{
	struct jsonl_slot **p = jsonl_slot_find(w, owner);
	struct jsonl_slot *s = *p;
	bool after_full = s && s->after_full;

	if (s && (jsonl_slot_has_bytes(s) || s->frame.swallow || !orphans_have_bytes(w)))
		return s;
	if (s) {
		*p = s->next;
		jsonl_slot_free(w, s);
	}
	s = orphan_adopt(w);
	if (s)
		s->adopted = true;
	else
		s = slot_new(w);
	if (!s)
		return NULL;
	s->told = 0; /* who goes on with it is told of the whole */
	s->after_full = after_full;
	s->owner = owner;
	s->who = w->events->identify(w->ctx, caller);
	s->next = w->slots;
	w->slots = s;
	return s;
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
	/* Its own first write once more is a retry: no end that a seek could have found.
	 */
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
	/* What is stored already counts as written; what goes beyond is an append. */
	r->skip = below;
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
	    .largest = cut->largest,
	    .split = cut->split,
	};
	int rc = 0;

	if (cut->niov)
		rc = jsonl_writer_append(w, cut->iov, cut->niov, cut->records);
	if (!rc && (cut->records || cut->blank))
		w->events->note(w->ctx, &note, s->who);
	return jsonl_writer_errno(rc);
}

/* A process that was killed in mid-record left an orphan that nobody means to finish: who
 * comes next must not lose a record to it. */
static void orphan_give_up(struct jsonl_writer *w, struct jsonl_slot *s, const char *data,
			   size_t len)
{
	const char *nl = memchr(data, '\n', len);

	if (!nl || !s->adopted || !s->frame.len ||
	    !jsonl_refused_starts_afresh(w, s->frame.buf, s->frame.len, data,
					 (size_t)(nl - data)))
		return;
	jsonl_slot_give_up(w, s, JSONL_INCOMPLETE, s->frame.len);
	s->adopted = false;
}

/* Asks for the memory of a fragment that grows by `rest` bytes. */
static int slot_reserve(struct jsonl_writer *w, struct jsonl_slot *s, size_t rest)
{
	size_t weight = slot_weight(s) - jsonl_frame_weight(&s->frame, 0) +
			jsonl_frame_weight(&s->frame, rest);
	int rc = 0;

	if (weight > s->charged)
		rc = w->events->charge(w->ctx, (int64_t)(weight - s->charged));
	if (!rc && weight > s->charged)
		s->charged = weight;
	return rc;
}

static int slot_write(struct jsonl_writer *w, struct jsonl_slot *s,
		      struct jsonl_request *r)
{
	const char *data = r->data + r->skip;
	size_t len = r->len - r->skip;
	const struct jsonl_bad_line *bad;
	struct jsonl_cut cut;
	bool exchanged;
	size_t rest;
	int rc;

	orphan_give_up(w, s, data, len);
	exchanged = jsonl_refused_exchange(s, r);
	rc = jsonl_frame_offer(&s->frame, &w->opt.limits, data, len, &cut);
	if (rc)
		goto out;
	bad = jsonl_refused_first_new(s, r, &cut);
	if (bad && (w->opt.onbad == JSONL_ONBAD_REFUSE ||
		    jsonl_refused_is_unfinished(s, r, &cut))) {
		rc = jsonl_refused_enter(w, s, r, &cut, bad);
		exchanged = false;
		goto out;
	}
	/* Room for the fragment first: after the append there is no way back. */
	rest = len - cut.used;
	if (rest) {
		rc = slot_reserve(w, s, rest);
		if (rc)
			goto out;
	}
	rc = cut_append(w, s, &cut);
	if (!rc) {
		if (bad)
			jsonl_refused_set_aside_each(w, s, r, &cut, bad);
		jsonl_frame_take(&s->frame, &cut, data, len);
		if (cut.used)
			s->adopted = false;
	}
out:
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
	int rc;

	if (!len)
		return 0;
	pthread_mutex_lock(&w->lock);
	locked = &w->lock;
	s = slot_get(w, owner, caller);
	if (!s)
		return -ENOBUFS;
	rc = jsonl_refused_recall(w, s, &r);
	if (rc) {
		s->refused.unheard = false;
		return rc;
	}
	if (!append) {
		rc = place(w, off, !s->frame.len && !r.skip && !r.reported, &r);
		if (rc || r.stored)
			return rc;
	}
	if (r.skip < len)
		rc = slot_write(w, s, &r);
	if (rc) {
		jsonl_slot_charge(w, s);
		return rc;
	}
	jsonl_refused_settle(w, s, &r);
	s->after_full = len >= w->opt.max_request;
	w->virtual_end = off + (off_t)len;
	/* The write itself is taken: a fragment that cannot be committed now stays where
	 * it is, and close reports it. */
	if (w->opt.settle_each && jsonl_slot_settle(w, s))
		s->adopted = false;
	jsonl_slot_charge(w, s);
	return 0;
}
