/* SPDX-License-Identifier: MIT */
/* Judges every line of a file and tells the place of each fault. Reads only, by a
 * descriptor of the caller, from front to back, in bounded memory: at most two buffers of
 * maxrecord bytes, however long a line is. Any thread, one descriptor per call.
 *
 * A finding is either damage or a note. A note is something that the mount would have
 * reported or tidied up when it was written; it costs no record. Lines are counted from
 * 1, bytes from 0.
 */
#ifndef JSONL_CHECK_H
#define JSONL_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "rules/limits.h"
#include "base/io.h"

/* clang-format off */
#define JSONL_FINDINGS(X)                                                                  \
	/* damage */                                                                       \
	X(HALF,        "half-record",       false, "the line ends in the middle of a record")    \
	X(TORN_TAIL,   "torn-tail",         false, "the file ends in the middle of a record")    \
	X(FUSED,       "fused-records",     false, "two records share one line")                 \
	X(NUL,         "nul-bytes",         false, "a run of NUL bytes")                         \
	X(UTF8,        "bad-utf8",          false, "the bytes are not UTF-8")                    \
	X(INVALID,     "invalid",           false, "the line is not JSON")                       \
	X(VALUE,       "wrong-value",       false, "the value is not of the kind that value= wants") \
	X(TOO_LONG,    "too-long",          false, "the line is longer than maxrecord")          \
	/* notes */                                                                        \
	X(OVERSIZE,    "oversize",          true,  "the record has pipebuf bytes or more")       \
	X(BLANK,       "blank-line",        true,  "the line holds white space only")            \
	X(NO_NEWLINE,  "missing-newline",   true,  "the last record has no newline")             \
	X(UNFINISHED,  "unfinished-number", true,  "the last line is a number without newline, which may be cut off")
/* clang-format on */

enum jsonl_finding_kind {
#define X(id, name, note, text) JSONL_FINDING_##id,
	JSONL_FINDINGS(X)
#undef X
	    JSONL_FINDING_COUNT
};

struct jsonl_finding {
	enum jsonl_finding_kind kind;
	int verdict;	 /* verdict about the line, for damage; else JSONL_OK */
	uint64_t line;	 /* its number */
	uint64_t offset; /* of the first wrong byte, or of the first byte noted */
	uint64_t length; /* bytes of the run, or of the whole line */
};

struct jsonl_check_counts {
	uint64_t bytes, lines, records; /* records: valid lines, also without a newline */
	uint64_t blank, oversize;
	uint64_t largest; /* longest record in bytes, newline counted */
	uint64_t findings[JSONL_FINDING_COUNT];
};

struct jsonl_check {
	/* Called for each finding, in the order of the file. A non-zero result ends the
	 * check and is returned. May be NULL. */
	int (*finding)(void *ctx, const struct jsonl_finding *f);
	/* Called after each piece that was read, with its bytes. May be NULL. */
	void (*progress)(void *ctx, uint64_t bytes);
	void *ctx;
};

/* Checks the whole file, up to its end as of now and to the end of a line that is being
 * appended, for which it waits up to two seconds. Adds to *counts. 0, -errno, or the
 * result of finding(). */
int jsonl_check_fd(const struct jsonl_io *io, int fd, const struct jsonl_limits *limits,
		   const struct jsonl_check *check,
		   struct jsonl_check_counts *counts) jsonl_must_check;

/* A part of a file, so that several threads can check it: a line belongs to the part that
 * it begins in. The first part has `from` 0, each other one the `to` of the part before,
 * the last one `to` UINT64_MAX. `size`: of the file, the same for all parts. */
struct jsonl_part {
	uint64_t from, to, size;
};

/* Checks one part, like jsonl_check_fd. Lines are counted from 1 in each part, since the
 * number in the file depends on the lines of the parts before. */
int jsonl_check_part(const struct jsonl_io *io, int fd, const struct jsonl_limits *limits,
		     const struct jsonl_check *check, const struct jsonl_part *part,
		     struct jsonl_check_counts *counts) jsonl_must_check;
/* Adds the counts of a part, or of a file, to `to`. */
void jsonl_check_add(struct jsonl_check_counts *to, const struct jsonl_check_counts *from);

/* Return the name for programs and the sentence for people. Static storage. */
const char *jsonl_finding_name(enum jsonl_finding_kind kind);
const char *jsonl_finding_text(enum jsonl_finding_kind kind);
bool jsonl_finding_is_note(enum jsonl_finding_kind kind);
/* Returns how many findings are damage. */
uint64_t jsonl_check_damage(const struct jsonl_check_counts *counts);

#endif
