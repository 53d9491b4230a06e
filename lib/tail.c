#include "tail.h"

#include <string.h>

#include "cleanup.h"
#include "text.h"

/* How far back the beginning of a tail is searched for, in maxrecords: beyond that it is
 * not half a record but another kind of file. */
#define TAIL_SEARCH 4

/* Finds where the line that ends at `end` begins: after the last newline before it.
 * *start is -1 when there is none within `max` bytes and the file goes on. */
static int find_line_start(const struct jsonl_io *io, int fd, off_t end, uint64_t max,
			   off_t *start)
{
	char buf[4096];
	off_t at = end;

	while (at > 0) {
		size_t n = at < (off_t)sizeof(buf) ? (size_t)at : sizeof(buf);
		ssize_t got = jsonl_io_read_full(io, fd, buf, n, at - (off_t)n);
		const char *nl;

		if (got < 0)
			return (int)got;
		if ((size_t)got < n)
			return -ESTALE; /* cut under our eyes: the caller asks again */
		nl = memrchr(buf, '\n', n);
		if (nl) {
			*start = at - (off_t)n + (nl - buf) + 1;
			return 0;
		}
		at -= (off_t)n;
		if ((uint64_t)(end - at) > max) {
			*start = -1;
			return 0;
		}
	}
	*start = 0;
	return 0;
}

static int read_range(const struct jsonl_io *io, int fd, off_t start, off_t end,
		      char **buf)
{
	size_t len = (size_t)(end - start);
	cleanup_free char *mem = malloc(len ? len : 1);
	ssize_t got;

	if (!mem)
		return -ENOMEM;
	got = jsonl_io_read_full(io, fd, mem, len, start);
	if (got < 0)
		return (int)got;
	if ((size_t)got < len)
		return -ESTALE;
	*buf = steal_ptr(&mem);
	return 0;
}

/* Is the line that ends with the newline at end - 1 a record or blank? A tail behind
 * anything else is not ours to judge. */
static int line_before_is_json(const struct jsonl_io *io, int fd, off_t end,
			       uint64_t maxrecord, unsigned maxdepth, bool *json)
{
	cleanup_free char *line = NULL;
	struct jsonl_text text;
	off_t start;
	int rc = find_line_start(io, fd, end - 1, maxrecord, &start);

	*json = false;
	if (rc || start < 0)
		return rc;
	rc = read_range(io, fd, start, end - 1, &line);
	if (rc)
		return rc;
	rc = jsonl_text_check(line, (size_t)(end - 1 - start), maxdepth, &text);
	*json = rc == JSONL_OK || rc == JSONL_BLANK;
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
	verdict = jsonl_text_check(tail, len, maxdepth, &text);
	return verdict == JSONL_OK || verdict == JSONL_INCOMPLETE ||
	       verdict == JSONL_BLANK;
}

int jsonl_tail_inspect(const struct jsonl_io *io, int fd, off_t size, uint64_t maxrecord,
		       unsigned maxdepth, struct jsonl_tail *tail)
{
	cleanup_free char *bytes = NULL;
	struct jsonl_text text;
	off_t start;
	bool known;
	int rc;

	*tail = (struct jsonl_tail){
	    .state = JSONL_TAIL_CLEAN, .size = size, .start = size, .visible = size};
	if (!size)
		return 0;
	rc = find_line_start(io, fd, size, maxrecord * TAIL_SEARCH, &start);
	if (rc || start == size)
		return rc;
	tail->state = JSONL_TAIL_UNKNOWN;
	tail->verdict = JSONL_UNKNOWN_TAIL;
	if (start < 0)
		return 0;
	tail->start = start;
	if ((uint64_t)(size - start) > maxrecord) {
		/* Too long to be judged; half a record all the same if a log is before
		 * it. */
		rc = start
			 ? line_before_is_json(io, fd, start, maxrecord, maxdepth, &known)
			 : 0;
		if (!rc && start && known)
			tail->visible = start;
		return rc;
	}
	rc = read_range(io, fd, start, size, &bytes);
	if (rc)
		return rc;
	tail->verdict = jsonl_text_check(bytes, (size_t)(size - start), maxdepth, &text);
	if (tail->verdict == JSONL_OK && !text.can_grow) {
		tail->state = JSONL_TAIL_VALID;
		return 0;
	}
	if (start)
		rc = line_before_is_json(io, fd, start, maxrecord, maxdepth, &known);
	else
		known = looks_cut(bytes, (size_t)size, maxdepth);
	if (rc || !known)
		return rc;
	tail->state = JSONL_TAIL_TORN;
	if (tail->verdict == JSONL_OK)
		tail->verdict = JSONL_INCOMPLETE;
	tail->visible = start;
	return 0;
}
