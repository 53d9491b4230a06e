/* SPDX-License-Identifier: MIT */
/* Takes all that is not a record out of a damaged file: reads it from front to back
 * and hands on, in order, the bytes that stay and those that go. Changes nothing: the
 * caller stores both. Memory is bounded by a few times maxrecord. Any thread, one
 * descriptor per call.
 *
 *   - A valid or blank line stays byte for byte.
 *   - Records that share a line ({...}{...}) get a line each, when all of them are valid.
 *   - NULs go. The pieces between them are judged each by itself and never joined: a
 * record made of two halves that a crash left would be an invention.
 *   - The last record gets its newline, and the first loses a byte order mark.
 *   - All else goes, by whole lines (between NULs: whole pieces). That includes a number
 * that may be cut off: the last one without a newline, or one beside a NUL. */
#ifndef JSONL_REPAIR_H
#define JSONL_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "rules/limits.h"
#include "base/io.h"

/* clang-format off */
#define JSONL_REPAIRS(X)                                                  \
	X(SET_ASIDE, "set-aside")     /* no record */                      \
	X(SPLIT,     "split")         /* several records on one line */    \
	X(NULS,      "nuls-removed")                                       \
	X(NEWLINE,   "newline-added") /* behind the last record */         \
	X(BOM,       "bom-removed")   /* before the first record */
/* clang-format on */

enum jsonl_repair_kind {
#define X(id, name) JSONL_REPAIR_##id,
	JSONL_REPAIRS(X)
#undef X
	    JSONL_REPAIR_COUNT
};

struct jsonl_repair_change {
	enum jsonl_repair_kind kind;
	int verdict;	 /* of bytes that are set aside */
	uint64_t line;	 /* from 1 */
	uint64_t offset; /* of the bytes in the file as it was */
	uint64_t length;
	uint64_t
	    wrong; /* of bytes that are set aside: the first wrong one, from offset */
	uint64_t parts; /* records into which a line was split */
};

struct jsonl_repair_counts {
	uint64_t bytes, records; /* of the file as it was; valid records found in it */
	uint64_t kept;		 /* bytes of the file as it will be */
	uint64_t scalars;	 /* of the records, those that are no object or array */
	uint64_t set_aside_bytes, nul_bytes, split_records;
	uint64_t changes[JSONL_REPAIR_COUNT];
	/* Lines set aside that are not the beginning of a record. A file with those and
	 * no record at all is no log. */
	uint64_t alien;
};

struct jsonl_repair {
	/* Takes bytes that stay, in order. A non-zero result ends the repair and is
	 * returned. May be NULL. */
	int (*keep)(void *ctx, const void *data, size_t len);
	/* Takes a change, in the order of the file. `data`: the bytes that are set aside,
	 * else NULL. May be NULL. */
	int (*change)(void *ctx, const struct jsonl_repair_change *c, const void *data);
	/* Called after each piece that was read. A non-zero result ends the repair. May
	 * be NULL. */
	int (*progress)(void *ctx, uint64_t bytes);
	void *ctx;
	uint64_t upto; /* bytes to read; 0: the whole file */
};

/* Repairs the file up to its size as of now, or up to repair->upto. 0; -errno; the result
 * of a callback; JSONL_TOO_LONG: a line has four times maxrecord, so this is no log. */
int jsonl_repair_fd(const struct jsonl_io *io, int fd, const struct jsonl_limits *limits,
		    const struct jsonl_repair *repair,
		    struct jsonl_repair_counts *counts) jsonl_must_check;

/* Returns true when most of the file is no part of a record. A text with a number in it,
 * or one document on many lines, is no log. An object or array counts twice what a single
 * value does, as a line of another kind of file may be one by chance. */
bool jsonl_repair_is_doubtful(const struct jsonl_repair_counts *counts);
/* Returns true when there was anything to change. */
bool jsonl_repair_is_needed(const struct jsonl_repair_counts *counts);
/* Returns the name of a kind of change, for programs. Static storage. */
const char *jsonl_repair_name(enum jsonl_repair_kind kind);

#endif
