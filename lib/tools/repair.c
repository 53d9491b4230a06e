/* SPDX-License-Identifier: MIT */
#include "tools/repair.h"

#include <string.h>

#include "rules/config.h"
#include "base/reader.h"
#include "json/text.h"

#define MARK	  "\xef\xbb\xbf"
#define LINE_LONG 4 /* a line longer than so many maxrecords is not a line of a log */

static const char *const names[] = {
#define X(id, name) name,
    JSONL_REPAIRS(X)
#undef X
};

const char *jsonl_repair_name(enum jsonl_repair_kind kind)
{
	return names[kind];
}

bool jsonl_repair_is_needed(const struct jsonl_repair_counts *counts)
{
	for (int i = 0; i < JSONL_REPAIR_COUNT; i++)
		if (counts->changes[i])
			return true;
	return false;
}

bool jsonl_repair_is_doubtful(const struct jsonl_repair_counts *counts)
{
	return 2 * counts->alien > 2 * counts->records - counts->scalars;
}

struct pass {
	struct jsonl_reader r;
	const struct jsonl_limits *lim;
	const struct jsonl_repair *repair;
	struct jsonl_repair_counts *counts;
	uint64_t line;
	uint64_t nul_from, nul_length; /* a run of NULs that was not reported yet */
	bool after_nul;		       /* the byte before start is a NUL */
};

/* ---- telling ---- */

static int keep(struct pass *p, const void *data, size_t len)
{
	p->counts->kept += len;
	return p->repair->keep && len ? p->repair->keep(p->repair->ctx, data, len) : 0;
}

static int tell(struct pass *p, const struct jsonl_repair_change *c, const void *data)
{
	p->counts->changes[c->kind]++;
	return p->repair->change ? p->repair->change(p->repair->ctx, c, data) : 0;
}

static int tell_nuls(struct pass *p)
{
	const struct jsonl_repair_change c = {.kind = JSONL_REPAIR_NULS,
					      .line = p->line,
					      .offset = p->nul_from,
					      .length = p->nul_length};

	if (!p->nul_length)
		return 0;
	p->counts->nul_bytes += p->nul_length;
	p->nul_length = 0;
	return tell(p, &c, NULL);
}

static int set_aside(struct pass *p, const char *data, size_t len, int verdict,
		     size_t wrong)
{
	const struct jsonl_repair_change c = {.kind = JSONL_REPAIR_SET_ASIDE,
					      .verdict = verdict,
					      .line = p->line,
					      .offset =
						  p->r.base + (size_t)(data - p->r.buf),
					      .length = len,
					      .wrong = wrong};

	p->counts->set_aside_bytes += len;
	if (verdict != JSONL_INCOMPLETE)
		p->counts->alien++;
	return tell(p, &c, data);
}

/* ---- judging ---- */

static int judge(const struct pass *p, const char *data, size_t len,
		 struct jsonl_text *text)
{
	int verdict;

	*text = (struct jsonl_text){0};
	if (len >= p->lim->maxrecord) {
		text->offset = p->lim->maxrecord;
		return JSONL_TOO_LONG;
	}
	verdict = jsonl_text_check(data, len, p->lim->maxdepth, text);
	if (verdict == JSONL_OK && p->lim->value == JSONL_VALUE_OBJECT &&
	    text->kind != JSONL_KIND_OBJECT)
		return JSONL_NOT_OBJECT;
	if (verdict == JSONL_OK && p->lim->value == JSONL_VALUE_CONTAINER &&
	    text->kind != JSONL_KIND_OBJECT && text->kind != JSONL_KIND_ARRAY)
		return JSONL_NOT_CONTAINER;
	return verdict;
}

static int keep_line(struct pass *p, const char *data, size_t len,
		     const struct jsonl_text *text)
{
	int rc = keep(p, data, len);

	p->counts->records++;
	p->counts->scalars +=
	    text->kind != JSONL_KIND_OBJECT && text->kind != JSONL_KIND_ARRAY;
	return rc ? rc : keep(p, "\n", 1);
}

/* Counts the records that share a line; *parts 0: not all of them are valid. The text
 * check finds where the second one begins; the part before it is judged by itself, since
 * value= and maxrecord apply to each. `write`: keeps the parts. 0 or the result of a
 * callback. */
static int each_part(struct pass *p, const char *data, size_t len, bool write,
		     uint64_t *parts)
{
	int rc = 0;

	*parts = 0;
	while (rc == 0 && len) {
		struct jsonl_text text;
		size_t part = len;
		int verdict = jsonl_text_check(data, len, p->lim->maxdepth, &text);

		if (verdict == JSONL_FUSED)
			part = text.offset;
		if (judge(p, data, part, &text) != JSONL_OK) {
			*parts = 0;
			return 0;
		}
		(*parts)++;
		if (write)
			rc = keep_line(p, data, part, &text);
		data += part;
		len -= part;
	}
	return rc;
}

static int split(struct pass *p, const char *data, size_t len, size_t wrong)
{
	struct jsonl_repair_change c = {.kind = JSONL_REPAIR_SPLIT,
					.line = p->line,
					.offset = p->r.base + (size_t)(data - p->r.buf),
					.length = len};
	uint64_t parts;
	int rc = each_part(p, data, len, false, &parts);

	if (rc)
		return rc;
	if (!parts)
		return set_aside(p, data, len, JSONL_FUSED, wrong);
	c.parts = parts;
	p->counts->split_records += parts;
	rc = tell(p, &c, NULL);
	return rc ? rc : each_part(p, data, len, true, &parts);
}

/* Steps over a byte order mark at the beginning of the file. */
static int step_over_mark(struct pass *p, const char **data, size_t *len)
{
	const struct jsonl_repair_change mark = {
	    .kind = JSONL_REPAIR_BOM, .line = p->line, .length = strlen(MARK)};

	if (p->r.base + (size_t)(*data - p->r.buf) || *len < strlen(MARK) ||
	    memcmp(*data, MARK, strlen(MARK)) != 0)
		return 0;
	*data += strlen(MARK);
	*len -= strlen(MARK);
	return tell(p, &mark, NULL);
}

/* Judges a line, or the bytes of it between NULs (`touched`). `terminated`: a newline
 * follows. */
static int judge_piece(struct pass *p, const char *data, size_t len, bool touched,
		       bool terminated)
{
	struct jsonl_repair_change newline = {.kind = JSONL_REPAIR_NEWLINE,
					      .line = p->line};
	struct jsonl_text text;
	int rc = step_over_mark(p, &data, &len), verdict;

	if (rc)
		return rc;
	newline.offset = p->r.base + (size_t)(data - p->r.buf) + len;
	verdict = judge(p, data, len, &text);
	/* A line too long for a record may be several records. */
	if (verdict == JSONL_TOO_LONG &&
	    jsonl_text_check(data, len, p->lim->maxdepth, &text) == JSONL_FUSED)
		verdict = JSONL_FUSED;
	if (verdict == JSONL_FUSED)
		return split(p, data, len, text.offset);
	/* White space between NULs is removed with them; a blank line stays. */
	if (verdict == JSONL_BLANK) {
		rc = touched ? 0 : keep(p, data, len);
		return rc || touched || !terminated ? rc : keep(p, "\n", 1);
	}
	/* A number may be cut off unless a byte other than NUL is before and behind it.
	 */
	if (verdict == JSONL_OK && text.kind == JSONL_KIND_NUMBER &&
	    (touched || (text.can_grow && !terminated)))
		return set_aside(p, data, len, JSONL_INCOMPLETE, len);
	if (verdict != JSONL_OK)
		return set_aside(p, data, len, verdict, text.offset);
	rc = keep_line(p, data, len, &text);
	if (rc == 0 && !terminated && !touched)
		rc = tell(p, &newline, NULL);
	return rc;
}

/* Returns the length of the run of NULs, or of other bytes, that `data` begins with. */
static size_t run_length(const char *data, size_t len, bool nuls)
{
	const char *stop;

	if (nuls)
		return jsonl_reader_nuls(data, len);
	stop = memchr(data, '\0', len);
	return stop ? (size_t)(stop - data) : len;
}

/* Adds the NULs at start to the run that was not reported yet. They are not kept in
 * memory: a run may be as long as the disk. */
static void step_over_nuls(struct pass *p)
{
	size_t n = run_length(p->r.buf + p->r.start, p->r.end - p->r.start, true);

	if (!n)
		return;
	if (!p->nul_length)
		p->nul_from = jsonl_reader_offset(&p->r);
	p->nul_length += n;
	p->after_nul = true;
	p->r.start += n;
}

/* Judges the line of `len` bytes at start, which does not begin with a NUL. */
static int judge_line(struct pass *p, size_t len, bool terminated)
{
	size_t done = 0;
	int rc = tell_nuls(p);

	while (rc == 0 && done < len) {
		const char *data = p->r.buf + p->r.start + done;
		size_t piece = run_length(data, len - done, false);
		size_t nuls = run_length(data + piece, len - done - piece, true);
		bool touched = p->after_nul || nuls;

		rc = judge_piece(p, data, piece, touched, terminated);
		done += piece + nuls;
		if (rc == 0 && nuls) {
			p->nul_from = jsonl_reader_offset(&p->r) + done - nuls;
			p->nul_length = nuls;
			p->after_nul = true;
			/* A run at the end of the window may continue in the next piece.
			 */
			if (done < len || terminated)
				rc = tell_nuls(p);
		}
	}
	p->r.start += len;
	return rc;
}

/* Judges the bytes before the last NUL in the window, so that a line with NULs takes no
 * more memory than a record. */
static int judge_up_to_nul(struct pass *p)
{
	const char *nul = memrchr(p->r.buf + p->r.start, '\0', p->r.end - p->r.start);

	return nul ? judge_line(p, (size_t)(nul + 1 - (p->r.buf + p->r.start)), false)
		   : 0;
}

/* ---- reading ---- */

/* Reads the next piece. Returns its length; 0 at the end; -1 with *rc: -errno (-ESTALE:
 * the file was cut meanwhile, so all results are void) or the result of a callback. */
static ssize_t fill(struct pass *p, int *rc)
{
	ssize_t n = jsonl_reader_fill(&p->r);

	*rc = n < 0 ? (int)n : 0;
	if (n > 0) {
		p->counts->bytes += (uint64_t)n;
		if (p->repair->progress)
			*rc = p->repair->progress(p->repair->ctx, (uint64_t)n);
	}
	return *rc ? -1 : n;
}

/* Ends an empty line. A newline behind NULs alone belongs to a destroyed line and goes
 * with them. */
static int end_line(struct pass *p)
{
	int rc = 0;

	if (p->after_nul)
		rc = tell_nuls(p);
	else
		rc = keep(p, "\n", 1);
	return rc;
}

static int read_all(struct pass *p)
{
	bool ended = false;
	int rc = 0;

	while (rc == 0) {
		size_t len;

		if (!p->r.searched)
			step_over_nuls(p);
		if (jsonl_reader_line(&p->r, &len)) {
			rc = len ? judge_line(p, len, true) : end_line(p);
			p->r.start++;
			p->r.searched = 0;
			p->line++;
			p->after_nul = false;
			continue;
		}
		if (ended)
			break;
		/* Bytes before a NUL are complete: nothing is joined across it. */
		rc = judge_up_to_nul(p);
		p->r.searched = p->r.end - p->r.start;
		if (rc)
			break;
		if (p->r.searched > LINE_LONG * p->lim->maxrecord + JSONL_READER_PIECE)
			return JSONL_TOO_LONG;
		ended = fill(p, &rc) == 0;
	}
	if (rc == 0 && p->r.end > p->r.start)
		rc = judge_line(p, p->r.end - p->r.start, false);
	return rc ? rc : tell_nuls(p);
}

int jsonl_repair_fd(const struct jsonl_io *io, int fd, const struct jsonl_limits *limits,
		    const struct jsonl_repair *repair, struct jsonl_repair_counts *counts)
{
	struct pass p = {.lim = limits, .repair = repair, .counts = counts, .line = 1};
	struct stat st;
	int rc;

	*counts = (struct jsonl_repair_counts){0};
	rc = io->fstat(io, fd, &st);
	if (rc < 0)
		return rc;
	rc = jsonl_reader_init(&p.r, io, fd, 0,
			       repair->upto ? repair->upto : (uint64_t)st.st_size);
	if (rc == 0)
		rc = read_all(&p);
	jsonl_reader_deinit(&p.r);
	return rc;
}
