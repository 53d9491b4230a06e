#include "repair.h"

#include <string.h>

#include "config.h"
#include "reader.h"
#include "text.h"

#define LINE_LONG 4 /* maxrecords after which it is no line any more */

static const struct {
	const char *name;
	const char *text;
} kinds[] = {
#define X(id, name, text) {name, text},
    JSONL_REPAIRS(X)
#undef X
};

const char *jsonl_repair_name(enum jsonl_repair_kind kind)
{
	return kinds[kind].name;
}

const char *jsonl_repair_text(enum jsonl_repair_kind kind)
{
	return kinds[kind].text;
}

bool jsonl_repair_is_needed(const struct jsonl_repair_counts *counts)
{
	for (int i = 0; i < JSONL_REPAIR_COUNT; i++)
		if (counts->changes[i])
			return true;
	return false;
}

struct pass {
	struct jsonl_reader r;
	const struct jsonl_limits *lim;
	const struct jsonl_repair *repair;
	struct jsonl_repair_counts *counts;
	uint64_t line;
	uint64_t nul_from, nul_length; /* a run that is not told yet */
	bool after_nul;		       /* what comes touches a NUL */
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

static int keep_line(struct pass *p, const char *data, size_t len)
{
	int rc = keep(p, data, len);

	p->counts->records++;
	return rc ? rc : keep(p, "\n", 1);
}

/* How many records share this line? 0: not every one of them is valid. The text check
 * says where the second begins; the part before it is judged again by itself, as value=
 * and maxrecord apply to each. With `write` the parts are kept. */
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
			rc = keep_line(p, data, part);
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

/* A line, or what stands on it between NULs. `terminated`: a newline follows. */
static int judge_piece(struct pass *p, const char *data, size_t len, bool touched,
		       bool terminated)
{
	const struct jsonl_repair_change newline = {
	    .kind = JSONL_REPAIR_NEWLINE,
	    .line = p->line,
	    .offset = p->r.base + (size_t)(data - p->r.buf) + len};
	struct jsonl_text text;
	int verdict = judge(p, data, len, &text), rc;

	/* Too long as one, but perhaps many. */
	if (verdict == JSONL_TOO_LONG &&
	    jsonl_text_check(data, len, p->lim->maxdepth, &text) == JSONL_FUSED)
		verdict = JSONL_FUSED;
	if (verdict == JSONL_FUSED)
		return split(p, data, len, text.offset);
	/* White space between NULs is nothing; a blank line is somebody's. */
	if (verdict == JSONL_BLANK) {
		rc = touched ? 0 : keep(p, data, len);
		return rc || touched || !terminated ? rc : keep(p, "\n", 1);
	}
	/* A number is only a whole one if something stands behind it, and before it. */
	if (verdict == JSONL_OK && text.kind == JSONL_KIND_NUMBER &&
	    (touched || (text.can_grow && !terminated)))
		return set_aside(p, data, len, JSONL_INCOMPLETE, len);
	if (verdict != JSONL_OK)
		return set_aside(p, data, len, verdict, text.offset);
	rc = keep_line(p, data, len);
	if (rc == 0 && !terminated && !touched)
		rc = tell(p, &newline, NULL);
	return rc;
}

/* Bytes at data that are NULs, or that are none. */
static size_t run_length(const char *data, size_t len, bool nuls)
{
	const char *stop;

	if (nuls)
		return jsonl_reader_nuls(data, len);
	stop = memchr(data, '\0', len);
	return stop ? (size_t)(stop - data) : len;
}

/* NULs at start belong to the run that is not told yet: they need no memory, as runs may
 * be as long as the disk. */
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

/* The line of `len` bytes at start, whose first byte is no NUL. */
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
			/* A run that ends the buffer may go on in what is read next. */
			if (done < len || terminated)
				rc = tell_nuls(p);
		}
	}
	p->r.start += len;
	return rc;
}

/* Judges what stands before the last NUL at hand: then a line with NULs takes no more
 * memory than a record. */
static int judge_up_to_nul(struct pass *p)
{
	const char *nul = memrchr(p->r.buf + p->r.start, '\0', p->r.end - p->r.start);

	return nul ? judge_line(p, (size_t)(nul + 1 - (p->r.buf + p->r.start)), false)
		   : 0;
}

/* ---- reading ---- */

/* Reads on. The number of bytes, 0 at the end; on failure -1, and *rc: -errno (-ESTALE:
 * the file was cut under our eyes, so what we know of it is not true any more), or a
 * callback's answer. */
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

/* A newline behind nothing but NULs is all that a destroyed line has left: it goes with
 * them. */
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
		/* What stands before a NUL is all that there is of it. */
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
