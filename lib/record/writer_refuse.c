/* SPDX-License-Identifier: MIT */
/* Handles bad lines: decides when a request is refused for one and what is set aside,
 * and recognizes the next request as a repetition.
 *
 * A whole line is known by its hash, in a table of the process and file (known.h), so
 * that no line is reported or stored twice, however a program sends it again. Of a
 * refused request the slot remembers length and hash: if the next one begins with it,
 * the fragment that was refused with it comes back, and every line is judged again, from
 * its first byte. Only the rest of a line whose beginning is set aside is skipped, and
 * joins it. */
#include "record/writer_internal.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "json/text.h"
#include "rules/config.h"

void jsonl_refused_clear(struct jsonl_refused *r)
{
	jsonl_frame_deinit(&r->fragment);
	*r = (struct jsonl_refused){0};
}

/* ---- setting aside ---- */

static int64_t writer_at(struct jsonl_writer *w)
{
	off_t visible;

	return jsonl_file_visible(w->file, &visible) ? -1 : (int64_t)visible;
}

static void set_aside(struct jsonl_writer *w, struct jsonl_slot *s,
		      struct jsonl_set_aside *what, char name[JSONL_QUARANTINE_NAME])
{
	what->at = writer_at(w);
	what->who = s->who;
	name[0] = '\0';
	w->events->set_aside(w->ctx, what, name);
}

/* Gives up a fragment that no process is left to complete. */
void jsonl_slot_give_up(struct jsonl_writer *w, struct jsonl_slot *s, int code,
			size_t offset)
{
	char name[JSONL_QUARANTINE_NAME];
	struct iovec iov = {.iov_base = s->frame.buf, .iov_len = s->frame.len};
	struct jsonl_set_aside what = {
	    .event = "fragment", .code = code, .offset = offset, .iov = &iov, .niov = 1};

	set_aside(w, s, &what, name);
	jsonl_frame_clear(&s->frame);
}

/* ---- one bad line ---- */

/* Collects the bytes of a line: those of the fragment, those of the request. */
static void line_iov(const struct jsonl_slot *s, const struct jsonl_request *r,
		     const struct jsonl_bad_line *bad, struct iovec iov[2])
{
	size_t own = bad->start < s->frame.len ? s->frame.len - bad->start : 0;
	size_t at = own ? 0 : bad->start - s->frame.len;

	iov[0] = (struct iovec){.iov_base = own ? s->frame.buf + bad->start : NULL,
				.iov_len = own};
	iov[1] = (struct iovec){.iov_base = (char *)r->data + r->skip + at,
				.iov_len = bad->len - own};
}

/* Hashes the first bytes of a line, up to maxrecord: a longer line is known by these.
 * *len: their number. Never 0. */
static uint64_t line_hash(const struct jsonl_writer *w, const struct jsonl_slot *s,
			  const struct jsonl_request *r, const struct jsonl_bad_line *bad,
			  size_t *len)
{
	uint64_t hash = w->opt.seed;
	struct iovec iov[2];

	line_iov(s, r, bad, iov);
	*len = 0;
	for (int i = 0; i < 2; i++) {
		size_t n = iov[i].iov_len;

		if (n > w->opt.limits.maxrecord - *len)
			n = (size_t)w->opt.limits.maxrecord - *len;
		hash = jsonl_hash(hash, iov[i].iov_base, n);
		*len += n;
	}
	return hash ? hash : 1;
}

/* Returns true when a whole line has been set aside before. `add`: from now on it counts
 * as such. */
static bool line_known(const struct jsonl_writer *w, const struct jsonl_slot *s,
		       const struct jsonl_request *r, const struct jsonl_bad_line *bad,
		       bool add)
{
	size_t len;
	uint64_t hash = line_hash(w, s, r, bad, &len);

	return w->events->known(w->ctx, s->by->process, hash, len, add);
}

static bool is_open(const struct jsonl_cut *cut, const struct jsonl_bad_line *bad)
{
	return cut->open && bad == &cut->bad[cut->nbad - 1];
}

/* Returns where in the cut's stream the bytes begin that were not refused before; 0 when
 * none were. */
static size_t known_of(const struct jsonl_slot *s, const struct jsonl_request *r)
{
	return r->again > r->skip ? s->frame.len + r->again - r->skip : 0;
}

/* Returns true when the line was refused with the request that comes again now. */
static bool line_again(const struct jsonl_slot *s, const struct jsonl_request *r,
		       const struct jsonl_cut *cut, const struct jsonl_bad_line *bad)
{
	size_t known = known_of(s, r);

	if (is_open(cut, bad))
		return s->refused.open && bad->start < known;
	return bad->start + bad->len <= known;
}

static bool line_is_new(const struct jsonl_writer *w, const struct jsonl_slot *s,
			const struct jsonl_request *r, const struct jsonl_cut *cut,
			const struct jsonl_bad_line *bad)
{
	return !line_again(s, r, cut, bad) &&
	       (is_open(cut, bad) || !line_known(w, s, r, bad, false));
}

/* ---- how a request begins ---- */

bool jsonl_line_is_whole(const struct jsonl_writer *w, const char *line, size_t len)
{
	struct jsonl_text text;

	return jsonl_text_check(line, len, w->opt.limits.maxdepth, &text) == JSONL_OK &&
	       (text.kind == JSONL_KIND_OBJECT || text.kind == JSONL_KIND_ARRAY);
}

void jsonl_refused_recall(const struct jsonl_writer *w, const struct jsonl_slot *s,
			  struct jsonl_request *r)
{
	const struct jsonl_refused *old = &s->refused;
	const char *nl;

	if (old->active && r->len >= old->len &&
	    jsonl_hash(w->opt.seed, r->data, old->len) == old->hash) {
		r->again = old->len;
		r->skip = old->skip;
		if (!old->one_line)
			return;
	} else if (!s->aside.active) {
		return;
	}
	nl = memchr(r->data + r->again, '\n', r->len - r->again);
	/* After a refusal stdio drops the rest of the last record, too, and goes on with
	 * the next record. A line that is a whole object or array is such a record: it
	 * cannot be the end of another one. */
	if (nl && !r->again && jsonl_line_is_whole(w, r->data, (size_t)(nl - r->data)))
		return;
	r->join = true;
	r->skip = nl ? (size_t)(nl - r->data) + 1 : r->len;
}

bool jsonl_refused_exchange(struct jsonl_slot *s, const struct jsonl_request *r)
{
	struct jsonl_frame fragment = s->refused.fragment;

	if (!r->again ||
	    (!fragment.len && !fragment.swallow && !s->frame.len && !s->frame.swallow))
		return false;
	s->refused.fragment = s->frame;
	s->frame = fragment;
	return true;
}

/* Moves the skipped bytes to the line that is set aside. */
static void aside_join(struct jsonl_writer *w, struct jsonl_slot *s,
		       const struct jsonl_request *r)
{
	struct iovec iov = {.iov_base = (char *)r->data + r->again,
			    .iov_len = r->skip - r->again};

	if (iov.iov_len && s->aside.name[0])
		w->events->join(w->ctx, s->aside.name, &iov, 1, s->who);
	if (r->data[r->skip - 1] != '\n')
		return;
	if (s->aside.head)
		(void)w->events->known(w->ctx, s->by->process, s->aside.head,
				       (size_t)w->opt.limits.maxrecord, true);
	s->aside = (struct jsonl_aside){0};
}

void jsonl_aside_settle(struct jsonl_writer *w, struct jsonl_slot *s,
			const struct jsonl_request *r)
{
	if (s->aside.active && r->join)
		aside_join(w, s, r);
	else
		s->aside = (struct jsonl_aside){0};
}

/* ---- refusing, and setting lines aside ---- */

/* Returns true when the program has had a record appended, or goes on from another file:
 * it must not be stopped because its new log begins with a line of text. */
static bool is_running(const struct jsonl_writer *w, struct jsonl_slot *s)
{
	if (!s->by->accepted && !w->open_size && w->events->goes_on)
		s->by->accepted = w->events->goes_on(w->ctx, s->who);
	return s->by->accepted;
}

const struct jsonl_bad_line *jsonl_refused_reason(const struct jsonl_writer *w,
						  struct jsonl_slot *s,
						  const struct jsonl_request *r,
						  const struct jsonl_cut *cut)
{
	bool report = w->opt.onbad == JSONL_ONBAD_REPORT;
	bool waits = !cut->open && r->skip + cut->used < r->len;

	if (w->opt.onbad == JSONL_ONBAD_QUARANTINE)
		return NULL;
	if (report && (cut->records || waits || s->by->accepted))
		return NULL;
	for (size_t n = 0; n < cut->nbad; n++)
		if (line_is_new(w, s, r, cut, &cut->bad[n]))
			return report && is_running(w, s) ? NULL : &cut->bad[n];
	return NULL;
}

/* Notes a bad line, which close reports, and which spoils a block. */
static void line_told(struct jsonl_writer *w, struct jsonl_slot *s, int verdict)
{
	if (w->opt.onbad != JSONL_ONBAD_REPORT)
		return;
	jsonl_owner_owes(s->by, verdict);
	if (w->opt.stage && !w->spoiled)
		w->spoiled = verdict;
}

/* Begins to set aside a line that goes on in the next request. */
static void aside_begin(const struct jsonl_writer *w, struct jsonl_slot *s,
			const struct jsonl_request *r, const struct jsonl_cut *cut,
			const char *name)
{
	size_t len;

	s->aside = (struct jsonl_aside){.active = true};
	if (cut->open)
		s->aside.head = line_hash(w, s, r, &cut->bad[cut->nbad - 1], &len);
	memcpy(s->aside.name, name, sizeof(s->aside.name));
}

/* Remembers the lines. Only after all have been looked up: of two equal lines in one
 * request neither is a repetition. */
static void lines_remember(const struct jsonl_writer *w, const struct jsonl_slot *s,
			   const struct jsonl_request *r, const struct jsonl_cut *cut)
{
	for (size_t n = 0; n < cut->nbad; n++)
		if (!is_open(cut, &cut->bad[n]))
			(void)line_known(w, s, r, &cut->bad[n], true);
}

#define ASIDE_LINES 32 /* lines of one entry */

void jsonl_bad_set_aside(struct jsonl_writer *w, struct jsonl_slot *s,
			 const struct jsonl_request *r, const struct jsonl_cut *cut,
			 const char *event)
{
	char name[JSONL_QUARANTINE_NAME] = "";
	struct iovec iov[2 * ASIDE_LINES];
	struct jsonl_set_aside what = {.event = event, .iov = iov};

	for (size_t n = 0; n < cut->nbad; n++) {
		const struct jsonl_bad_line *bad = &cut->bad[n];
		bool again = line_again(s, r, cut, bad);

		if (!is_open(cut, bad) && (again || line_known(w, s, r, bad, false)))
			continue;
		if (!again)
			line_told(w, s, bad->verdict);
		if (!what.lines++) {
			what.code = bad->verdict;
			what.offset = bad->offset;
		}
		line_iov(s, r, bad, iov + what.niov);
		what.niov += 2;
		if (what.lines == ASIDE_LINES) {
			set_aside(w, s, &what, name);
			what.niov = 0;
			what.lines = 0;
		}
	}
	if (what.lines)
		set_aside(w, s, &what, name);
	lines_remember(w, s, r, cut);
	if (cut->open)
		aside_begin(w, s, r, cut, name);
}

/* With onbad=refuse puts all of the request that was not refused before, good lines,
 * too, into one entry. */
static void request_set_aside(struct jsonl_writer *w, struct jsonl_slot *s,
			      const struct jsonl_request *r, const struct jsonl_cut *cut,
			      const struct jsonl_bad_line *bad)
{
	size_t known = known_of(s, r);
	size_t from = known < bad->start ? known : bad->start;
	size_t own = from < s->frame.len ? s->frame.len - from : 0;
	size_t at = r->skip + (own ? 0 : from - s->frame.len);
	struct iovec iov[2] = {
	    {.iov_base = s->frame.buf, .iov_len = own},
	    {.iov_base = (char *)r->data + at, .iov_len = r->len - at},
	};
	struct jsonl_set_aside what = {.event = "refused",
				       .code = bad->verdict,
				       .offset = bad->start + bad->offset - from,
				       .iov = iov,
				       .niov = 2};
	char name[JSONL_QUARANTINE_NAME];

	for (size_t n = 0; n < cut->nbad; n++)
		if (!is_open(cut, &cut->bad[n]) &&
		    !line_known(w, s, r, &cut->bad[n], false))
			what.lines++;
	lines_remember(w, s, r, cut);
	what.lines += cut->open;
	set_aside(w, s, &what, name);
	if (cut->open || r->skip + cut->used < r->len)
		aside_begin(w, s, r, cut, name);
}

int jsonl_refused_enter(struct jsonl_writer *w, struct jsonl_slot *s,
			const struct jsonl_request *r, const struct jsonl_cut *cut,
			const struct jsonl_bad_line *bad)
{
	const struct jsonl_bad_line *last = &cut->bad[cut->nbad - 1];
	struct jsonl_refused next = {
	    .active = !r->below,
	    .open = cut->open,
	    .one_line = cut->open && last->start == 0,
	    .len = r->len,
	    .hash = jsonl_hash(w->opt.seed, r->data, r->len),
	    .skip = r->skip,
	};
	int rc = -jsonl_error_errno(bad->verdict);

	if (r->join)
		aside_join(w, s, r);
	s->aside = (struct jsonl_aside){0};
	if (w->opt.onbad == JSONL_ONBAD_REFUSE)
		request_set_aside(w, s, r, cut, bad);
	else
		jsonl_bad_set_aside(w, s, r, cut, "refused");
	if (!next.one_line && next.active) {
		next.fragment = s->frame;
		s->frame = (struct jsonl_frame){0};
	}
	jsonl_refused_clear(&s->refused);
	s->refused = next;
	s->adopted = false;
	jsonl_frame_clear(&s->frame);
	s->frame.swallow = false;
	return rc;
}
