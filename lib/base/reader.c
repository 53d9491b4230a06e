/* SPDX-License-Identifier: MIT */
#include "base/reader.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define REST (16U << 10) /* bytes of one read behind `soft` */

/* Makes room for one piece behind end, first by dropping the bytes before start. */
static int make_room(struct jsonl_reader *r)
{
	if (r->start) {
		memmove(r->buf, r->buf + r->start, r->end - r->start);
		r->base += r->start;
		r->end -= r->start;
		r->start = 0;
	}
	return jsonl_grow(&r->buf, &r->cap, r->end + JSONL_READER_PIECE, 1);
}

int jsonl_reader_init(struct jsonl_reader *r, const struct jsonl_io *io, int fd,
		      uint64_t from, uint64_t size)
{
	*r = (struct jsonl_reader){
	    .io = io, .fd = fd, .base = from, .soft = UINT64_MAX, .size = size};
	return make_room(r);
}

void jsonl_reader_deinit(struct jsonl_reader *r)
{
	free(r->buf);
	r->buf = NULL;
}

static size_t wanted(const struct jsonl_reader *r, uint64_t at)
{
	uint64_t want = JSONL_READER_PIECE;

	if (at >= r->soft)
		want = REST;
	else if (want > r->soft - at)
		want = r->soft - at;
	return (size_t)(want < r->size - at ? want : r->size - at);
}

ssize_t jsonl_reader_fill(struct jsonl_reader *r)
{
	int rc = make_room(r);
	uint64_t at = r->base + r->end;
	size_t want;
	ssize_t n;

	if (rc < 0)
		return rc;
	if (at >= r->size)
		return 0;
	want = wanted(r, at);
	do
		n = r->io->pread(r->io, r->fd, r->buf + r->end, want, (off_t)at);
	while (n == -EINTR);
	if (n > 0)
		r->end += (size_t)n;
	return n ? n : -ESTALE;
}

bool jsonl_reader_line(struct jsonl_reader *r, size_t *len)
{
	size_t have = r->end - r->start;
	const char *newline;

	if (have <= r->searched)
		return false;
	newline = memchr(r->buf + r->start + r->searched, '\n', have - r->searched);
	if (!newline) {
		r->searched = have;
		return false;
	}
	*len = (size_t)(newline - r->buf) - r->start;
	return true;
}

size_t jsonl_reader_nuls(const char *p, size_t len)
{
	size_t n = 0;

	for (uint64_t word[4]; n + sizeof(word) <= len; n += sizeof(word)) {
		memcpy(word, p + n, sizeof(word));
		if (word[0] | word[1] | word[2] | word[3])
			break;
	}
	while (n < len && p[n] == '\0')
		n++;
	return n;
}
