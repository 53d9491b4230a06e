/* SPDX-License-Identifier: MIT */
#include "vault/archive_table.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define ENTRY_BYTES 4096 /* the bound allows an entry per so many bytes ... */
#define ENTRIES_MIN 1024 /* ... but so many entries in any case */

uid_t fs_archive_payer(const struct fs_archive_claim *claim)
{
	return claim->remover == 0 ? claim->owner : claim->remover;
}

static uint64_t entries_max(const struct fs_archive_table *t)
{
	return t->max / ENTRY_BYTES + ENTRIES_MIN;
}

/* Returns the share of one owner: three quarters. */
static uint64_t share_of(uint64_t all)
{
	return all - all / 4;
}

void fs_archive_table_clear(struct fs_archive_table *t)
{
	uint64_t max = t->max;

	for (size_t i = 0; i < t->count; i++)
		free(t->list[i].name);
	free(t->list);
	jsonl_shares_clear(&t->shares);
	memset(t, 0, sizeof(*t));
	t->max = max;
}

/* Returns the place of the name in the list, or where it belongs. */
static size_t place(const struct fs_archive_table *t, const char *name)
{
	size_t low = 0, high = t->count;

	/* Most names belong behind all others. */
	if (high && strcmp(t->list[high - 1].name, name) < 0)
		return high;
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (strcmp(t->list[mid].name, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

size_t fs_archive_table_find(const struct fs_archive_table *t, const char *name)
{
	size_t at = place(t, name);

	return at < t->count && strcmp(t->list[at].name, name) == 0 ? at : t->count;
}

int fs_archive_table_enter(struct fs_archive_table *t,
			   const struct fs_archive_entry *entry)
{
	size_t at;

	if (jsonl_grow(&t->list, &t->cap, t->count + 1, sizeof(*t->list)))
		return -ENOMEM;
	at = place(t, entry->name);
	memmove(&t->list[at + 1], &t->list[at], (t->count - at) * sizeof(*t->list));
	t->list[at] = *entry;
	t->count++;
	return 0;
}

void fs_archive_table_take(struct fs_archive_table *t, size_t at,
			   struct fs_archive_entry *entry)
{
	*entry = t->list[at];
	t->count--;
	memmove(&t->list[at], &t->list[at + 1], (t->count - at) * sizeof(*t->list));
	jsonl_shares_refund(&t->shares, entry->payer, entry->bytes, 1);
}

void fs_archive_table_resize(struct fs_archive_table *t, size_t at, uint64_t bytes)
{
	struct fs_archive_entry *e = &t->list[at];

	if (bytes < e->bytes)
		jsonl_shares_refund(&t->shares, e->payer, e->bytes - bytes, 0);
	else /* which finds the share there */
		(void)!jsonl_shares_charge(&t->shares, e->payer, bytes - e->bytes, 0);
	e->bytes = bytes;
}

/* ---- who goes ---- */

/* Counts bytes and entries that must still be removed: from the payer's share, and in
 * all. */
struct need {
	uint64_t share_bytes, share_entries, bytes, entries;
};

static uint64_t above(uint64_t have, uint64_t more, uint64_t max)
{
	return more > max ? UINT64_MAX : have > max - more ? have - (max - more) : 0;
}

static struct need need_of(const struct fs_archive_table *t, uid_t payer, uint64_t bytes)
{
	const struct jsonl_share *share = jsonl_shares_of(&t->shares, payer);

	return (struct need){
	    .share_bytes = above(share->bytes, bytes, share_of(t->max)),
	    .share_entries = above(share->entries, 1, share_of(entries_max(t))),
	    .bytes = above(t->shares.bytes, bytes, t->max),
	    .entries = above(t->shares.entries, 1, entries_max(t)),
	};
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static void gone(struct need *need, const struct fs_archive_entry *e, uid_t payer)
{
	need->bytes = less(need->bytes, e->bytes);
	need->entries = less(need->entries, 1);
	if (e->payer != payer)
		return;
	need->share_bytes = less(need->share_bytes, e->bytes);
	need->share_entries = less(need->share_entries, 1);
}

struct choice {
	struct fs_archive_table *t;
	bool (*busy)(void *ctx, const struct fs_archive_entry *e);
	void *ctx;
	bool *chosen; /* one for each entry */
	size_t n;
};

/* Chooses the oldest entries of `whose` until the payer's share, or else the whole, has
 * room. */
static void choose(struct choice *c, uid_t whose, uid_t payer, bool share,
		   struct need *need)
{
	for (size_t i = 0; i < c->t->count; i++) {
		const struct fs_archive_entry *e = &c->t->list[i];

		if (share ? !need->share_bytes && !need->share_entries
			  : !need->bytes && !need->entries)
			return;
		if (c->chosen[i] || e->payer != whose || e->foreign || c->busy(c->ctx, e))
			continue;
		c->chosen[i] = true;
		c->n++;
		gone(need, e, payer);
	}
}

/* Takes the chosen ones out of the table. */
static int take_chosen(struct choice *c, struct fs_archive_entry **victims, size_t *n)
{
	struct fs_archive_table *t = c->t;
	size_t kept = 0;

	*n = 0;
	*victims = c->n ? malloc(c->n * sizeof(**victims)) : NULL;
	if (c->n && !*victims)
		return -ENOMEM;
	for (size_t i = 0; i < t->count; i++) {
		if (!c->chosen[i]) {
			t->list[kept++] = t->list[i];
			continue;
		}
		jsonl_shares_refund(&t->shares, t->list[i].payer, t->list[i].bytes, 1);
		(*victims)[(*n)++] = t->list[i];
	}
	t->count = kept;
	return 0;
}

int fs_archive_table_make_room(struct fs_archive_table *t,
			       const struct fs_archive_claim *claim, uint64_t bytes,
			       bool (*busy)(void *ctx, const struct fs_archive_entry *e),
			       void *ctx, struct fs_archive_entry **victims, size_t *n)
{
	uid_t payer = fs_archive_payer(claim);
	struct need need = need_of(t, payer, bytes);
	struct choice c = {.t = t, .busy = busy, .ctx = ctx};
	int rc = 0;

	*victims = NULL;
	*n = 0;
	if (!need.share_bytes && !need.share_entries && !need.bytes && !need.entries)
		return 0;
	if (claim->remover != 0 && claim->remover != claim->owner)
		return -EDQUOT;
	c.chosen = calloc(t->count + 1, sizeof(*c.chosen));
	if (!c.chosen)
		return -ENOMEM;
	choose(&c, payer, payer, true, &need);
	choose(&c, claim->remover, payer, false, &need);
	choose(&c, payer, payer, false, &need);
	if (need.share_bytes || need.share_entries || need.bytes || need.entries)
		rc = -EDQUOT;
	else
		rc = take_chosen(&c, victims, n);
	free(c.chosen);
	return rc;
}

int fs_archive_table_expire(struct fs_archive_table *t, int64_t before,
			    bool (*busy)(void *ctx, const struct fs_archive_entry *e),
			    void *ctx, struct fs_archive_entry **victims, size_t *n)
{
	struct choice c = {.t = t, .busy = busy, .ctx = ctx};
	int rc;

	*victims = NULL;
	*n = 0;
	c.chosen = calloc(t->count + 1, sizeof(*c.chosen));
	if (!c.chosen)
		return -ENOMEM;
	for (size_t i = 0; i < t->count; i++) {
		c.chosen[i] = t->list[i].time < before && !busy(ctx, &t->list[i]);
		c.n += c.chosen[i];
	}
	rc = take_chosen(&c, victims, n);
	free(c.chosen);
	return rc;
}

static unsigned percent_of(uint64_t part, uint64_t all)
{
	return all == 0	     ? 100
	       : part >= all ? 100
			     : (unsigned)((double)part * 100 / (double)all);
}

static unsigned larger(unsigned a, unsigned b)
{
	return a > b ? a : b;
}

unsigned fs_archive_table_percent(const struct fs_archive_table *t)
{
	unsigned percent =
	    larger(percent_of(t->shares.bytes, t->max),
		   percent_of(t->shares.entries, entries_max(t)));

	for (size_t i = 0; i < t->shares.count; i++) {
		const struct jsonl_share *s = &t->shares.list[i];

		percent = larger(percent, percent_of(s->bytes, share_of(t->max)));
		percent =
		    larger(percent, percent_of(s->entries, share_of(entries_max(t))));
	}
	return t->shares.entries ? percent : 0;
}
