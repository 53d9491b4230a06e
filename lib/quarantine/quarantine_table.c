/* SPDX-License-Identifier: MIT */
#include "quarantine/quarantine_table.h"

#include <stdlib.h>
#include <string.h>

#include "quarantine/quarantine.h"

/* The least share, so that a small bound does not refuse everybody. */
#define SHARE_MIN (1ULL << 20)

void jsonl_quarantine_table_clear(struct jsonl_quarantine_table *t)
{
	uint64_t max = t->max;

	for (size_t i = 0; i < JSONL_QUARANTINE_RECENT; i++)
		free(t->recent[i].name);
	for (size_t i = 0; i < JSONL_QUARANTINE_GATHERS; i++)
		free(t->gathers[i].name);
	jsonl_shares_clear(&t->shares);
	memset(t, 0, sizeof(*t));
	t->max = max;
}

int jsonl_quarantine_table_charge(struct jsonl_quarantine_table *t, uid_t uid,
				  uint64_t bytes)
{
	return jsonl_shares_charge(&t->shares, uid, bytes, 0);
}

void jsonl_quarantine_table_refund(struct jsonl_quarantine_table *t, uid_t uid,
				   uint64_t bytes)
{
	jsonl_shares_refund(&t->shares, uid, bytes, 0);
}

bool jsonl_quarantine_table_fits(const struct jsonl_quarantine_table *t, uid_t uid,
				 uint64_t bytes, bool reserved)
{
	uint64_t kept =
	    t->max / 2 < JSONL_QUARANTINE_RESERVE ? t->max / 2 : JSONL_QUARANTINE_RESERVE;
	uint64_t share = t->max / 4 > SHARE_MIN ? t->max / 4 : SHARE_MIN;
	uint64_t limit = t->max - kept;

	if (reserved) {
		/* Half of the reserved part: so one user's fragments leave room for
		 * those of others. Repairs count for root, and nobody caused them. */
		share = uid == 0 ? t->max : share + kept / 2;
		limit = t->max;
	}
	return bytes <= limit && t->shares.bytes <= limit - bytes && bytes <= share &&
	       jsonl_shares_of(&t->shares, uid)->bytes <= share - bytes;
}

struct jsonl_quarantine_recent *
jsonl_quarantine_table_find(struct jsonl_quarantine_table *t, uint64_t hash)
{
	for (size_t i = 0; hash && i < JSONL_QUARANTINE_RECENT; i++)
		if (t->hashes[i] == hash)
			return &t->recent[i];
	return NULL;
}

struct jsonl_quarantine_recent *
jsonl_quarantine_table_by_name(struct jsonl_quarantine_table *t, const char *name)
{
	for (size_t i = 0; i < JSONL_QUARANTINE_RECENT; i++)
		if (t->recent[i].name && strcmp(t->recent[i].name, name) == 0)
			return &t->recent[i];
	return NULL;
}

void jsonl_quarantine_table_changed(struct jsonl_quarantine_table *t,
				    const struct jsonl_quarantine_recent *r)
{
	t->hashes[r - t->recent] = 0;
}

void jsonl_quarantine_table_forget(struct jsonl_quarantine_table *t,
				   struct jsonl_quarantine_recent *r)
{
	free(r->name);
	*r = (struct jsonl_quarantine_recent){0};
	t->hashes[r - t->recent] = 0;
}

struct jsonl_quarantine_recent *
jsonl_quarantine_table_add(struct jsonl_quarantine_table *t, uint64_t hash, uid_t uid)
{
	for (size_t tries = 0; tries < JSONL_QUARANTINE_RECENT; tries++) {
		struct jsonl_quarantine_recent *r = &t->recent[t->next];

		t->next = (t->next + 1) % JSONL_QUARANTINE_RECENT;
		if (r->busy)
			continue;
		jsonl_quarantine_table_forget(t, r);
		r->uid = uid;
		t->hashes[r - t->recent] = hash;
		return r;
	}
	return NULL;
}

struct jsonl_quarantine_gather *
jsonl_quarantine_table_gather(struct jsonl_quarantine_table *t, uint64_t key,
			      int64_t oldest)
{
	for (size_t i = 0; i < JSONL_QUARANTINE_GATHERS; i++)
		if (t->gathers[i].key == key && t->gathers[i].since > oldest)
			return &t->gathers[i];
	return NULL;
}

struct jsonl_quarantine_gather *
jsonl_quarantine_table_gather_new(struct jsonl_quarantine_table *t, uint64_t key,
				  int64_t now)
{
	struct jsonl_quarantine_gather *oldest = NULL;

	for (size_t i = 0; i < JSONL_QUARANTINE_GATHERS; i++) {
		struct jsonl_quarantine_gather *g = &t->gathers[i];

		if (!g->busy &&
		    (!oldest || !g->key || (oldest->key && g->since < oldest->since)))
			oldest = g;
	}
	if (!oldest)
		return NULL;
	jsonl_quarantine_table_gather_end(oldest);
	oldest->key = key;
	oldest->since = now;
	return oldest;
}

void jsonl_quarantine_table_gather_end(struct jsonl_quarantine_gather *g)
{
	free(g->name);
	*g = (struct jsonl_quarantine_gather){0};
}
