#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "config.h"
#include "text.h"

#define PIECE	      (256U << 10) /* bytes that are read at once: they stay in the cache */
#define LINE_FINDINGS 16	   /* told of one line; a binary file would have no end */
#define STILL_SECONDS 2		   /* a tail that has not grown for so long is the end */
#define LOOK_AGAIN    20	   /* milliseconds */

static const struct {
	const char *name;
	const char *text;
	bool note;
} kinds[] = {
#define X(id, name, note, text) {name, text, note},
    JSONL_FINDINGS(X)
#undef X
};

const char *jsonl_finding_name(enum jsonl_finding_kind kind)
{
	return kinds[kind].name;
}

const char *jsonl_finding_text(enum jsonl_finding_kind kind)
{
	return kinds[kind].text;
}

bool jsonl_finding_is_note(enum jsonl_finding_kind kind)
{
	return kinds[kind].note;
}

uint64_t jsonl_check_damage(const struct jsonl_check_counts *counts)
{
	uint64_t sum = 0;

	for (int i = 0; i < JSONL_FINDING_COUNT; i++)
		sum += kinds[i].note ? 0 : counts->findings[i];
	return sum;
}

struct scan {
	const struct jsonl_io *io;
	int fd;
	const struct jsonl_limits *lim;
	const struct jsonl_check *check;
	struct jsonl_check_counts *counts;
	char *buf;
	size_t start, end, cap; /* buf[start..end) was read and not yet judged */
	size_t searched;	/* bytes from start on that hold no newline */
	uint64_t base;		/* where buf[0] stands in the file */
	uint64_t size;		/* up to where to read */
	uint64_t line;		/* number of the line at start */
	bool last;		/* the line at start is the last that is looked at */
	unsigned told;		/* findings of this line */
};

static int tell(struct scan *s, enum jsonl_finding_kind kind, int verdict,
		uint64_t offset, uint64_t length)
{
	const struct jsonl_finding f = {
	    .kind = kind,
	    .verdict = verdict,
	    .line = s->line,
	    .offset = offset,
	    .length = length,
	};

	if (++s->told > LINE_FINDINGS)
		return 0;
	s->counts->findings[kind]++;
	return s->check->finding ? s->check->finding(s->check->ctx, &f) : 0;
}

/* ---- reading ---- */

/* Room for at least one byte more behind end; what is judged already makes way first. */
static int make_room(struct scan *s)
{
	size_t cap;
	char *grown;

	if (s->start) {
		memmove(s->buf, s->buf + s->start, s->end - s->start);
		s->base += s->start;
		s->end -= s->start;
		s->start = 0;
	}
	if (s->end + PIECE <= s->cap)
		return 0;
	cap = s->cap ? s->cap * 2 : 2 * (size_t)PIECE;
	grown = realloc(s->buf, cap);
	if (!grown)
		return -ENOMEM;
	s->buf = grown;
	s->cap = cap;
	return 0;
}

/* Reads on. The number of bytes, 0 at the end, or -errno. */
static ssize_t fill(struct scan *s)
{
	uint64_t at;
	size_t want = PIECE;
	ssize_t n;
	int rc = make_room(s);

	if (rc < 0)
		return rc;
	at = s->base + s->end;
	if (at >= s->size)
		return 0;
	if (want > s->size - at)
		want = (size_t)(s->size - at);
	do
		n = s->io->pread(s->io, s->fd, s->buf + s->end, want, (off_t)at);
	while (n == -EINTR);
	if (n > 0) {
		s->end += (size_t)n;
		s->counts->bytes += (uint64_t)n;
		if (s->check->progress)
			s->check->progress(s->check->ctx, (uint64_t)n);
	}
	return n;
}

static void look_again_later(void)
{
	struct timespec pause = {.tv_nsec = LOOK_AGAIN * 1000000L};

	(void)nanosleep(&pause, NULL);
}

/* The file ends without a newline: somebody may be appending. Waits for more until the
 * file has been still for a while. 1: there is more to read; 0: that was all; or -errno.
 */
static int wait_for_more(struct scan *s)
{
	s->last = true;
	for (int i = 0; i < STILL_SECONDS * 1000 / LOOK_AGAIN; i++) {
		struct timespec now;
		struct stat st;
		int rc = s->io->fstat(s->io, s->fd, &st);

		if (rc < 0)
			return rc;
		if ((uint64_t)st.st_size > s->size) {
			s->size = (uint64_t)st.st_size;
			return 1;
		}
		clock_gettime(CLOCK_REALTIME, &now);
		if (now.tv_sec < st.st_mtim.tv_sec ||
		    now.tv_sec - st.st_mtim.tv_sec > STILL_SECONDS)
			return 0;
		look_again_later();
	}
	return 0;
}

/* fill(), and at the end wait_for_more(). 1: something was read; 0: the end; or -errno.
 */
static int fill_or_wait(struct scan *s)
{
	for (;;) {
		ssize_t n = fill(s);
		int rc;

		if (n != 0)
			return n < 0 ? (int)n : 1;
		/* Cut under our eyes, or really the end. */
		if (s->base + s->end < s->size)
			return 0;
		rc = wait_for_more(s);
		if (rc <= 0)
			return rc;
	}
}

/* ---- judging ---- */

static enum jsonl_finding_kind kind_of(int verdict, bool terminated)
{
	switch (verdict) {
	case JSONL_INCOMPLETE:
		return terminated ? JSONL_FINDING_HALF : JSONL_FINDING_TORN_TAIL;
	case JSONL_FUSED:
		return JSONL_FINDING_FUSED;
	case JSONL_BAD_UTF8:
		return JSONL_FINDING_UTF8;
	default:
		return JSONL_FINDING_INVALID;
	}
}

static int judge_record(struct scan *s, size_t len, bool terminated,
			const struct jsonl_text *text)
{
	uint64_t at = s->base + s->start;
	size_t stored = len + 1; /* as it is, or will be, with its newline */
	int rc = 0;

	if (s->lim->value == JSONL_VALUE_OBJECT && text->kind != JSONL_KIND_OBJECT)
		return tell(s, JSONL_FINDING_VALUE, JSONL_NOT_OBJECT, at, len);
	if (s->lim->value == JSONL_VALUE_CONTAINER && text->kind != JSONL_KIND_OBJECT &&
	    text->kind != JSONL_KIND_ARRAY)
		return tell(s, JSONL_FINDING_VALUE, JSONL_NOT_CONTAINER, at, len);
	s->counts->records++;
	if (stored > s->counts->largest)
		s->counts->largest = stored;
	if (stored >= s->lim->pipebuf && s->lim->oversize != JSONL_OVERSIZE_ALLOW) {
		s->counts->oversize++;
		rc = tell(s, JSONL_FINDING_OVERSIZE, JSONL_OK, at, stored);
	}
	if (rc == 0 && !terminated)
		rc = tell(s,
			  text->can_grow ? JSONL_FINDING_UNFINISHED
					 : JSONL_FINDING_NO_NEWLINE,
			  JSONL_OK, at + len, 0);
	return rc;
}

static int judge_blank(struct scan *s, size_t len)
{
	s->counts->blank++;
	if (s->lim->blank == JSONL_BLANK_KEEP)
		return 0;
	return tell(s, JSONL_FINDING_BLANK, JSONL_OK, s->base + s->start, len);
}

/* ---- lines with NULs, and lines without end ---- */

/* Length of the run of NULs at p. By words: after a crash, or in a hole, runs are long.
 */
static size_t nul_length(const char *p, size_t len)
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

/* Steps over a run of NULs, however long. */
static int step_over_nuls(struct scan *s)
{
	uint64_t from = s->base + s->start;
	int rc = 1;

	while (rc == 1) {
		s->start += nul_length(s->buf + s->start, s->end - s->start);
		if (s->start < s->end)
			break;
		rc = fill_or_wait(s);
	}
	if (rc < 0)
		return rc;
	return tell(s, JSONL_FINDING_NUL, JSONL_NUL, from, s->base + s->start - from);
}

/* Bytes from start to the next NUL or newline, as far as they are read. */
static size_t piece_length(const struct scan *s, bool *ends)
{
	const char *p = s->buf + s->start;
	size_t len = s->end - s->start;
	const char *stop = memchr(p, '\n', len);
	const char *nul = memchr(p, '\0', stop ? (size_t)(stop - p) : len);

	if (nul)
		stop = nul;
	*ends = stop != NULL;
	return stop ? (size_t)(stop - p) : len;
}

/* Steps over the rest of a piece that is longer than any record may be. */
static int step_over_long(struct scan *s)
{
	uint64_t from = s->base + s->start;
	bool ends = false;
	int rc = 1;

	while (rc == 1 && !ends) {
		s->start += piece_length(s, &ends);
		if (!ends)
			rc = fill_or_wait(s);
	}
	if (rc < 0)
		return rc;
	return tell(s, JSONL_FINDING_TOO_LONG, JSONL_TOO_LONG, from,
		    s->base + s->start - from);
}

/* What stands between NULs: perhaps half a record, perhaps a whole one. */
static int judge_piece(struct scan *s)
{
	struct jsonl_text text;
	bool ends = false;
	size_t len;
	int rc = 1;

	len = piece_length(s, &ends);
	while (!ends && len < s->lim->maxrecord && (rc = fill_or_wait(s)) == 1)
		len = piece_length(s, &ends);
	if (rc < 0)
		return rc;
	if (len >= s->lim->maxrecord)
		return step_over_long(s);
	rc = jsonl_text_check(s->buf + s->start, len, s->lim->maxdepth, &text);
	if (rc > 0 && rc != JSONL_BLANK)
		rc =
		    tell(s, kind_of(rc, ends), rc, s->base + s->start + text.offset, len);
	else
		rc = 0;
	s->start += len;
	return rc;
}

/* A line that cannot be judged as a whole. Leaves start behind its newline; *ended: there
 * is none, the file is at its end. */
static int judge_in_pieces(struct scan *s, bool *ended)
{
	int rc = 0;

	while (rc == 0) {
		if (s->start == s->end) {
			rc = fill_or_wait(s);
			if (rc <= 0) {
				*ended = true;
				return rc;
			}
			rc = 0;
		}
		if (s->buf[s->start] == '\n') {
			s->start++;
			return 0;
		}
		rc = s->buf[s->start] == '\0' ? step_over_nuls(s) : judge_piece(s);
	}
	return rc;
}

/* ---- the whole ---- */

/* The line of `len` bytes at start, which ends with a newline or, not terminated, with
 * the file. */
static int judge_line(struct scan *s, size_t len, bool terminated, bool *ended)
{
	struct jsonl_text text;
	int rc;

	s->told = 0;
	s->counts->lines++;
	if (len >= s->lim->maxrecord)
		return judge_in_pieces(s, ended);
	rc = jsonl_text_check(s->buf + s->start, len, s->lim->maxdepth, &text);
	if (rc == JSONL_NUL || (rc > 0 && memchr(s->buf + s->start, '\0', len)))
		return judge_in_pieces(s, ended);
	if (rc == JSONL_OK)
		rc = judge_record(s, len, terminated, &text);
	else if (rc == JSONL_BLANK)
		rc = judge_blank(s, len);
	else
		rc = tell(s, kind_of(rc, terminated), rc,
			  s->base + s->start + text.offset, len);
	s->start += len + terminated;
	return rc;
}

static int judge_all(struct scan *s)
{
	bool ended = false;
	int rc = 0;

	while (rc == 0 && !ended) {
		const char *from = s->buf + s->start;
		const char *newline =
		    memchr(from + s->searched, '\n', s->end - s->start - s->searched);

		if (newline || s->end - s->start >= s->lim->maxrecord) {
			size_t len =
			    newline ? (size_t)(newline - from) : s->end - s->start;
			/* The line that was being appended is looked at, nothing after
			 * it. */
			bool last = s->last;

			rc = judge_line(s, len, newline, &ended);
			s->line++;
			s->searched = 0;
			ended = ended || last;
			continue;
		}
		s->searched = s->end - s->start;
		rc = s->searched ? fill_or_wait(s) : (int)fill(s);
		if (rc == 0) {
			ended = true;
			if (s->end > s->start)
				rc = judge_line(s, s->end - s->start, false, &ended);
		} else if (rc > 0) {
			rc = 0;
		}
	}
	return rc;
}

int jsonl_check_fd(const struct jsonl_io *io, int fd, const struct jsonl_limits *limits,
		   const struct jsonl_check *check, struct jsonl_check_counts *counts)
{
	struct scan s = {
	    .io = io,
	    .fd = fd,
	    .lim = limits,
	    .check = check,
	    .counts = counts,
	    .line = 1,
	};
	struct stat st;
	int rc;

	rc = io->fstat(io, fd, &st);
	if (rc < 0)
		return rc;
	s.size = (uint64_t)st.st_size;
	rc = make_room(&s);
	if (rc == 0)
		rc = judge_all(&s);
	counts->bytes -= s.end - s.start; /* appended after we began */
	free(s.buf);
	return rc;
}
