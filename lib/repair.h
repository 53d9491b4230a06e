/* What is left of a damaged file when everything that is no record is taken out of it:
 * reads a file from front to back and hands on, in order, the bytes that stay and those
 * that go. Changes nothing itself: storing both is the caller's business. Memory is
 * bounded by a few times maxrecord. Any thread, one descriptor per call.
 *
 *   - a line that is valid, or blank, stays byte for byte;
 *   - records that share a line ({...}{...}) each get a line of their own when all of
 *     them are valid;
 *   - NULs go. What stands between them is judged by itself, never joined: a record of
 *     two halves that a crash has left would be an invention;
 *   - the last record gets its newline;
 *   - everything else goes, whole lines (between NULs: whole pieces), so also a number
 *     that may be cut off: the last one without a newline, or one that touches a NUL. */
#ifndef JSONL_REPAIR_H
#define JSONL_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "frame.h"
#include "io.h"

/* clang-format off */
#define JSONL_REPAIRS(X)                                      \
	X(SET_ASIDE, "set-aside",      "is no record: set aside")        \
	X(SPLIT,     "split",          "several records on one line: split") \
	X(NULS,      "nuls-removed",   "NUL bytes: removed")              \
	X(NEWLINE,   "newline-added",  "the last record has no newline: added")
/* clang-format on */

enum jsonl_repair_kind {
#define X(id, name, text) JSONL_REPAIR_##id,
	JSONL_REPAIRS(X)
#undef X
	    JSONL_REPAIR_COUNT
};

struct jsonl_repair_change {
	enum jsonl_repair_kind kind;
	int verdict;	 /* of what is set aside */
	uint64_t line;	 /* from 1 */
	uint64_t offset; /* of the bytes in the file as it was */
	uint64_t length;
	uint64_t wrong; /* of what is set aside: its first wrong byte, from offset */
	uint64_t parts; /* records that a line was split into */
};

struct jsonl_repair_counts {
	uint64_t bytes, records; /* of the file as it was; valid records found in it */
	uint64_t kept;		 /* bytes of the file as it will be */
	uint64_t set_aside_bytes, nul_bytes, split_records;
	uint64_t changes[JSONL_REPAIR_COUNT];
	/* Of what is set aside, that which is not the beginning of a record. With no
	 * record at all beside it this is another kind of file. */
	uint64_t alien;
};

struct jsonl_repair {
	/* Bytes that stay, in order; may be NULL. Not 0 ends the repair and is returned.
	 */
	int (*keep)(void *ctx, const void *data, size_t len);
	/* A change, in the order of the file; `data` are the bytes that are set aside,
	 * else NULL. May be NULL. */
	int (*change)(void *ctx, const struct jsonl_repair_change *c, const void *data);
	/* Called after each piece that was read. May be NULL; not 0 ends the repair. */
	int (*progress)(void *ctx, uint64_t bytes);
	void *ctx;
	uint64_t upto; /* bytes; 0: all that there are */
};

/* Reads `fd` up to its size as of now, or up to repair->upto. 0, -errno, what a callback
 * returned, or JSONL_TOO_LONG when a line is so long (four times maxrecord) that this
 * cannot be a log. */
int jsonl_repair_fd(const struct jsonl_io *io, int fd, const struct jsonl_limits *limits,
		    const struct jsonl_repair *repair,
		    struct jsonl_repair_counts *counts) jsonl_must_check;

bool jsonl_repair_is_needed(const struct jsonl_repair_counts *counts);
/* Static storage. */
const char *jsonl_repair_name(enum jsonl_repair_kind kind);
const char *jsonl_repair_text(enum jsonl_repair_kind kind);

#endif
