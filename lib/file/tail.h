/* SPDX-License-Identifier: MIT */
/* Judges what a crash, or a program beside the mount, left at the end of a log. Only
 * reads; any thread. */
#ifndef JSONL_TAIL_H
#define JSONL_TAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"

enum jsonl_tail_state {
	JSONL_TAIL_CLEAN,   /* empty, or ends with a newline and not with a hole */
	JSONL_TAIL_VALID,   /* a whole value without its newline, not a bare number */
	JSONL_TAIL_TORN,    /* half a record, half a character, NULs, or whole lines with
			     * NULs in them (holes): hidden from readers */
	JSONL_TAIL_UNKNOWN, /* longer than maxrecord, or in a file that is not JSON Lines */
};

struct jsonl_tail {
	enum jsonl_tail_state state;
	off_t size;    /* of the backing file, as inspected */
	off_t start;   /* where the tail begins: behind the last line that stays */
	off_t visible; /* what readers are shown */
	int verdict;   /* why it is torn */
};

/* Judges the end of the file open as `fd`, whose size is `size` (from fstat). Reads the last
 * line, the run of holes that ends there and the line before, bounded by a few times
 * maxrecord. 0; -ESTALE: the file was cut meanwhile; another -errno. */
int jsonl_tail_inspect(const struct jsonl_io *io, int fd, off_t size, uint64_t maxrecord,
		       unsigned maxdepth, struct jsonl_tail *tail) jsonl_must_check;

#endif
