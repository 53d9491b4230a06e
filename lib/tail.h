/* What a crash, or a writer outside, left at the end of a governed file; and the repair.
 * Inspecting never writes. The caller serializes repairs of one file (its flock and
 * its mutex); inspecting takes any thread. */
#ifndef JSONL_TAIL_H
#define JSONL_TAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "io.h"

enum jsonl_tail_state {
	JSONL_TAIL_CLEAN,   /* empty, or ends with a newline */
	JSONL_TAIL_VALID,   /* a whole value without its newline, not a bare number */
	JSONL_TAIL_TORN,    /* half a record, half a character, NULs: hidden from readers */
	JSONL_TAIL_UNKNOWN, /* longer than maxrecord, or in a file that is not JSON Lines */
};

struct jsonl_tail {
	enum jsonl_tail_state state;
	off_t size;    /* of the backing file, as inspected */
	off_t start;   /* where the tail begins: after the last newline */
	off_t visible; /* what readers are shown */
	int verdict;   /* why it is torn */
};

/* `size` is the size to judge (from fstat). Reads at most the last line and the one
 * before it, bounded by a few times maxrecord. 0 or -errno. */
int jsonl_tail_inspect(const struct jsonl_io *io, int fd, off_t size, uint64_t maxrecord,
		       unsigned maxdepth, struct jsonl_tail *tail) jsonl_must_check;

#endif
