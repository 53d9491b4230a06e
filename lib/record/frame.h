/* SPDX-License-Identifier: MIT */
/* Turns bytes into whole records. A frame holds the unfinished record of one writer and
 * nothing else: no descriptor, no lock. It is offered a request, returns the records that
 * the request completes (a cut), and takes the rest over only when told that the cut was
 * appended, so a failed append can be tried again. No byte is searched or validated twice
 * on that way. Not thread-safe: the owner locks. */
#ifndef JSONL_FRAME_H
#define JSONL_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "rules/limits.h"

struct jsonl_frame {
	char *buf; /* the unfinished record: no newline in it */
	size_t len, cap;
	/* A newline was committed on the writer's behalf: the next one, alone or after a
	 * carriage return, is not a record of its own. */
	bool swallow;
	/* the newline to be swallowed is in the file: the record has none yet */
	bool copy;
	bool first; /* a byte order mark at the start of the first line stays */
	/* For bytes that are stored already: any other byte order mark is wrong. */
	bool strict;
};

/* A line of the stream: the frame's fragment and what follows it in the request. */
struct jsonl_bad_line {
	size_t start; /* position in the stream, bytes */
	size_t len;   /* newline included */
	size_t offset; /* of the first wrong byte, from start */
	int verdict;
};

/* The records that one request completes. The vectors point into the frame, the request,
 * or `scratch`, and are valid until the frame or the request changes. */
struct jsonl_cut {
	struct iovec iov[2]; /* the good records, as they are to be stored */
	int niov;
	size_t bytes; /* their sum */
	size_t used;  /* bytes of the request up to its last newline, which is counted */
	uint64_t records, blank, oversize;
	uint64_t marks; /* byte order marks that were left out */
	size_t largest; /* longest good record, newline counted */
	bool split;	/* the first record began in an earlier request */
	/* The lines that are no records, in order. With `open` the last of them has no
	 * newline yet: it has outgrown maxrecord, and reaches to the end of the request.
	 */
	struct jsonl_bad_line *bad;
	size_t nbad;
	size_t bad_cap;
	bool open;
	char *scratch;
	bool keep_first; /* the byte order mark of the line at position 0 */
	bool strict;	 /* any other is wrong */
};

/* Buffers up to this size stay with the frame between records, and are not charged: a
 * thousand idle handles keep 4 MiB. */
#define JSONL_FRAME_KEEP 4096

void jsonl_frame_deinit(struct jsonl_frame *f);
/* Frees the room that a failed offer has made. */
void jsonl_frame_trim(struct jsonl_frame *f);
/* Returns the memory of the fragment in bytes, once `more` bytes are added for which
 * there is room; up to JSONL_FRAME_KEEP the fragment's own length. */
size_t jsonl_frame_weight(const struct jsonl_frame *f, size_t more);

/* Offers `len` bytes. Lines that are no records are listed in cut->bad, the good ones
 * around them in cut->iov; the caller decides whether one bad line spoils the request.
 * The frame still holds the old fragment. 0 or -ENOMEM; pair with jsonl_cut_deinit in
 * either case. */
int jsonl_frame_offer(struct jsonl_frame *f, const struct jsonl_limits *lim, const char *data,
		      size_t len, struct jsonl_cut *cut) jsonl_must_check;
/* Makes data[used..len) the new fragment; of an open cut nothing is kept. Cannot fail:
 * the offer made the room. */
void jsonl_frame_take(struct jsonl_frame *f, const struct jsonl_cut *cut, const char *data,
		      size_t len);
void jsonl_cut_deinit(struct jsonl_cut *cut);

/* Judges the fragment when its writer pauses: JSONL_OK: a whole record (*can_grow: it
 * ends in a bare number); JSONL_BLANK: nothing, white space or a byte order mark; else
 * the verdict with the first wrong byte. */
int jsonl_frame_judge(const struct jsonl_frame *f, const struct jsonl_limits *lim,
		      bool *can_grow, size_t *offset) jsonl_must_check;
/* Returns the fragment as it is stored: without a byte order mark at its start. */
const char *jsonl_frame_text(const struct jsonl_frame *f, size_t *len);
/* Returns true when a file may end with this fragment, a whole record, and no newline.
 * Not if it ends in a bare number or in white space: it could not be told from half a
 * record. */
bool jsonl_frame_may_stay(const struct jsonl_frame *f);
void jsonl_frame_clear(struct jsonl_frame *f);

#endif
