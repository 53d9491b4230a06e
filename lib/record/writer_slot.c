/* SPDX-License-Identifier: MIT */
/* Keeps slots: an owner's unfinished record, and the memory that it is charged for. */
#include "record/writer_internal.h"

#include <stdlib.h>

/* The first slots of a handle are not charged: the bound on handles limits them. */
#define WRITER_FREE_SLOTS 2
#define WRITER_MAX_SLOTS  4096

static size_t slot_weight(const struct jsonl_slot *s)
{
	return s->fixed + jsonl_frame_weight(&s->frame, 0) +
	       jsonl_frame_weight(&s->refused.fragment, 0);
}

/* Charges the slot's present memory. Growth has been charged before, so this cannot
 * fail. */
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
	if (s->by)
		s->by->writing = false;
	s->fixed = 0;
	jsonl_slot_charge(w, s);
	free(s);
	w->nslots--;
}

struct jsonl_slot **jsonl_slot_find(struct jsonl_writer *w, uint64_t owner)
{
	struct jsonl_slot **p = &w->slots;

	while (*p && (*p)->owner != owner)
		p = &(*p)->next;
	return p;
}

/* Returns true when the slot has more than a newline to swallow. */
bool jsonl_slot_has_bytes(const struct jsonl_slot *s)
{
	return s->frame.len || s->refused.active || s->aside.active;
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

		if (jsonl_slot_has_bytes(s) || s->frame.swallow)
			continue;
		*p = s->next;
		s->by->writing = false;
		s->adopted = false;
		return s;
	}
	return NULL;
}

/* Makes a slot. NULL: too many, or no memory. */
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

/* Returns the owner's slot; an owner without one continues the oldest orphan. */
struct jsonl_slot *jsonl_slot_get(struct jsonl_writer *w, uint64_t owner, void *caller)
{
	struct jsonl_slot **p = jsonl_slot_find(w, owner);
	struct jsonl_slot *s = *p;
	struct jsonl_owner *by;
	void *who;

	if (s && (jsonl_slot_has_bytes(s) || s->frame.swallow || !orphans_have_bytes(w)))
		return s;
	if (s) {
		*p = s->next;
		jsonl_slot_free(w, s);
	}
	who = w->events->identify(w->ctx, caller);
	by = jsonl_owner_get(w, owner, w->events->process(w->ctx, caller));
	if (!by)
		return NULL;
	s = orphan_adopt(w);
	if (s)
		s->adopted = true;
	else
		s = slot_new(w);
	if (!s)
		return NULL;
	s->told = 0; /* whoever continues it gets the result for the whole */
	s->owner = owner;
	s->by = by;
	by->writing = true;
	s->who = who;
	s->next = w->slots;
	w->slots = s;
	return s;
}

/* Charges the memory of a fragment that grows by `rest` bytes. */
int jsonl_slot_reserve(struct jsonl_writer *w, struct jsonl_slot *s, size_t rest)
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
