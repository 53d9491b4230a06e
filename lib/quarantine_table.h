/* What the quarantine knows in memory: how much is stored, how much of it for which uid,
 * and the latest entries by the hash of their bytes and path. No system call in here.
 * Not thread-safe: quarantine.c locks. */
#ifndef JSONL_QUARANTINE_TABLE_H
#define JSONL_QUARANTINE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

/* Entries that are remembered; older ones are stored again when they come again. */
#define JSONL_QUARANTINE_RECENT 4096
/* What a file counts for is a whole number of these. */
#define JSONL_QUARANTINE_BLOCK 4096ULL

struct jsonl_quarantine_recent {
	char *name; /* NULL while it is being written, and in a free slot */
	uid_t uid;
	bool busy;    /* being written: not to be forgotten, wait for it */
	bool durable; /* was synced when it was stored */
};

struct jsonl_quarantine_share {
	uid_t uid;
	uint64_t bytes;
};

struct jsonl_quarantine_table {
	uint64_t max, bytes, entries;
	struct jsonl_quarantine_share *shares; /* sorted by uid */
	size_t nshares, cap_shares;
	/* A ring. The hashes stand apart, so that a search runs over 32 KiB; 0 is none: a
	 * free slot, or bytes that others have been joined to. */
	struct jsonl_quarantine_recent recent[JSONL_QUARANTINE_RECENT];
	uint64_t hashes[JSONL_QUARANTINE_RECENT];
	size_t next;
};

static inline uint64_t jsonl_quarantine_blocks(uint64_t bytes)
{
	return (bytes + JSONL_QUARANTINE_BLOCK - 1) / JSONL_QUARANTINE_BLOCK *
	       JSONL_QUARANTINE_BLOCK;
}

/* Forgets everything but max. */
void jsonl_quarantine_table_clear(struct jsonl_quarantine_table *t);
/* Charges `bytes` (whole blocks) to uid without asking; 0 or -ENOMEM. */
int jsonl_quarantine_table_charge(struct jsonl_quarantine_table *t, uid_t uid,
				  uint64_t bytes) jsonl_must_check;
void jsonl_quarantine_table_refund(struct jsonl_quarantine_table *t, uid_t uid,
				   uint64_t bytes);
/* May uid store `bytes` more? `reserved`: also in the part for fragments and repairs. */
bool jsonl_quarantine_table_fits(const struct jsonl_quarantine_table *t, uid_t uid,
				 uint64_t bytes, bool reserved);
/* The entry of this hash, or NULL. */
struct jsonl_quarantine_recent *
jsonl_quarantine_table_find(struct jsonl_quarantine_table *t, uint64_t hash);
struct jsonl_quarantine_recent *
jsonl_quarantine_table_by_name(struct jsonl_quarantine_table *t, const char *name);
/* Remembers an entry, without a name yet, in place of the oldest that is not busy. NULL
 * when all are busy: the entry is merely not remembered. */
struct jsonl_quarantine_recent *
jsonl_quarantine_table_add(struct jsonl_quarantine_table *t, uint64_t hash, uid_t uid);
/* The bytes of the entry are no longer those that were hashed; its name stays known. */
void jsonl_quarantine_table_changed(struct jsonl_quarantine_table *t,
				    const struct jsonl_quarantine_recent *r);
void jsonl_quarantine_table_forget(struct jsonl_quarantine_table *t,
				   struct jsonl_quarantine_recent *r);

#endif
