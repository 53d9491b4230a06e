/* SPDX-License-Identifier: MIT */
/* Reads a damaged file, record by record. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jsonl.h"
#include "jsonl_internal.h"
#include "base/reader.h"
#include "json/text.h"

struct jsonl_records {
	struct jsonl_reader r;
	uint64_t line;
	size_t fused;	/* bytes from start on that are whole records on one line */
	bool after_nul; /* the byte before start is a NUL */
	bool too_long;	/* start is in a line that is too long */
};

/* Describes the bytes before the next newline, NUL, or end of the file. */
struct piece {
	size_t len;
	char stop; /* '\n', '\0', or another byte: the end of the file */
};

int jsonl_records_open(const char *path, struct jsonl_records **out)
{
	struct jsonl_records *it = calloc(1, sizeof(*it));
	struct stat st;
	int fd, rc;

	if (!it)
		return -ENOMEM;
	it->line = 1;
	it->r.fd = -1;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	rc = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
	if (rc == 0 && !S_ISREG(st.st_mode))
		rc = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if (rc == 0)
		rc = jsonl_reader_init(&it->r, &jsonl_io_system, fd, 0,
				       (uint64_t)st.st_size);
	it->r.fd = fd;
	if (rc) {
		jsonl_records_close(it);
		return rc;
	}
	*out = it;
	return 0;
}

void jsonl_records_close(struct jsonl_records *it)
{
	if (!it)
		return;
	jsonl_reader_deinit(&it->r);
	if (it->r.fd >= 0)
		close(it->r.fd);
	free(it);
}

/* Takes `len` bytes from the window as the record. Returns `verdict`. */
static int give(struct jsonl_records *it, struct jsonl_record *rec, size_t len,
		int verdict)
{
	rec->data = it->r.buf + it->r.start;
	rec->len = len;
	rec->offset = jsonl_reader_offset(&it->r);
	rec->line = it->line;
	it->r.start += len;
	it->r.searched = 0;
	return verdict;
}

/* Finds the piece at start, or as much as is in the window of one that is too long. 0 or
 * -errno. */
static int find_piece(struct jsonl_records *it, struct piece *p)
{
	for (;;) {
		const char *from = it->r.buf + it->r.start;
		size_t have = it->r.end - it->r.start, searched = it->r.searched;
		const char *stop = memchr(from + searched, '\n', have - searched);
		const char *nul =
		    memchr(from + searched, '\0',
			   stop ? (size_t)(stop - from) - searched : have - searched);
		ssize_t n;

		stop = nul ? nul : stop;
		*p = (struct piece){stop ? (size_t)(stop - from) : have,
				    (char)(stop ? *stop : 'x')};
		if (stop || have >= JSONL_PROGRAM_RECORD)
			return 0;
		it->r.searched = have;
		n = jsonl_reader_fill(&it->r);
		if (n == 0 || n == -ESTALE)
			return 0;
		if (n < 0)
			return (int)n;
	}
}

static int judge(const char *data, size_t len, struct jsonl_text *text)
{
	if (len >= JSONL_PROGRAM_RECORD)
		return JSONL_TOO_LONG;
	return jsonl_text_check(data, len, JSONL_PROGRAM_DEPTH, text);
}

/* Returns true when these bytes are records without a gap, all of them valid. */
static bool are_records(const char *data, size_t len)
{
	while (len) {
		struct jsonl_text text;
		size_t part = len;
		int verdict = judge(data, len, &text);

		if (verdict == JSONL_FUSED)
			part = text.offset;
		if (judge(data, part, &text) != JSONL_OK)
			return false;
		data += part;
		len -= part;
	}
	return true;
}

/* Reads the next of several records on a line. */
static int next_fused(struct jsonl_records *it, struct jsonl_record *rec)
{
	struct jsonl_text text;
	size_t part = it->fused;

	if (judge(it->r.buf + it->r.start, part, &text) == JSONL_FUSED)
		part = text.offset;
	it->fused -= part;
	return give(it, rec, part, JSONL_OK);
}

/* Judges a piece that is not empty. Returns a verdict, JSONL_BLANK for white space. */
static int next_piece(struct jsonl_records *it, struct jsonl_record *rec,
		      const struct piece *p)
{
	const char *data = it->r.buf + it->r.start;
	bool touched = it->after_nul || p->stop == '\0';
	struct jsonl_text text;
	int verdict;

	it->after_nul = false;
	verdict = it->too_long ? JSONL_TOO_LONG : judge(data, p->len, &text);
	if (verdict == JSONL_TOO_LONG)
		it->too_long = true;
	if (verdict == JSONL_FUSED && are_records(data, p->len)) {
		it->fused = p->len;
		return next_fused(it, rec);
	}
	/* A number may be cut off unless a byte other than NUL is before and behind it.
	 */
	if (verdict == JSONL_OK && text.kind == JSONL_KIND_NUMBER &&
	    (touched || (text.can_grow && p->stop != '\n')))
		verdict = JSONL_INCOMPLETE;
	return give(it, rec, p->len, verdict);
}

int jsonl_records_next(struct jsonl_records *it, struct jsonl_record *rec)
{
	*rec = (struct jsonl_record){.line = it->line};
	if (it->fused)
		return next_fused(it, rec);
	for (;;) {
		struct piece p;
		size_t nuls;
		int rc = find_piece(it, &p);

		if (rc < 0)
			return rc;
		if (p.len) {
			rc = next_piece(it, rec, &p);
			if (rc != JSONL_BLANK)
				return rc;
			*rec = (struct jsonl_record){0};
		} else if (p.stop == '\n') {
			it->r.start++;
			it->r.searched = 0;
			it->line++;
			it->after_nul = it->too_long = false;
		} else if (p.stop == '\0') {
			nuls = jsonl_reader_nuls(it->r.buf + it->r.start,
						 it->r.end - it->r.start);
			it->after_nul = true;
			it->too_long = false;
			return give(it, rec, nuls, JSONL_NUL);
		} else {
			rec->data = NULL;
			return 0;
		}
	}
}
