/* SPDX-License-Identifier: MIT */
/* Counts what is stored for each uid, and in all: bytes and entries. Not thread-safe: the
 * owner locks. */
#ifndef JSONL_SHARES_H
#define JSONL_SHARES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct jsonl_share {
	uid_t uid;
	uint64_t bytes, entries;
};

struct jsonl_shares {
	struct jsonl_share *list; /* by uid; only uids for which something is stored */
	size_t count, cap;
	uint64_t bytes, entries; /* of all */
};

/* Forgets all of them and frees the list. */
void jsonl_shares_clear(struct jsonl_shares *s);
/* Returns the share of this uid; of zeros, without uid, when there is none. */
const struct jsonl_share *jsonl_shares_of(const struct jsonl_shares *s, uid_t uid);
/* Adds to the share of this uid. 0 or -ENOMEM. */
int jsonl_shares_charge(struct jsonl_shares *s, uid_t uid, uint64_t bytes,
			uint64_t entries) jsonl_must_check;
/* Takes away from it, at most what it has. */
void jsonl_shares_refund(struct jsonl_shares *s, uid_t uid, uint64_t bytes,
			 uint64_t entries);

#endif
