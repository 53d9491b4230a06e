/* SPDX-License-Identifier: MIT */
/* Stages records until the end of their transaction: commit=close. */
#include "record/writer_internal.h"

void jsonl_writer_staged(struct jsonl_writer *w, uint64_t *records, uint64_t *bytes)
{
	pthread_mutex_lock(&w->lock);
	*records = w->staged;
	*bytes = jsonl_stage_length(w->opt.stage);
	pthread_mutex_unlock(&w->lock);
}

int jsonl_writer_commit(struct jsonl_writer *w, struct jsonl_transaction *c)
{
	int rc;

	pthread_mutex_lock(&w->lock);
	c->records = w->staged;
	rc = jsonl_commit_run(c, w->file, w->opt.stage, &w->user);
	if (!rc)
		w->staged = 0;
	pthread_mutex_unlock(&w->lock);
	return jsonl_writer_errno(rc);
}

int jsonl_writer_spoiled(struct jsonl_writer *w)
{
	int spoiled;

	pthread_mutex_lock(&w->lock);
	spoiled = w->spoiled;
	pthread_mutex_unlock(&w->lock);
	return spoiled;
}

int jsonl_writer_stage_sync(struct jsonl_writer *w)
{
	int rc;

	pthread_mutex_lock(&w->lock);
	rc = jsonl_stage_sync(w->opt.stage);
	pthread_mutex_unlock(&w->lock);
	return rc;
}

bool jsonl_writer_is_begin(struct jsonl_writer *w, off_t size)
{
	bool is;

	pthread_mutex_lock(&w->lock);
	is = size == w->open_size || size == w->begin;
	pthread_mutex_unlock(&w->lock);
	return is;
}

int jsonl_writer_rollback(struct jsonl_writer *w, off_t end)
{
	struct jsonl_slot **lists[2];
	int rc;

	pthread_mutex_lock(&w->lock);
	lists[0] = &w->slots;
	lists[1] = &w->orphans;
	for (int i = 0; i < 2; i++) {
		while (*lists[i]) {
			struct jsonl_slot *s = *lists[i];

			*lists[i] = s->next;
			jsonl_slot_free(w, s);
		}
	}
	w->norphans = 0;
	rc = jsonl_stage_discard(w->opt.stage);
	w->staged = 0;
	w->spoiled = 0;
	jsonl_owner_forgive(w);
	w->virtual_end = end;
	pthread_mutex_unlock(&w->lock);
	return rc;
}
