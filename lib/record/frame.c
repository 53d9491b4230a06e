/* SPDX-License-Identifier: MIT */
#include "record/frame.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "rules/config.h"
#include "json/text.h"

void jsonl_frame_deinit(struct jsonl_frame *f)
{
	free(f->buf);
	*f = (struct jsonl_frame){0};
}

void jsonl_frame_clear(struct jsonl_frame *f)
{
	f->len = 0;
	if (f->cap <= JSONL_FRAME_KEEP)
		return;
	free(steal_ptr(&f->buf));
	f->cap = 0;
}

void jsonl_frame_trim(struct jsonl_frame *f)
{
	char *smaller;

	if (!f->len)
		jsonl_frame_clear(f);
	if (!f->len || f->cap <= JSONL_FRAME_KEEP || f->cap / 2 < f->len)
		return;
	smaller = realloc(f->buf, f->len);
	if (!smaller)
		return;
	f->buf = smaller;
	f->cap = f->len;
}

size_t jsonl_frame_weight(const struct jsonl_frame *f, size_t more)
{
	if (!f->len && !more)
		return 0;
	return f->cap > JSONL_FRAME_KEEP ? f->cap : f->len + more;
}

void jsonl_cut_deinit(struct jsonl_cut *cut)
{
	free(cut->bad);
	free(cut->scratch);
	*cut = (struct jsonl_cut){0};
}

/* Makes room, by doubling, but no more than `most`, the most that a record can take. */
static int frame_room(struct jsonl_frame *f, size_t cap, uint64_t most)
{
	size_t want = f->cap ? f->cap : 512;
	char *grown;

	if (cap <= f->cap)
		return 0;
	while (want < cap)
		want *= 2;
	if (want > most && cap <= most)
		want = most;
	grown = realloc(f->buf, want);
	if (!grown)
		return -ENOMEM;
	f->buf = grown;
	f->cap = want;
	return 0;
}

static int value_verdict(enum jsonl_kind kind, int value)
{
	if (value == JSONL_VALUE_OBJECT && kind != JSONL_KIND_OBJECT)
		return JSONL_NOT_OBJECT;
	if (value == JSONL_VALUE_CONTAINER && kind != JSONL_KIND_OBJECT &&
	    kind != JSONL_KIND_ARRAY)
		return JSONL_NOT_CONTAINER;
	return JSONL_OK;
}

/* Judges one line without its newline, behind a byte order mark; `whole` counts the
 * newline that it has or gets. */
static int line_judge(const struct jsonl_limits *lim, const char *line, size_t len,
		      size_t mark, struct jsonl_text *text)
{
	size_t whole = len + 1;
	int verdict;

	if (whole > lim->maxrecord) {
		*text = (struct jsonl_text){.offset = lim->maxrecord};
		return JSONL_TOO_LONG;
	}
	if (lim->longest && whole > lim->longest) {
		*text = (struct jsonl_text){.offset = lim->longest};
		return JSONL_UNSHARED;
	}
	verdict = jsonl_text_check(line + mark, len - mark, lim->maxdepth, text);
	text->offset += verdict ? mark : 0;
	if (verdict)
		return verdict;
	verdict = value_verdict(text->kind, lim->value);
	if (verdict) {
		text->offset = mark;
		return verdict;
	}
	if (whole - mark >= lim->pipebuf && lim->oversize == JSONL_OVERSIZE_REJECT) {
		text->offset = mark + lim->pipebuf - 1;
		return JSONL_OVERSIZE;
	}
	return JSONL_OK;
}

static int cut_add_bad(struct jsonl_cut *cut, size_t start, size_t len, size_t offset,
		       int verdict)
{
	int rc = jsonl_grow(&cut->bad, &cut->bad_cap, cut->nbad + 1, sizeof(*cut->bad));

	if (rc)
		return rc;
	cut->bad[cut->nbad++] = (struct jsonl_bad_line){
	    .start = start, .len = len, .offset = offset, .verdict = verdict};
	return 0;
}

/* Adds a good line. Lines that follow each other in memory share a vector; when dropped
 * lines have torn more than two holes, everything moves to one scratch buffer. */
static int cut_add_good(struct jsonl_cut *cut, const char *line, size_t len, size_t most)
{
	struct iovec *last = cut->niov ? &cut->iov[cut->niov - 1] : NULL;

	if (last && (const char *)last->iov_base + last->iov_len == line) {
		last->iov_len += len;
	} else if (!cut->scratch && cut->niov < 2) {
		cut->iov[cut->niov++] =
		    (struct iovec){.iov_base = (void *)line, .iov_len = len};
	} else {
		if (!cut->scratch) {
			size_t at = 0;

			cut->scratch = malloc(most);
			if (!cut->scratch)
				return -ENOMEM;
			for (int i = 0; i < cut->niov; i++) {
				memcpy(cut->scratch + at, cut->iov[i].iov_base,
				       cut->iov[i].iov_len);
				at += cut->iov[i].iov_len;
			}
			cut->iov[0] =
			    (struct iovec){.iov_base = cut->scratch, .iov_len = at};
			cut->niov = 1;
		}
		memcpy(cut->scratch + cut->iov[0].iov_len, line, len);
		cut->iov[0].iov_len += len;
	}
	cut->bytes += len;
	return 0;
}

static bool is_bare_newline(const char *line, size_t len)
{
	return len == 0 || (len == 1 && line[0] == '\r');
}

/* Returns true when these bytes end the record that was committed without its newline.
 * In a copy white space may stand between. */
static bool is_end(const struct jsonl_frame *f, const char *line, size_t len)
{
	if (!f->swallow || !f->copy)
		return f->swallow && is_bare_newline(line, len);
	for (size_t i = 0; i < len; i++)
		if (!strchr(" \t\r", line[i]) || !line[i])
			return false;
	return true;
}

/* Adds a line of `len` bytes, which has a newline behind it, to the cut; `pos` is its
 * place in the stream. */
static int cut_line(struct jsonl_cut *cut, const struct jsonl_limits *lim,
		    const char *line, size_t len, size_t pos, size_t most)
{
	bool keep = cut->keep_first && !pos;
	size_t mark = keep || !cut->strict ? jsonl_text_mark(line, len) : 0;
	struct jsonl_text text;
	int verdict = line_judge(lim, line, len, mark, &text);
	size_t stored;

	if (verdict && verdict != JSONL_BLANK)
		return cut_add_bad(cut, pos, len + 1, text.offset, verdict);
	if (keep)
		mark = 0;
	stored = len + 1 - mark;
	cut->marks += mark != 0;
	if (verdict && lim->blank == JSONL_BLANK_DROP) {
		cut->blank++;
		return 0;
	}
	if (!verdict) {
		cut->records++;
		cut->oversize += stored >= lim->pipebuf;
		if (stored > cut->largest)
			cut->largest = stored;
	}
	return cut_add_good(cut, line + mark, stored, most);
}

/* Makes room for the first record behind its fragment, and for what the request leaves
 * over. */
static int offer_room(struct jsonl_frame *f, const struct jsonl_limits *lim, size_t head,
		      size_t fragment)
{
	size_t need = f->len + head > fragment ? f->len + head : fragment;

	if (fragment + 1 > lim->maxrecord)
		need = f->len + head;
	return frame_room(f, need, lim->maxrecord);
}

int jsonl_frame_offer(struct jsonl_frame *f, const struct jsonl_limits *lim,
		      const char *data, size_t len, struct jsonl_cut *cut)
{
	const char *nl = memchr(data, '\n', len);
	const char *last = nl ? memrchr(nl, '\n', len - (size_t)(nl - data)) : NULL;
	size_t head = nl && f->len ? (size_t)(nl - data) + 1 : 0;
	size_t fragment;
	const char *p = data;
	int rc;

	*cut = (struct jsonl_cut){.used = last ? (size_t)(last - data) + 1 : 0,
				  .keep_first = f->first,
				  .strict = f->strict};
	fragment = len - cut->used + (last ? 0 : f->len);
	rc = offer_room(f, lim, head, fragment);
	if (rc)
		return rc;
	if (nl) {
		const char *line = data;
		size_t n = (size_t)(nl - data);

		if (f->len) {
			/* The first line is put together behind the fragment without
			 * growing it: until the cut is taken the frame is unchanged. */
			memcpy(f->buf + f->len, data, head);
			line = f->buf;
			n += f->len;
			cut->split = true;
		}
		if (!is_end(f, line, n))
			rc = cut_line(cut, lim, line, n, 0, f->len + len);
		else if (f->copy)
			rc = cut_add_good(cut, line, n + 1, f->len + len);
		p = nl + 1;
	}
	while (!rc && last && p <= last) {
		nl = memchr(p, '\n', (size_t)(last - p) + 1);
		rc = cut_line(cut, lim, p, (size_t)(nl - p), f->len + (size_t)(p - data),
			      f->len + len);
		p = nl + 1;
	}
	/* One byte more, for the newline that is still to come. */
	if (!rc && fragment && fragment + 1 > lim->maxrecord) {
		cut->open = true;
		rc = cut_add_bad(cut, f->len + len - fragment, fragment, lim->maxrecord,
				 JSONL_TOO_LONG);
	}
	return rc;
}

void jsonl_frame_take(struct jsonl_frame *f, const struct jsonl_cut *cut,
		      const char *data, size_t len)
{
	size_t rest = cut->open ? 0 : len - cut->used;

	if (cut->used || cut->open) {
		f->len = 0;
		f->first = false;
	}
	if (rest)
		memcpy(f->buf + f->len, data + cut->used, rest);
	f->len += rest;
	/* This carriage return may belong to the newline that is to be swallowed. */
	if (cut->used || cut->open || (f->len && !is_end(f, f->buf, f->len)))
		f->swallow = false;
	if (!f->len)
		jsonl_frame_clear(f);
}

const char *jsonl_frame_text(const struct jsonl_frame *f, size_t *len)
{
	size_t mark = f->len && !f->first ? jsonl_text_mark(f->buf, f->len) : 0;

	*len = f->len - mark;
	return mark ? f->buf + mark : f->buf;
}

bool jsonl_frame_may_stay(const struct jsonl_frame *f)
{
	return f->len && strchr("}]\"el", f->buf[f->len - 1]);
}

int jsonl_frame_judge(const struct jsonl_frame *f, const struct jsonl_limits *lim,
		      bool *can_grow, size_t *offset)
{
	struct jsonl_text text = {0};
	size_t mark =
	    f->len && (f->first || !f->strict) ? jsonl_text_mark(f->buf, f->len) : 0;
	int verdict = f->len ? line_judge(lim, f->buf, f->len, mark, &text) : JSONL_BLANK;

	*can_grow = text.can_grow;
	*offset = text.offset;
	return verdict;
}
