/* SPDX-License-Identifier: MIT */
#include "base/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "file/file.h"

#define PIECE ((size_t)1 << 20)

static size_t piece(off_t left)
{
	return left < (off_t)PIECE ? (size_t)left : PIECE;
}

int fs_same_bytes(const struct jsonl_io *io, int a, int b, off_t from, off_t to)
{
	const size_t size = piece(to - from);
	cleanup_free char *buf = from < to ? malloc(2 * size) : NULL;

	if (from < to && !buf)
		return -ENOMEM;
	while (from < to) {
		const size_t want = piece(to - from);
		ssize_t n = jsonl_io_read_full(io, a, buf, want, from);
		ssize_t k = jsonl_io_read_full(io, b, buf + size, want, from);

		if (n < 0 || k < 0)
			return (int)(n < 0 ? n : k);
		if ((size_t)n < want || (size_t)k < want ||
		    memcmp(buf, buf + size, want) != 0)
			return 0;
		from += n;
	}
	return 1;
}

int fs_compare_bytes(const struct jsonl_io *io, struct jsonl_file *file, int src,
		     off_t from, off_t to)
{
	int rc = fs_same_bytes(io, src, jsonl_file_fd(file), from, to);

	return rc > 0 ? 0 : rc ? rc : -EPERM;
}

int fs_copy_bytes(const struct jsonl_io *io, int from, off_t off, off_t len, int to)
{
	cleanup_free char *buf = malloc(piece(len) + 1);
	int rc = buf ? 0 : -ENOMEM;

	while (!rc && len > 0) {
		size_t want = piece(len);
		ssize_t got = jsonl_io_read_full(io, from, buf, want, off);
		struct iovec iov = {.iov_base = buf,
				    .iov_len = got > 0 ? (size_t)got : 0};
		size_t written;

		if (got <= 0)
			return got ? (int)got : -ESTALE;
		rc = jsonl_io_write_full(io, to, &iov, 1, &written);
		off += got;
		len -= got;
	}
	return rc;
}
