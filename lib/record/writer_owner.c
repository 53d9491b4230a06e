/* SPDX-License-Identifier: MIT */
/* Keeps the processes behind one handle, and what must be reported to each about its bad
 * lines. */
#include "record/writer_internal.h"

#include <stdlib.h>

/* Bounds the owners of a handle; the oldest that neither writes nor owes is forgotten
 * first. */
#define WRITER_MAX_OWNERS 256

/* Takes the place of an owner that can be forgotten; NULL: all of them are writing. */
static struct jsonl_owner *owner_reuse(struct jsonl_writer *w)
{
	struct jsonl_owner **idle = NULL, **owes = NULL, *o;

	for (struct jsonl_owner **p = &w->owners; *p; p = &(*p)->next)
		if (!(*p)->writing && (*p)->debt)
			owes = p;
		else if (!(*p)->writing)
			idle = p;
	idle = idle ? idle : owes;
	if (!idle)
		return NULL;
	o = *idle;
	*idle = o->next;
	return o;
}

struct jsonl_owner *jsonl_owner_get(struct jsonl_writer *w, uint64_t owner,
				    uint64_t process)
{
	struct jsonl_owner **p = &w->owners, *o;

	/* In another PID namespace only the file table is known. */
	if (!process)
		process = ~owner;
	while (*p && ((*p)->owner != owner || (*p)->process != process))
		p = &(*p)->next;
	o = *p;
	if (o) {
		*p = o->next;
	} else {
		o = w->nowners < WRITER_MAX_OWNERS ? NULL : owner_reuse(w);
		if (!o) {
			o = malloc(sizeof(*o));
			w->nowners += o != NULL;
		}
		if (!o)
			return NULL;
		*o = (struct jsonl_owner){.owner = owner, .process = process};
	}
	o->next = w->owners;
	w->owners = o;
	return o;
}

void jsonl_owner_free_all(struct jsonl_writer *w)
{
	while (w->owners) {
		struct jsonl_owner *next = w->owners->next;

		free(w->owners);
		w->owners = next;
	}
}

void jsonl_owner_forgive(struct jsonl_writer *w)
{
	for (struct jsonl_owner *o = w->owners; o; o = o->next)
		o->debt = 0;
}

void jsonl_owner_owes(struct jsonl_owner *by, int verdict)
{
	if (!by->debt)
		by->debt = verdict;
	by->synced = false;
}

static bool in_debt(const struct jsonl_writer *w)
{
	for (const struct jsonl_owner *o = w->owners; o; o = o->next)
		if (o->debt)
			return true;
	return false;
}

int jsonl_owner_close(struct jsonl_writer *w, uint64_t owner, void *caller)
{
	uint64_t process;

	if (!in_debt(w))
		return 0;
	process = w->events->process(w->ctx, caller);
	for (const struct jsonl_owner *o = w->owners; o; o = o->next)
		if (o->debt && o->owner == owner &&
		    o->process == (process ? process : ~owner))
			return -jsonl_error_errno(o->debt);
	return 0;
}

int jsonl_owner_fsync(struct jsonl_writer *w, void *caller)
{
	uint64_t process;
	int rc = 0;

	if (!in_debt(w))
		return 0;
	process = w->events->process(w->ctx, caller);
	for (struct jsonl_owner *o = w->owners; o; o = o->next) {
		bool same = o->process == (process ? process : ~o->owner);

		if (!o->debt || o->synced || !same)
			continue;
		o->synced = true;
		rc = -jsonl_error_errno(o->debt);
	}
	return rc;
}
