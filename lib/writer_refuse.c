/* Bad records: what is set aside, what is remembered of a refused request, and what the
 * next request is to it. */
#include "writer_internal.h"

#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "text.h"

void jsonl_refused_clear(struct jsonl_refused *r)
{
	free(r->bytes);
	jsonl_frame_deinit(&r->fragment);
	*r = (struct jsonl_refused){0};
}

/* ---- setting aside ---- */

static int64_t writer_at(struct jsonl_writer *w)
{
	off_t visible;

	return jsonl_file_visible(w->file, &visible) ? -1 : (int64_t)visible;
}

void jsonl_slot_set_aside(struct jsonl_writer *w, struct jsonl_slot *s, const char *event,
			  int code, uint64_t offset, const struct iovec *iov, int niov,
			  char name[JSONL_QUARANTINE_NAME])
{
	struct jsonl_set_aside what = {
	    .event = event,
	    .code = code,
	    .offset = offset,
	    .at = writer_at(w),
	    .iov = iov,
	    .niov = niov,
	    .who = s->who,
	};

	name[0] = '\0';
	w->events->set_aside(w->ctx, &what, name);
}

/* Gives up a fragment: nobody is left who could go on with it. */
void jsonl_slot_give_up(struct jsonl_writer *w, struct jsonl_slot *s, int code,
			size_t offset)
{
	char name[JSONL_QUARANTINE_NAME];
	struct iovec iov = {.iov_base = s->frame.buf, .iov_len = s->frame.len};

	jsonl_slot_set_aside(w, s, "fragment", code, offset, &iov, 1, name);
	jsonl_frame_clear(&s->frame);
}

/* ---- refusing ---- */

/* Is line[0..len) a record that cannot be the rest of this unfinished one? An unfinished
 * text has a bracket or a string open, and a whole object or array does not close it. */
bool jsonl_refused_starts_afresh(const struct jsonl_writer *w, const char *unfinished,
				 size_t unfinished_len, const char *line, size_t len)
{
	struct jsonl_text text;

	if (jsonl_text_check(unfinished, unfinished_len, w->opt.limits.maxdepth, &text) !=
	    JSONL_INCOMPLETE)
		return false;
	return jsonl_text_check(line, len, w->opt.limits.maxdepth, &text) == JSONL_OK &&
	       (text.kind == JSONL_KIND_OBJECT || text.kind == JSONL_KIND_ARRAY);
}

/* stdio drops not only the refused block but also what of its last record did not fit,
 * and goes on with the next record. */
static bool dropped_the_rest(const struct jsonl_writer *w,
			     const struct jsonl_refused *old, const char *line,
			     size_t len)
{
	const char *last;
	size_t at;

	if (!old->bytes || old->head == old->len)
		return false;
	last = memrchr(old->bytes, '\n', old->len);
	at = last ? (size_t)(last - old->bytes) + 1 : 0;
	return jsonl_refused_starts_afresh(w, old->bytes + at, old->len - at, line, len);
}

/* Looks at what was refused last and finds out what this request is to it. Returns 0, or
 * the -errno that must be given again because it was not heard. Changes nothing. */
int jsonl_refused_recall(const struct jsonl_writer *w, const struct jsonl_slot *s,
			 struct jsonl_request *r)
{
	const struct jsonl_refused *old = &s->refused;
	const char *nl;
	size_t from = 0;

	if (!old->active)
		return 0;
	if (old->bytes && r->len >= old->len &&
	    memcmp(r->data, old->bytes, old->len) == 0) {
		if (old->unheard)
			return -jsonl_error_errno(old->code);
		r->reported = old->len;
		r->skip = old->head;
		if (old->head < old->len || !old->mid)
			return 0;
		from = old->len; /* its only line is still unfinished */
	} else if (!old->mid) {
		return 0;
	}
	nl = memchr(r->data + from, '\n', r->len - from);
	if (nl && !from && dropped_the_rest(w, old, r->data, (size_t)(nl - r->data)))
		return 0;
	r->join = true;
	r->skip = nl ? (size_t)(nl - r->data) + 1 : r->len;
	return 0;
}

/* Where the frame's line ends within the request: these bytes cannot be judged alone when
 * the request is sent again. */
static size_t head_of(const struct jsonl_slot *s, const struct jsonl_request *r)
{
	const char *nl;

	if (r->reported)
		return r->skip;
	nl = memchr(r->data, '\n', r->len);
	if (nl && !s->frame.len)
		return r->skip;
	return nl ? (size_t)(nl - r->data) + 1 : r->len;
}

/* The skipped bytes belong to a record whose beginning was refused. */
static void refused_join(struct jsonl_writer *w, struct jsonl_slot *s,
			 const struct jsonl_request *r)
{
	size_t from = r->reported < r->skip ? r->reported : r->skip;
	struct iovec iov = {.iov_base = (char *)r->data + from,
			    .iov_len = r->skip - from};

	if (r->join && iov.iov_len && s->refused.name[0])
		w->events->join(w->ctx, s->refused.name, &iov, 1, s->who);
}

/* Where in the cut's stream begins what was not reported before; 0 when nothing was. */
static size_t known_of(const struct jsonl_slot *s, const struct jsonl_request *r)
{
	return r->reported > r->skip ? s->frame.len + r->reported - r->skip : 0;
}

bool jsonl_refused_exchange(struct jsonl_slot *s, const struct jsonl_request *r)
{
	struct jsonl_frame fragment = s->refused.fragment;

	if (!r->reported ||
	    (!fragment.len && !fragment.swallow && !s->frame.len && !s->frame.swallow))
		return false;
	s->refused.fragment = s->frame;
	s->frame = fragment;
	return true;
}

int jsonl_refused_enter(struct jsonl_writer *w, struct jsonl_slot *s,
			const struct jsonl_request *r, const struct jsonl_cut *cut,
			const struct jsonl_bad_line *bad)
{
	bool keep = (s->frame.len || s->frame.swallow) && cut->bad[0].start > 0;
	struct jsonl_refused next = {
	    .active = true,
	    .head = keep ? 0 : head_of(s, r),
	    .mid = r->data[r->len - 1] != '\n',
	    .unheard = s->after_full,
	    .code = bad->verdict,
	};
	/* What was reported before is in the quarantine; a line that began there is not
	 * whole in it. */
	size_t known = known_of(s, r);
	size_t from = known < bad->start ? known : bad->start;
	size_t own = from < s->frame.len ? s->frame.len - from : 0;
	size_t at = r->skip + (own ? 0 : from - s->frame.len);
	struct iovec iov[2] = {
	    {.iov_base = s->frame.buf, .iov_len = own},
	    {.iov_base = (char *)r->data + at, .iov_len = r->len - at},
	};

	jsonl_slot_set_aside(w, s, "refused", bad->verdict,
			     bad->start + bad->offset - from, iov, 2, next.name);
	refused_join(w, s, r);
	/* Without memory the request is not recognized when it comes again, and is
	 * refused once more. */
	if (w->events->charge(w->ctx, (int64_t)r->len) == 0) {
		s->charged += r->len;
		next.bytes = malloc(r->len);
	}
	if (next.bytes) {
		memcpy(next.bytes, r->data, r->len);
		next.len = r->len;
	}
	jsonl_refused_clear(&s->refused);
	if (keep) {
		next.fragment = s->frame;
		s->frame = (struct jsonl_frame){0};
	}
	s->refused = next;
	s->after_full = false;
	s->adopted = false;
	jsonl_frame_clear(&s->frame);
	s->frame.swallow = false;
	return -jsonl_error_errno(bad->verdict);
}

/* The first bad line that was not reported before; NULL: none. */
const struct jsonl_bad_line *jsonl_refused_first_new(const struct jsonl_slot *s,
						     const struct jsonl_request *r,
						     const struct jsonl_cut *cut)
{
	size_t known = known_of(s, r);

	for (size_t i = 0; i < cut->nbad; i++)
		if (cut->bad[i].start + cut->bad[i].len > known)
			return &cut->bad[i];
	return NULL;
}

bool jsonl_refused_is_unfinished(const struct jsonl_slot *s,
				 const struct jsonl_request *r,
				 const struct jsonl_cut *cut)
{
	return cut->nbad &&
	       cut->bad[cut->nbad - 1].start + cut->bad[cut->nbad - 1].len ==
		   s->frame.len + r->len - r->skip &&
	       r->data[r->len - 1] != '\n';
}

/* onbad=quarantine: each bad line becomes an entry of its own. */
void jsonl_refused_set_aside_each(struct jsonl_writer *w, struct jsonl_slot *s,
				  const struct jsonl_request *r,
				  const struct jsonl_cut *cut,
				  const struct jsonl_bad_line *from)
{
	char name[JSONL_QUARANTINE_NAME];

	for (const struct jsonl_bad_line *bad = from; bad < cut->bad + cut->nbad; bad++) {
		size_t own = bad->start < s->frame.len ? s->frame.len - bad->start : 0;
		size_t at = own ? 0 : bad->start - s->frame.len;
		struct iovec iov[2] = {
		    {.iov_base = own ? s->frame.buf + bad->start : NULL,
		     .iov_len = own},
		    {.iov_base = (char *)r->data + r->skip + at,
		     .iov_len = bad->len - own},
		};

		jsonl_slot_set_aside(w, s, "bad-record", bad->verdict, bad->offset, iov,
				     2, name);
	}
}

/* After success: the refused request has been dealt with, as far as this one reached. */
void jsonl_refused_settle(struct jsonl_writer *w, struct jsonl_slot *s,
			  const struct jsonl_request *r)
{
	if (!s->refused.active)
		return;
	refused_join(w, s, r);
	if (r->join && r->data[r->skip - 1] != '\n') {
		/* Still in the middle of that line: only that is remembered. */
		free(steal_ptr(&s->refused.bytes));
		s->refused.len = 0;
		jsonl_frame_deinit(&s->refused.fragment);
		return;
	}
	jsonl_refused_clear(&s->refused);
}
