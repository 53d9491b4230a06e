#include "quarantine_table.h"

#include <stdlib.h>
#include <string.h>

#include "quarantine.h"

/* Nobody's share is smaller, so that a small bound does not refuse everybody. */
#define SHARE_MIN (1ULL << 20)

void jsonl_quarantine_table_clear(struct jsonl_quarantine_table *t)
{
	uint64_t max = t->max;

	for (size_t i = 0; i < JSONL_QUARANTINE_RECENT; i++)
		free(t->recent[i].name);
	free(t->shares);
	memset(t, 0, sizeof(*t));
	t->max = max;
}

/* Index of the share of uid, or of the place where it belongs. */
static size_t share_index(const struct jsonl_quarantine_table *t, uid_t uid)
{
	size_t low = 0, high = t->nshares;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (t->shares[mid].uid < uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static uint64_t share_of(const struct jsonl_quarantine_table *t, uid_t uid)
{
	size_t i = share_index(t, uid);

	return i < t->nshares && t->shares[i].uid == uid ? t->shares[i].bytes : 0;
}

int jsonl_quarantine_table_charge(struct jsonl_quarantine_table *t, uid_t uid,
				  uint64_t bytes)
{
	size_t i = share_index(t, uid);

	if (i == t->nshares || t->shares[i].uid != uid) {
		if (t->nshares == t->cap_shares) {
			size_t cap = t->cap_shares ? t->cap_shares * 2 : 16;
			void *grown = realloc(t->shares, cap * sizeof(*t->shares));

			if (!grown)
				return -ENOMEM;
			t->shares = grown;
			t->cap_shares = cap;
		}
		memmove(&t->shares[i + 1], &t->shares[i],
			(t->nshares - i) * sizeof(*t->shares));
		t->shares[i] = (struct jsonl_quarantine_share){.uid = uid};
		t->nshares++;
	}
	t->shares[i].bytes += bytes;
	t->bytes += bytes;
	return 0;
}

void jsonl_quarantine_table_refund(struct jsonl_quarantine_table *t, uid_t uid,
				   uint64_t bytes)
{
	size_t i = share_index(t, uid);

	/* A recount may have come in between: never below nothing. */
	if (i < t->nshares && t->shares[i].uid == uid)
		t->shares[i].bytes -=
		    bytes < t->shares[i].bytes ? bytes : t->shares[i].bytes;
	t->bytes -= bytes < t->bytes ? bytes : t->bytes;
}

bool jsonl_quarantine_table_fits(const struct jsonl_quarantine_table *t, uid_t uid,
				 uint64_t bytes, bool reserved)
{
	uint64_t kept =
	    t->max / 2 < JSONL_QUARANTINE_RESERVE ? t->max / 2 : JSONL_QUARANTINE_RESERVE;
	uint64_t share = t->max / 4 > SHARE_MIN ? t->max / 4 : SHARE_MIN;
	uint64_t limit = t->max - kept;

	if (reserved) {
		/* Half of what is kept: one user's fragments leave room for those of
		 * others. Repairs are root's, and nobody's fault. */
		share = uid == 0 ? t->max : share + kept / 2;
		limit = t->max;
	}
	return bytes <= limit && t->bytes <= limit - bytes && bytes <= share &&
	       share_of(t, uid) <= share - bytes;
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
