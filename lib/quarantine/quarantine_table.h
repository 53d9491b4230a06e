/* SPDX-License-Identifier: MIT */
/* Counts the quarantine in memory: how much is stored, for which uid, and the latest
 * entries by the hash of their bytes, path and uid. No system call here. Not thread-safe:
 * quarantine.c locks. */
#ifndef JSONL_QUARANTINE_TABLE_H
#define JSONL_QUARANTINE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/shares.h"

/* Entries that are remembered; the bytes of older ones are stored again when they come
 * again. */
#define JSONL_QUARANTINE_RECENT 4096
/* A file counts as a whole number of these. */
#define JSONL_QUARANTINE_BLOCK 4096ULL

struct jsonl_quarantine_recent {
	char *name; /* NULL while it is being written, and in a free slot */
	uid_t uid;
	bool busy;    /* being written: do not forget it, wait for it */
	bool durable; /* was synced when it was stored */
	bool part;    /* other bytes are in the entry, too: its own begin at `at` */
	int64_t at;
};

/* The latest of the entries that gather bytes. */
#define JSONL_QUARANTINE_GATHERS 32

struct jsonl_quarantine_gather {
	uint64_t key;	 /* hash of what must be the same; 0: free */
	char *name;	 /* NULL: the entry is being made */
	bool busy;	 /* a thread is writing to it: wait for `stored` */
	bool unfinished; /* does not end in a newline */
	int64_t since;	 /* CLOCK_MONOTONIC, seconds */
};

struct jsonl_quarantine_table {
	uint64_t max, entries;
	struct jsonl_shares shares; /* bytes alone */
	/* A ring. The hashes are in an array of their own, so that a search reads 32 KiB;
	 * 0 is no hash: a free slot, or bytes to which others have been joined. */
	struct jsonl_quarantine_recent recent[JSONL_QUARANTINE_RECENT];
	uint64_t hashes[JSONL_QUARANTINE_RECENT];
	size_t next;
	struct jsonl_quarantine_gather gathers[JSONL_QUARANTINE_GATHERS];
};

static inline uint64_t jsonl_quarantine_blocks(uint64_t bytes)
{
	return (bytes + JSONL_QUARANTINE_BLOCK - 1) / JSONL_QUARANTINE_BLOCK *
	       JSONL_QUARANTINE_BLOCK;
}

/* Forgets everything but max. */
void jsonl_quarantine_table_clear(struct jsonl_quarantine_table *t);
/* Charges `bytes` to uid without asking; 0 or -ENOMEM. */
int jsonl_quarantine_table_charge(struct jsonl_quarantine_table *t, uid_t uid,
				  uint64_t bytes) jsonl_must_check;
void jsonl_quarantine_table_refund(struct jsonl_quarantine_table *t, uid_t uid,
				   uint64_t bytes);
/* Returns true when uid may store `bytes` more. `reserved`: also in the part for
 * fragments and repairs. */
bool jsonl_quarantine_table_fits(const struct jsonl_quarantine_table *t, uid_t uid,
				 uint64_t bytes, bool reserved);
/* Returns the entry of this hash, or NULL. */
struct jsonl_quarantine_recent *
jsonl_quarantine_table_find(struct jsonl_quarantine_table *t, uint64_t hash);
struct jsonl_quarantine_recent *
jsonl_quarantine_table_by_name(struct jsonl_quarantine_table *t, const char *name);
/* Remembers an entry, without a name yet, in place of the oldest that is not busy. NULL
 * when all are busy: the entry is not remembered. */
struct jsonl_quarantine_recent *
jsonl_quarantine_table_add(struct jsonl_quarantine_table *t, uint64_t hash, uid_t uid);
/* Returns the gathering entry of this key, begun after `oldest`, or NULL. */
struct jsonl_quarantine_gather *
jsonl_quarantine_table_gather(struct jsonl_quarantine_table *t, uint64_t key,
			      int64_t oldest);
/* Returns a place for a new one, that of the oldest that is not busy; NULL: all are. */
struct jsonl_quarantine_gather *
jsonl_quarantine_table_gather_new(struct jsonl_quarantine_table *t, uint64_t key,
				  int64_t now);
void jsonl_quarantine_table_gather_end(struct jsonl_quarantine_gather *g);
/* Notes that the entry's bytes are no longer the hashed ones; its name stays known. */
void jsonl_quarantine_table_changed(struct jsonl_quarantine_table *t,
				    const struct jsonl_quarantine_recent *r);
void jsonl_quarantine_table_forget(struct jsonl_quarantine_table *t,
				   struct jsonl_quarantine_recent *r);

#endif
