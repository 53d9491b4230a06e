/* SPDX-License-Identifier: MIT */
/* Remembers bad lines that were set aside, so that a program that sends one again, in a
 * retry or after it has opened the file anew, is not told twice. A line is known by the
 * process and file that it came from, its hash and its length. Bounded: the oldest lines
 * of a share (a user) are forgotten first; a line that is forgotten is told once more.
 * Thread-safe; one mutex inside, a leaf. */
#ifndef JSONL_KNOWN_H
#define JSONL_KNOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define JSONL_KNOWN_SHARES 16
#define JSONL_KNOWN_LINES  8192 /* lines of each share */

struct jsonl_known;

struct jsonl_known_line {
	uint64_t source; /* number of process and file, chosen by the caller */
	uint64_t hash;	 /* begun with jsonl_known_seed() */
	uint64_t len;	 /* bytes */
};

/* Makes the memory. 0 or -ENOMEM. */
int jsonl_known_new(struct jsonl_known **known) jsonl_must_check;
void jsonl_known_free(struct jsonl_known *k);
/* Returns the start of hashes, which is random, so that nobody can make two lines of one
 * hash. */
uint64_t jsonl_known_seed(const struct jsonl_known *k);
/* Returns true when this line is known. `add`: it is from now on; without memory it is
 * not. */
bool jsonl_known_find(struct jsonl_known *k, uint64_t share,
		      const struct jsonl_known_line *line, bool add);

#endif
