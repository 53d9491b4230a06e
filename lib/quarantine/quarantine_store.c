/* SPDX-License-Identifier: MIT */
/* Stores bytes in an entry of their own, once. */
#include "quarantine/quarantine_internal.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool jsonl_quarantine_known(struct jsonl_quarantine *q, uint64_t hash,
			    const struct jsonl_quarantine_item *item,
			    char name[JSONL_QUARANTINE_NAME])
{
	struct jsonl_quarantine_recent *r;

	while ((r = jsonl_quarantine_table_find(&q->table, hash))) {
		bool durable = r->durable, holds;
		int64_t at = r->part ? r->at : -1;

		if (r->busy) {
			pthread_cond_wait(&q->stored, &q->lock);
			continue;
		}
		(void)snprintf(name, JSONL_QUARANTINE_NAME, "%s", r->name);
		pthread_mutex_unlock(&q->lock);
		holds = jsonl_quarantine_file_holds(q, name, at,
						    item->durable && !durable, item);
		if (holds && item->durable && !durable)
			holds = jsonl_quarantine_index_sync(q) == 0;
		pthread_mutex_lock(&q->lock);
		if (holds)
			return true;
		/* The entry is gone, changed, or another of the same hash: the next one
		 * of that hash takes its place. */
		r = jsonl_quarantine_table_find(&q->table, hash);
		if (r && !r->busy && strcmp(r->name, name) == 0)
			jsonl_quarantine_table_forget(&q->table, r);
	}
	return false;
}

/* Charges the bytes and announces the entry. Under lock. */
static int admit(struct jsonl_quarantine *q, const struct jsonl_quarantine_item *item,
		 uint64_t blocks, uint64_t hash, struct jsonl_quarantine_recent **recent)
{
	struct jsonl_quarantine_table *t = &q->table;
	uint64_t wanted = blocks + JSONL_QUARANTINE_LINE;
	int rc;

	if (!jsonl_quarantine_table_fits(t, item->uid, wanted, item->reserved) &&
	    !(jsonl_quarantine_refresh(q) &&
	      jsonl_quarantine_table_fits(t, item->uid, wanted, item->reserved)))
		return -ENOSPC;
	rc = jsonl_quarantine_table_charge(t, item->uid, blocks);
	if (rc < 0)
		return rc;
	q->inflight++;
	t->entries++;
	*recent = jsonl_quarantine_table_add(t, item->joinable ? 0 : hash, item->uid);
	if (*recent)
		(*recent)->busy = true;
	return 0;
}

/* Ends what admit() began: `name` is NULL when nothing was stored. Under lock. */
static void settle(struct jsonl_quarantine *q, const struct jsonl_quarantine_item *item,
		   uint64_t blocks, struct jsonl_quarantine_recent *recent,
		   const char *name, bool remember)
{
	q->inflight--;
	if (!name) {
		jsonl_quarantine_table_refund(&q->table, item->uid, blocks);
		q->table.entries--;
	}
	if (recent) {
		recent->busy = false;
		recent->durable = item->durable;
		recent->name = remember ? strdup(name) : NULL;
		if (!recent->name)
			jsonl_quarantine_table_forget(&q->table, recent);
		pthread_cond_broadcast(&q->stored);
	}
}

/* Writes the file, then its line in the index. Without lock. */
static int store(struct jsonl_quarantine *q, const struct jsonl_quarantine_item *item,
		 int64_t stamp, uint64_t hash, char name[JSONL_QUARANTINE_NAME])
{
	int rc = jsonl_quarantine_file_store(q, item, &stamp, name);

	if (rc < 0)
		return rc;
	rc = jsonl_quarantine_index_add(
	    q, jsonl_quarantine_line_stored(item, stamp, hash, name, 0), item->uid);
	if (rc < 0)
		(void)q->io->unlinkat(q->io, q->dir_fd, name);
	return rc;
}

int jsonl_quarantine_store(struct jsonl_quarantine *q,
			   const struct jsonl_quarantine_item *item, uint64_t hash,
			   char name[JSONL_QUARANTINE_NAME])
{
	struct jsonl_quarantine_recent *recent = NULL;
	uint64_t blocks =
	    jsonl_quarantine_blocks(jsonl_iov_length(item->iov, item->niov));
	int64_t stamp;
	int rc, synced = 0;

	blocks = blocks ? blocks : JSONL_QUARANTINE_BLOCK;
	rc = admit(q, item, blocks, hash, &recent);
	if (rc < 0)
		return rc;
	stamp = jsonl_quarantine_stamp(q);
	pthread_mutex_unlock(&q->lock);
	rc = store(q, item, stamp, hash, name);
	if (rc == 0 && item->durable)
		synced = jsonl_quarantine_index_sync(q);
	/* An entry that could not be made durable is kept, but not found again: if the
	 * same bytes come they are stored anew, because a second sync of the same pages
	 * would prove nothing. */
	pthread_mutex_lock(&q->lock);
	settle(q, item, blocks, recent, rc == 0 ? name : NULL, rc == 0 && synced == 0);
	return rc ? rc : synced;
}
