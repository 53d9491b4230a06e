/* A window over a file that moves from front to back and grows only for a line that does
 * not fit: what check and repair, and programs that walk through a damaged file, read
 * with. Reads only, through a descriptor of the caller's. One thread each. */
#ifndef JSONL_READER_H
#define JSONL_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "io.h"

#define JSONL_READER_PIECE                                                               \
	(256U << 10) /* bytes that are read at once: they stay in the cache */

struct jsonl_reader {
	const struct jsonl_io *io;
	int fd;
	char *buf; /* buf[start..end) was read and is not yet used up: the caller moves
		      start */
	size_t start, end, cap;
	size_t searched; /* bytes from start on that hold no newline */
	uint64_t base;	 /* where buf[0] stands in the file */
	uint64_t
	    soft; /* behind this only the rest of a line is read, so in small pieces */
	uint64_t size; /* up to where to read; the caller may raise it */
};

/* Reads from offset `from` up to `size`. 0 or -ENOMEM; pair with _deinit in both cases.
 */
int jsonl_reader_init(struct jsonl_reader *r, const struct jsonl_io *io, int fd,
		      uint64_t from, uint64_t size) jsonl_must_check;
void jsonl_reader_deinit(struct jsonl_reader *r);
/* Reads on; the window may move in memory. The number of bytes, 0 at `size`, -ESTALE when
 * the file has become shorter than that, or -errno. */
ssize_t jsonl_reader_fill(struct jsonl_reader *r) jsonl_must_check;
/* Does the line at start end in the window? Then *len is its length without the newline.
 * What was searched is not searched again: the caller sets r->searched to 0 when it moves
 * start. */
bool jsonl_reader_line(struct jsonl_reader *r, size_t *len);

/* The offset of start in the file. */
static inline uint64_t jsonl_reader_offset(const struct jsonl_reader *r)
{
	return r->base + r->start;
}

/* Length of the run of NULs that p begins with; fast, as after a crash, or in a hole,
 * runs are long. */
size_t jsonl_reader_nuls(const char *p, size_t len);

#endif
