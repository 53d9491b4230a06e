/* SPDX-License-Identifier: MIT */
#include "file/tail.h"

#include <string.h>

#include "base/cleanup.h"
#include "json/text.h"

/* The beginning of a tail is searched for in so many maxrecords. A longer one is not
 * half a record but another kind of file. */
#define TAIL_SEARCH 4

/* The page before an offset, as it was read last: the end of the last line and the newline
 * in front of it usually share one. */
struct window {
	const struct jsonl_io *io;
	int fd;
	off_t at;   /* where buf begins */
	size_t len; /* bytes in buf; 0: nothing was read yet */
	char buf[4096];
};

/* Gives the bytes before `end`, at least one and at most a page: *len of them from *data
 * on. 0 or -errno; -ESTALE: the file was cut meanwhile, and the caller inspects anew. */
static int window_before(struct window *w, off_t end, const char **data, size_t *len)
{
	if (!w->len || end <= w->at || end > w->at + (off_t)w->len) {
		size_t n = end < (off_t)sizeof(w->buf) ? (size_t)end : sizeof(w->buf);
		ssize_t got =
		    jsonl_io_read_full(w->io, w->fd, w->buf, n, end - (off_t)n);

		w->len = 0;
		if (got < 0)
			return (int)got;
		if ((size_t)got < n)
			return -ESTALE;
		w->at = end - (off_t)n;
		w->len = n;
	}
	*data = w->buf;
	*len = (size_t)(end - w->at);
	return 0;
}

/* Finds where the line that ends at `end` begins: after the last newline before it.
 * *start is -1 when there is none within `max` bytes and the file goes on. *nul: the line
 * holds a NUL byte. */
static int find_line_start(struct window *w, off_t end, uint64_t max, off_t *start,
			   bool *nul)
{
	off_t at = end;

	*nul = false;
	while (at > 0) {
		const char *data = NULL, *nl, *line;
		size_t n = 0;
		int rc = window_before(w, at, &data, &n);

		if (rc)
			return rc;
		nl = memrchr(data, '\n', n);
		line = nl ? nl + 1 : data;
		*nul |= memchr(line, '\0', n - (size_t)(line - data)) != NULL;
		at -= (off_t)(n - (size_t)(line - data));
		if (nl) {
			*start = at;
			return 0;
		}
		if ((uint64_t)(end - at) > max) {
			*start = -1;
			return 0;
		}
	}
	*start = 0;
	return 0;
}

static int read_range(struct window *w, off_t start, off_t end, char **buf)
{
	size_t len = (size_t)(end - start);
	cleanup_free char *mem = malloc(len ? len : 1);
	ssize_t got;

	if (!mem)
		return -ENOMEM;
	got = jsonl_io_read_full(w->io, w->fd, mem, len, start);
	if (got < 0)
		return (int)got;
	if ((size_t)got < len)
		return -ESTALE;
	*buf = steal_ptr(&mem);
	return 0;
}

/* Checks the line that begins at `at`. The first of a file may have a byte order mark. */
static int line_check(const char *line, size_t len, off_t at, unsigned maxdepth,
		      struct jsonl_text *text)
{
	size_t mark = at ? 0 : jsonl_text_mark(line, len);

	return jsonl_text_check(line + mark, len - mark, maxdepth, text);
}

/* Returns true when the line that ends with the newline at end - 1 is a record or blank.
 * Behind any other line nothing is cut: the file may not be a log at all. */
static int line_before_is_json(struct window *w, off_t end, uint64_t maxrecord,
			       unsigned maxdepth, bool *json)
{
	cleanup_free char *line = NULL;
	struct jsonl_text text;
	off_t start;
	bool nul;
	int rc = find_line_start(w, end - 1, maxrecord, &start, &nul);

	*json = false;
	if (rc || start < 0 || nul)
		return rc;
	rc = read_range(w, start, end - 1, &line);
	if (rc)
		return rc;
	rc = line_check(line, (size_t)(end - 1 - start), start, maxdepth, &text);
	*json = rc == JSONL_OK || rc == JSONL_BLANK;
	return 0;
}

/* Steps back over whole lines that hold a NUL, from the line that begins at `from`: a crash
 * that wrote the blocks of a batch out of order leaves NULs, the rest of the batch and its
 * newline. *start is where the first of them begins, or `from`. At most `max` bytes are
 * looked at; -1: there may be more. */
static int step_over_holes(struct window *w, off_t from, uint64_t max, off_t *start)
{
	off_t at = from;

	*start = from;
	while (at > 0) {
		off_t line;
		bool nul;
		int rc = find_line_start(w, at - 1, max, &line, &nul);

		if (rc)
			return rc;
		/* A long line is searched to its beginning only when it may be a hole. */
		if (line < 0 || (uint64_t)(from - at) > max) {
			*start = nul ? -1 : at;
			return 0;
		}
		if (!nul)
			break;
		at = line;
	}
	*start = at;
	return 0;
}

/* The first line of a file has no line before it to vouch for it: it must itself look
 * like the beginning of a record, perhaps followed by the NULs that ext4 leaves. */
static bool looks_cut(const char *tail, size_t len, unsigned maxdepth)
{
	struct jsonl_text text;
	int verdict;

	while (len && tail[len - 1] == '\0')
		len--;
	verdict = line_check(tail, len, 0, maxdepth, &text);
	return verdict == JSONL_OK || verdict == JSONL_INCOMPLETE ||
	       verdict == JSONL_BLANK;
}

/* Judges the last line, which has no newline. *known: it looks like a torn record, so
 * that it may be cut even if no line stands before it. */
static int judge_last(struct window *w, unsigned maxdepth, struct jsonl_tail *tail,
		      bool *known)
{
	cleanup_free char *bytes = NULL;
	size_t len = (size_t)(tail->size - tail->start);
	struct jsonl_text text;
	int rc = read_range(w, tail->start, tail->size, &bytes);

	if (rc)
		return rc;
	tail->verdict = line_check(bytes, len, tail->start, maxdepth, &text);
	if (tail->verdict == JSONL_OK && !text.can_grow)
		tail->state = JSONL_TAIL_VALID;
	else if (tail->verdict == JSONL_OK)
		tail->verdict = JSONL_INCOMPLETE;
	*known = looks_cut(bytes, len, maxdepth);
	return 0;
}

/* Decides whether the bytes from `start` on are a torn end: a record or a blank line must
 * stand before it. */
static int judge_before(struct window *w, off_t start, bool known, uint64_t maxrecord,
			unsigned maxdepth, struct jsonl_tail *tail)
{
	int rc = 0;

	if (start > 0)
		rc = line_before_is_json(w, start, maxrecord, maxdepth, &known);
	if (rc || start < 0 || !known)
		return rc;
	tail->state = JSONL_TAIL_TORN;
	tail->start = tail->visible = start;
	return 0;
}

int jsonl_tail_inspect(const struct jsonl_io *io, int fd, off_t size, uint64_t maxrecord,
		       unsigned maxdepth, struct jsonl_tail *tail)
{
	const uint64_t search = maxrecord * TAIL_SEARCH;
	struct window w = {.io = io, .fd = fd};
	bool nul, known = false, whole;
	off_t start, holes;
	int rc;

	*tail = (struct jsonl_tail){
	    .state = JSONL_TAIL_CLEAN, .size = size, .start = size, .visible = size};
	if (!size)
		return 0;
	rc = find_line_start(&w, size, search, &start, &nul);
	if (rc)
		return rc;
	whole = start == size; /* the file ends with a newline */
	if (!whole) {
		tail->state = JSONL_TAIL_UNKNOWN;
		tail->verdict = JSONL_UNKNOWN_TAIL;
		if (start < 0)
			return 0;
		tail->start = start;
		if ((uint64_t)(size - start) > maxrecord) {
			/* Too long to be judged. If a log stands before it, it is half a
			 * record all the same. */
			rc = start ? line_before_is_json(&w, start, maxrecord, maxdepth,
							 &known)
				   : 0;
			if (!rc && known)
				tail->visible = start;
			return rc;
		}
		rc = judge_last(&w, maxdepth, tail, &known);
		if (rc || tail->state == JSONL_TAIL_VALID)
			return rc;
	}
	rc = step_over_holes(&w, start, search, &holes);
	if (rc || (whole && holes == start))
		return rc;
	if (holes != start && !holes)
		known = false; /* nothing before it says that this is a log */
	if (whole)
		tail->verdict = JSONL_NUL;
	return judge_before(&w, holes, known, maxrecord, maxdepth, tail);
}
