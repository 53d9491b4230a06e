/* SPDX-License-Identifier: MIT */
#include "tools/check.h"

#include <string.h>
#include <time.h>

#include "rules/config.h"
#include "base/reader.h"
#include "json/text.h"

#define LINE_FINDINGS 16 /* of one line; a binary file has many */
#define STILL_SECONDS 2	 /* after so long without growth nobody is appending */
#define LOOK_AGAIN    20 /* milliseconds */

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
	struct jsonl_reader r;
	const struct jsonl_limits *lim;
	const struct jsonl_check *check;
	struct jsonl_check_counts *counts;
	uint64_t to;   /* a line that begins here or later belongs to another part */
	uint64_t line; /* number of the line at start */
	bool last;     /* the line at start is the last to be judged */
	unsigned told; /* findings of this line */
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

/* Reads the next piece. 1; 0: the end, also of a file that was cut meanwhile; -errno. */
static int fill(struct scan *s)
{
	ssize_t n = jsonl_reader_fill(&s->r);

	if (n <= 0)
		return n == -ESTALE ? 0 : (int)n;
	s->counts->bytes += (uint64_t)n;
	if (s->check->progress)
		s->check->progress(s->check->ctx, (uint64_t)n);
	return 1;
}

static void look_again_later(void)
{
	struct timespec pause = {.tv_nsec = LOOK_AGAIN * 1000000L};

	(void)nanosleep(&pause, NULL);
}

/* Waits for the rest of a last line without newline, which somebody may be appending,
 * until the file has not changed for STILL_SECONDS. 1: it has grown; 0: it has not;
 * -errno. */
static int wait_for_more(struct scan *s)
{
	s->last = true;
	for (int i = 0; i < STILL_SECONDS * 1000 / LOOK_AGAIN; i++) {
		struct timespec now;
		struct stat st;
		int rc = s->r.io->fstat(s->r.io, s->r.fd, &st);

		if (rc < 0)
			return rc;
		if ((uint64_t)st.st_size > s->r.size) {
			s->r.size = (uint64_t)st.st_size;
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

/* Reads the next piece, at the end after wait_for_more(). 1; 0: the end; -errno. */
static int fill_or_wait(struct scan *s)
{
	int rc = fill(s);

	while (rc == 0 && s->r.base + s->r.end >= s->r.size) {
		rc = wait_for_more(s);
		if (rc <= 0)
			break;
		rc = fill(s);
	}
	return rc;
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
	uint64_t at = jsonl_reader_offset(&s->r);
	size_t stored =
	    len + 1; /* its length in the file, now or later, with the newline */
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
	return tell(s, JSONL_FINDING_BLANK, JSONL_OK, jsonl_reader_offset(&s->r), len);
}

/* ---- lines with NULs, and lines without end ---- */

/* Steps over a run of NULs, however long. */
static int step_over_nuls(struct scan *s)
{
	uint64_t from = jsonl_reader_offset(&s->r);
	int rc = 1;

	while (rc == 1) {
		s->r.start +=
		    jsonl_reader_nuls(s->r.buf + s->r.start, s->r.end - s->r.start);
		if (s->r.start < s->r.end)
			break;
		rc = fill_or_wait(s);
	}
	if (rc < 0)
		return rc;
	return tell(s, JSONL_FINDING_NUL, JSONL_NUL, from,
		    jsonl_reader_offset(&s->r) - from);
}

/* Returns the number of bytes from start to the next NUL or newline, or to the end of the
 * window. */
static size_t piece_length(const struct scan *s, bool *ends)
{
	const char *p = s->r.buf + s->r.start;
	size_t len = s->r.end - s->r.start;
	const char *stop = memchr(p, '\n', len);
	const char *nul = memchr(p, '\0', stop ? (size_t)(stop - p) : len);

	if (nul)
		stop = nul;
	*ends = stop != NULL;
	return stop ? (size_t)(stop - p) : len;
}

/* Steps over a piece that is longer than any record may be. */
static int step_over_long(struct scan *s)
{
	uint64_t from = jsonl_reader_offset(&s->r);
	bool ends = false;
	int rc = 1;

	while (rc == 1 && !ends) {
		s->r.start += piece_length(s, &ends);
		if (!ends)
			rc = fill_or_wait(s);
	}
	if (rc < 0)
		return rc;
	return tell(s, JSONL_FINDING_TOO_LONG, JSONL_TOO_LONG, from,
		    jsonl_reader_offset(&s->r) - from);
}

/* Judges the bytes between NULs: half a record, or a whole one. */
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
	rc = jsonl_text_check(s->r.buf + s->r.start, len, s->lim->maxdepth, &text);
	if (rc > 0 && rc != JSONL_BLANK)
		rc = tell(s, kind_of(rc, ends), rc,
			  jsonl_reader_offset(&s->r) + text.offset, len);
	else
		rc = 0;
	s->r.start += len;
	return rc;
}

/* Judges a line piece by piece: it has NULs, or is longer than a record. Leaves start
 * behind its newline; *ended: it has none, the file is at its end. */
static int judge_in_pieces(struct scan *s, bool *ended)
{
	int rc = 0;

	while (rc == 0) {
		if (s->r.start == s->r.end) {
			rc = fill_or_wait(s);
			if (rc <= 0) {
				*ended = true;
				return rc;
			}
			rc = 0;
		}
		if (s->r.buf[s->r.start] == '\n') {
			s->r.start++;
			return 0;
		}
		rc = s->r.buf[s->r.start] == '\0' ? step_over_nuls(s) : judge_piece(s);
	}
	return rc;
}

/* ---- the whole ---- */

/* Judges the line of `len` bytes at start. `terminated`: a newline is behind it, else the
 * end of the file.
 */
static int judge_line(struct scan *s, size_t len, bool terminated, bool *ended)
{
	struct jsonl_text text;
	size_t mark = 0;
	int rc;

	s->told = 0;
	s->counts->lines++;
	if (len >= s->lim->maxrecord)
		return judge_in_pieces(s, ended);
	/* The first line of a copy may begin with a byte order mark. */
	if (!jsonl_reader_offset(&s->r))
		mark = jsonl_text_mark(s->r.buf + s->r.start, len);
	rc = jsonl_text_check(s->r.buf + s->r.start + mark, len - mark, s->lim->maxdepth,
			      &text);
	if (rc == JSONL_NUL || (rc > 0 && memchr(s->r.buf + s->r.start, '\0', len)))
		return judge_in_pieces(s, ended);
	if (rc == JSONL_OK)
		rc = judge_record(s, len, terminated, &text);
	else if (rc == JSONL_BLANK)
		rc = judge_blank(s, len);
	else
		rc = tell(s, kind_of(rc, terminated), rc,
			  jsonl_reader_offset(&s->r) + mark + text.offset, len);
	s->r.start += len + terminated;
	return rc;
}

static int judge_lines(struct scan *s)
{
	bool ended = false;
	int rc = 0;

	while (rc == 0 && !ended && jsonl_reader_offset(&s->r) < s->to) {
		size_t len = s->r.end - s->r.start;
		bool newline = jsonl_reader_line(&s->r, &len);

		if (newline || len >= s->lim->maxrecord) {
			/* If it was still being appended, it is the last line. */
			bool last = s->last;

			rc = judge_line(s, len, newline, &ended);
			s->line++;
			s->r.searched = 0;
			ended = ended || last;
			continue;
		}
		rc = len ? fill_or_wait(s) : fill(s);
		if (rc == 0) {
			ended = true;
			len = s->r.end - s->r.start;
			if (len)
				rc = judge_line(s, len, false, &ended);
		} else if (rc > 0) {
			rc = 0;
		}
	}
	return rc;
}

/* Finds the first line that begins in the part; the bytes before it belong to a line of
 * the part before. 1: found; 0: no line begins in it; -errno. */
static int find_first_line(struct scan *s)
{
	ssize_t n = 1;
	size_t len;

	while (!jsonl_reader_line(&s->r, &len)) {
		s->r.start = s->r.end;
		s->r.searched = 0;
		if (jsonl_reader_offset(&s->r) >= s->to)
			return 0;
		n = jsonl_reader_fill(&s->r);
		if (n <= 0)
			return n == -ESTALE ? 0 : (int)n;
	}
	s->r.start += len + 1;
	s->r.searched = 0;
	s->counts->bytes += s->r.end - s->r.start;
	return 1;
}

int jsonl_check_part(const struct jsonl_io *io, int fd, const struct jsonl_limits *limits,
		     const struct jsonl_check *check, const struct jsonl_part *part,
		     struct jsonl_check_counts *counts)
{
	struct scan s = {
	    .lim = limits, .check = check, .counts = counts, .to = part->to, .line = 1};
	/* Reads from the byte before, which may be the newline of the line before. */
	int rc = jsonl_reader_init(&s.r, io, fd, part->from - !!part->from, part->size);

	s.r.soft = part->to;
	if (rc == 0)
		rc = part->from ? find_first_line(&s) : 1;
	if (rc == 1) {
		rc = judge_lines(&s);
		/* Bytes of the next part, or appended since the start, do not count. */
		counts->bytes -= s.r.end - s.r.start;
	}
	jsonl_reader_deinit(&s.r);
	return rc;
}

int jsonl_check_fd(const struct jsonl_io *io, int fd, const struct jsonl_limits *limits,
		   const struct jsonl_check *check, struct jsonl_check_counts *counts)
{
	struct jsonl_part whole = {.to = UINT64_MAX};
	struct stat st;
	int rc = io->fstat(io, fd, &st);

	if (rc < 0)
		return rc;
	whole.size = (uint64_t)st.st_size;
	return jsonl_check_part(io, fd, limits, check, &whole, counts);
}

void jsonl_check_add(struct jsonl_check_counts *to, const struct jsonl_check_counts *from)
{
	to->bytes += from->bytes;
	to->lines += from->lines;
	to->records += from->records;
	to->blank += from->blank;
	to->oversize += from->oversize;
	to->largest = from->largest > to->largest ? from->largest : to->largest;
	for (int i = 0; i < JSONL_FINDING_COUNT; i++)
		to->findings[i] += from->findings[i];
}
