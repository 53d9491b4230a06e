/* Every line of one file is judged, and what is wrong is told with its place. Reads only,
 * through a descriptor that the caller opened, front to back and in bounded memory: at
 * most two buffers of maxrecord bytes whatever the length of a line. Any thread, one
 * descriptor per call.
 *
 * A finding is damage, or a note: something that the mount would have reported or tidied
 * when it was written, but that costs no record. Lines are counted from 1, bytes from 0.
 */
#ifndef JSONL_CHECK_H
#define JSONL_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "frame.h"
#include "io.h"

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
	int verdict;	 /* of the line, for damage; else JSONL_OK */
	uint64_t line;	 /* its number */
	uint64_t offset; /* of the first wrong byte, or of the first byte noted */
	uint64_t length; /* bytes of the run, or of the whole line where that is meant */
};

struct jsonl_check_counts {
	uint64_t bytes, lines, records; /* records: valid lines, also without a newline */
	uint64_t blank, oversize;
	uint64_t largest; /* longest record in bytes, newline counted */
	uint64_t findings[JSONL_FINDING_COUNT];
};

struct jsonl_check {
	/* Called for each finding in the order of the file; not 0 ends the check and is
	 * returned. May be NULL. */
	int (*finding)(void *ctx, const struct jsonl_finding *f);
	/* Called after each piece that was read, with its bytes. May be NULL. */
	void (*progress)(void *ctx, uint64_t bytes);
	void *ctx;
};

/* Reads `fd` from its start to its end as of now, and on to the end of the line that is
 * being appended, for which it waits two seconds at most. Adds to *counts. 0, -errno, or
 * what finding() returned. */
int jsonl_check_fd(const struct jsonl_io *io, int fd, const struct jsonl_limits *limits,
		   const struct jsonl_check *check,
		   struct jsonl_check_counts *counts) jsonl_must_check;

/* A file may be read in parts, by several threads: its lines belong to the part that they
 * begin in. Of all parts of a file the first has from 0, each other its `from` where the one
 * before has `to`, the last `to` UINT64_MAX; `size` is that of the file, the same for all. */
struct jsonl_part {
	uint64_t from, to, size;
};

/* As jsonl_check_fd, for one part. Lines are counted from 1 in each part: that of the file is
 * known when the lines of the parts before are. */
int jsonl_check_part(const struct jsonl_io *io, int fd, const struct jsonl_limits *limits,
		     const struct jsonl_check *check, const struct jsonl_part *part,
		     struct jsonl_check_counts *counts) jsonl_must_check;
/* Adds the counts of a part, or of a file. */
void jsonl_check_add(struct jsonl_check_counts *to, const struct jsonl_check_counts *from);

/* The name for programs, the sentence for people; static storage. */
const char *jsonl_finding_name(enum jsonl_finding_kind kind);
const char *jsonl_finding_text(enum jsonl_finding_kind kind);
bool jsonl_finding_is_note(enum jsonl_finding_kind kind);
uint64_t jsonl_check_damage(const struct jsonl_check_counts *counts);

#endif
