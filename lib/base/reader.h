/* SPDX-License-Identifier: MIT */
/* Reads a file from front to back through a window, which grows only for a line that does
 * not fit. The descriptor belongs to the caller and is only read. One thread at a time.
 */
#ifndef JSONL_READER_H
#define JSONL_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/io.h"

#define JSONL_READER_PIECE                                                               \
	(256U << 10) /* bytes read at once: they stay in the processor's cache */

struct jsonl_reader {
	const struct jsonl_io *io;
	int fd;
	char *buf; /* buf[start..end): read and not used yet; the caller moves start */
	size_t start, end, cap;
	size_t searched; /* bytes behind start that hold no newline */
	uint64_t base;	 /* offset of buf[0] in the file */
	uint64_t soft;	 /* behind this offset it reads in small pieces: it needs only the
			  * rest of   a line */
	uint64_t size;	 /* reads up to this offset; the caller may raise it */
};

/* Prepares to read from offset `from` up to `size`. 0 or -ENOMEM; pair with _deinit in
 * both cases. */
int jsonl_reader_init(struct jsonl_reader *r, const struct jsonl_io *io, int fd,
		      uint64_t from, uint64_t size) jsonl_must_check;
void jsonl_reader_deinit(struct jsonl_reader *r);
/* Reads the next bytes into the window, which may move in memory. Returns their number, 0
 * at `size`, -ESTALE when the file has become shorter than that, or -errno. */
ssize_t jsonl_reader_fill(struct jsonl_reader *r) jsonl_must_check;
/* Returns true when the line at start ends in the window, with its length in *len,
 * newline not counted. Bytes are searched once: a caller that moves start sets
 * r->searched to 0. */
bool jsonl_reader_line(struct jsonl_reader *r, size_t *len);

/* Returns the offset of start in the file. */
static inline uint64_t jsonl_reader_offset(const struct jsonl_reader *r)
{
	return r->base + r->start;
}

/* Returns the length of the run of NULs that p[0..len) begins with. Fast: the runs that a
 * crash or a hole leaves are long. */
size_t jsonl_reader_nuls(const char *p, size_t len);

#endif
