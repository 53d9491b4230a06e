/* Bytes in -> whole records out. A frame holds the unfinished record of one writer and
 * nothing else: no descriptor, no lock. It is offered a request, answers with the records
 * that the request completes (a cut), and takes the rest over only when told that the cut
 * was appended, so a failed append can be tried again. No byte is searched or validated
 * twice on that way. Not thread-safe: the owner locks. */
#ifndef JSONL_FRAME_H
#define JSONL_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "error.h"

/* Which records are accepted; from the configuration. */
struct jsonl_limits {
	unsigned maxdepth;
	uint64_t maxrecord; /* bytes, newline counted */
	uint64_t pipebuf;   /* bytes, newline counted */
	int value;	    /* enum jsonl_value */
	int blank;	    /* enum jsonl_blank */
	int oversize;	    /* enum jsonl_oversize */
};

struct jsonl_frame {
	char *buf; /* the unfinished record: no newline in it */
	size_t len, cap;
	/* A newline was committed on the writer's behalf: the one that comes next, alone or
	 * after a carriage return, is not a record of its own. */
	bool swallow;
};

/* A line of the stream that begins with the frame's fragment and goes on with the request. */
struct jsonl_bad_line {
	size_t start; /* position in the stream, bytes */
	size_t len;   /* newline included */
	size_t offset; /* of the first wrong byte, from start */
	int verdict;
};

/* What one request completes. The vectors point into the frame, the request, or
 * `scratch`, and are good until the frame or the request changes. */
struct jsonl_cut {
	struct iovec iov[2]; /* the good records, as they are to be stored */
	int niov;
	size_t bytes; /* their sum */
	size_t used;  /* bytes of the request up to and with its last newline */
	uint64_t records, blank, oversize;
	size_t largest; /* longest good record, newline counted */
	bool split;	/* the first record began in an earlier request */
	/* The lines that are not records, in order. Also: a fragment that would grow beyond
	 * maxrecord, whose line is not complete (JSONL_TOO_LONG, start + len at the end). */
	struct jsonl_bad_line *bad;
	size_t nbad;
	size_t bad_cap;
	char *scratch;
	size_t scratch_cap;
};

/* Buffers up to this size stay with the frame between records, and do not weigh: a thousand
 * idle handles keep 4 MiB. */
#define JSONL_FRAME_KEEP 4096

void jsonl_frame_deinit(struct jsonl_frame *f);
/* Gives back what an offer that came to nothing has made room for. */
void jsonl_frame_trim(struct jsonl_frame *f);
/* Bytes of memory that the fragment takes, with `more` of them to come for which there is
 * room; up to JSONL_FRAME_KEEP the fragment's own length. */
size_t jsonl_frame_weight(const struct jsonl_frame *f, size_t more);

/* Offers `len` bytes. Lines that are no records are listed in cut->bad, the good ones
 * around them in cut->iov; the caller decides whether one bad line spoils the request.
 * The frame keeps standing for the old fragment. 0 or -ENOMEM; pair with jsonl_cut_deinit
 * in either case. */
int jsonl_frame_offer(struct jsonl_frame *f, const struct jsonl_limits *lim, const char *data,
		      size_t len, struct jsonl_cut *cut) jsonl_must_check;
/* Makes data[used..len) the new fragment. Cannot fail: the offer made the room. Not to be
 * called for a cut whose last bad line is an unfinished one. */
void jsonl_frame_take(struct jsonl_frame *f, const struct jsonl_cut *cut, const char *data,
		      size_t len);
void jsonl_cut_deinit(struct jsonl_cut *cut);

/* What the fragment is worth when its writer pauses: JSONL_OK a whole record (*can_grow: a
 * bare number at its end), JSONL_BLANK nothing or white space, else the verdict with the
 * first wrong byte. */
int jsonl_frame_judge(const struct jsonl_frame *f, const struct jsonl_limits *lim,
		      bool *can_grow, size_t *offset) jsonl_must_check;
void jsonl_frame_clear(struct jsonl_frame *f);

#endif
