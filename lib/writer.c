#include "writer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "config.h"
#include "text.h"

/* Orphans of one handle: the oldest is set aside when there are more. */
#define WRITER_MAX_ORPHANS 1024

/* The last refused request of an owner. */
struct refused {
	bool active;
	char *bytes; /* as it was sent; NULL: only what follows it matters still */
	size_t len;
	size_t head; /* bytes at its front that ended an older fragment's line */
	bool mid;    /* its last line is not finished: what follows belongs to it */
	bool
	    unheard; /* the kernel may have reported a short write instead of the error */
	int code;    /* verdict */
	char name[JSONL_QUARANTINE_NAME];
};

struct slot {
	struct slot *next;
	uint64_t owner;
	void *who;
	struct jsonl_frame frame;
	struct refused refused;
	bool after_full; /* the last request was as long as requests get */
	bool adopted;	 /* the frame's fragment was another owner's */
	size_t charged;	 /* bytes, as told to events->charge */
};

struct jsonl_writer {
	struct jsonl_file *file;
	struct jsonl_writer_options opt;
	const struct jsonl_writer_events *events;
	void *ctx;
	pthread_mutex_t lock;
	struct jsonl_file_user user;
	off_t open_size;
	off_t virtual_end; /* of the last accepted write, pending and dropped bytes
			      counted */
	struct slot *slots;
	struct slot *orphans; /* oldest first */
	size_t norphans;
};

static const struct iovec newline = {.iov_base = "\n", .iov_len = 1};

int jsonl_writer_new(struct jsonl_file *file, const struct jsonl_writer_options *opt,
		     const struct jsonl_writer_events *events, void *ctx, off_t size,
		     struct jsonl_writer **writer)
{
	struct jsonl_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->file = file;
	w->opt = *opt;
	w->events = events;
	w->ctx = ctx;
	w->open_size = size;
	w->virtual_end = size;
	pthread_mutex_init(&w->lock, NULL);
	*writer = w;
	return 0;
}

struct jsonl_file_user *jsonl_writer_user(struct jsonl_writer *w)
{
	return &w->user;
}

/* ---- slots ---- */

static size_t slot_weight(const struct slot *s)
{
	return s->frame.len + s->refused.len;
}

/* Tells what the slot weighs now; growth has been asked for before, so this cannot fail
 * for want of memory. */
static void slot_charge(struct jsonl_writer *w, struct slot *s)
{
	size_t weight = slot_weight(s);

	if (weight != s->charged &&
	    w->events->charge(w->ctx, (int64_t)weight - (int64_t)s->charged) == 0)
		s->charged = weight;
}

static void refused_clear(struct refused *r)
{
	free(r->bytes);
	*r = (struct refused){0};
}

static void slot_free(struct jsonl_writer *w, struct slot *s)
{
	jsonl_frame_deinit(&s->frame);
	refused_clear(&s->refused);
	slot_charge(w, s);
	free(s);
}

void jsonl_writer_free(struct jsonl_writer *w)
{
	struct slot *lists[2];

	if (!w)
		return;
	lists[0] = w->slots;
	lists[1] = w->orphans;
	for (int i = 0; i < 2; i++) {
		while (lists[i]) {
			struct slot *next = lists[i]->next;

			slot_free(w, lists[i]);
			lists[i] = next;
		}
	}
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static struct slot **slot_find(struct jsonl_writer *w, uint64_t owner)
{
	struct slot **p = &w->slots;

	while (*p && (*p)->owner != owner)
		p = &(*p)->next;
	return p;
}

/* Has it more to say than that a newline is to be swallowed? */
static bool slot_has_bytes(const struct slot *s)
{
	return s->frame.len || s->refused.active;
}

static struct slot *orphan_adopt(struct jsonl_writer *w)
{
	struct slot **p = &w->orphans;
	struct slot *s;

	while (*p && !slot_has_bytes(*p))
		p = &(*p)->next;
	if (!*p)
		p = &w->orphans;
	s = *p;
	if (s) {
		*p = s->next;
		w->norphans--;
	}
	return s;
}

static bool orphans_have_bytes(const struct jsonl_writer *w)
{
	for (const struct slot *s = w->orphans; s; s = s->next)
		if (slot_has_bytes(s))
			return true;
	return false;
}

/* The owner's slot; an owner with nothing of its own goes on with the oldest orphan. */
static struct slot *slot_get(struct jsonl_writer *w, uint64_t owner, void *caller)
{
	struct slot **p = slot_find(w, owner);
	struct slot *s = *p;

	if (s && (slot_has_bytes(s) || s->frame.swallow || !orphans_have_bytes(w)))
		return s;
	if (s) {
		*p = s->next;
		slot_free(w, s);
	}
	s = orphan_adopt(w);
	if (s)
		s->adopted = true;
	else
		s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->owner = owner;
	s->who = w->events->identify(w->ctx, caller);
	s->next = w->slots;
	w->slots = s;
	return s;
}

/* ---- setting aside ---- */

static int64_t writer_at(struct jsonl_writer *w)
{
	off_t visible;

	return jsonl_file_visible(w->file, &visible) ? -1 : (int64_t)visible;
}

static void slot_set_aside(struct jsonl_writer *w, struct slot *s, const char *event,
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
static void fragment_set_aside(struct jsonl_writer *w, struct slot *s, int code,
			       size_t offset)
{
	char name[JSONL_QUARANTINE_NAME];
	struct iovec iov = {.iov_base = s->frame.buf, .iov_len = s->frame.len};

	slot_set_aside(w, s, "fragment", code, offset, &iov, 1, name);
	jsonl_frame_clear(&s->frame);
}

/* ---- appending ---- */

static int to_errno(int rc)
{
	return rc > 0 ? -jsonl_error_errno(rc) : rc;
}

static int cut_append(struct jsonl_writer *w, struct slot *s, const struct jsonl_cut *cut)
{
	struct jsonl_writer_note note = {
	    .records = cut->records,
	    .bytes = cut->bytes,
	    .oversize = cut->oversize,
	    .blank = cut->blank,
	    .largest = cut->largest,
	    .split = cut->split,
	};
	int rc = 0;

	if (cut->niov)
		rc = jsonl_file_append(w->file, cut->iov, cut->niov, &w->user, NULL);
	if (!rc && (cut->records || cut->blank))
		w->events->note(w->ctx, &note, s->who);
	return to_errno(rc);
}

/* Commits the fragment with the newline that its writer left out. */
static int fragment_commit(struct jsonl_writer *w, struct slot *s)
{
	struct iovec iov[2] = {{.iov_base = s->frame.buf, .iov_len = s->frame.len},
			       newline};
	size_t len = s->frame.len + 1;
	struct jsonl_writer_note note = {
	    .records = 1,
	    .bytes = len,
	    .oversize = len >= w->opt.limits.pipebuf,
	    .largest = len,
	    .no_newline = true,
	};
	int rc = jsonl_file_append(w->file, iov, 2, &w->user, NULL);

	if (rc)
		return to_errno(rc);
	w->events->note(w->ctx, &note, s->who);
	jsonl_frame_clear(&s->frame);
	s->frame.swallow = true;
	slot_charge(w, s);
	return 0;
}

/* Commits the fragment if it is whole and cannot grow. Returns 0, a verdict that says why
 * it was left (JSONL_OK also for a number or nothing), or -errno. */
static int slot_settle(struct jsonl_writer *w, struct slot *s)
{
	bool can_grow;
	size_t offset;
	int verdict = jsonl_frame_judge(&s->frame, &w->opt.limits, &can_grow, &offset);

	if (verdict == JSONL_BLANK || (verdict == JSONL_OK && can_grow))
		return 0;
	if (verdict)
		return verdict;
	return fragment_commit(w, s);
}

/* ---- where a write may land ---- */

struct request {
	const char *data;
	size_t len;
	size_t
	    skip; /* bytes at the front that are not offered: known, or already stored */
	size_t reported; /* bytes at the front whose bad lines were reported before */
	bool stored;	 /* nothing to do at all */
	bool join;	 /* the skipped bytes belong to the refused request's last line */
};

/* Decides for a write without O_APPEND. `plain`: nothing is pending and nothing was
 * refused, so the bytes may be compared with what is stored. 0 or -errno. */
static int place(struct jsonl_writer *w, off_t off, bool plain, struct request *r)
{
	off_t visible;
	size_t below;
	int rc;

	if (off == w->virtual_end)
		return 0;
	if (off >= w->open_size) {
		rc = jsonl_file_is_boundary(w->file, off);
		if (rc)
			return rc < 0 ? rc : 0;
	}
	rc = jsonl_file_visible(w->file, &visible);
	if (rc)
		return rc;
	if (off > visible || !plain)
		return -EPERM;
	below = (uint64_t)(visible - off) < r->len ? (size_t)(visible - off) : r->len;
	rc = jsonl_file_equals(w->file, r->data, below, off);
	if (rc <= 0)
		return rc ? rc : -EPERM;
	/* What is stored already counts as written; what goes beyond is an append. */
	r->skip = below;
	r->stored = below == r->len;
	return 0;
}

/* ---- refusing ---- */

/* Is line[0..len) a record that cannot be the rest of this unfinished one? An unfinished
 * text has a bracket or a string open, and a whole object or array does not close it. */
static bool starts_afresh(const struct jsonl_writer *w, const char *unfinished,
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
static bool dropped_the_rest(const struct jsonl_writer *w, const struct refused *old,
			     const char *line, size_t len)
{
	const char *last;
	size_t at;

	if (!old->bytes || old->head == old->len)
		return false;
	last = memrchr(old->bytes, '\n', old->len);
	at = last ? (size_t)(last - old->bytes) + 1 : 0;
	return starts_afresh(w, old->bytes + at, old->len - at, line, len);
}

/* Looks at what was refused last and finds out what this request is to it. Returns 0, or
 * the -errno that must be given again because it was not heard. Changes nothing. */
static int recall(const struct jsonl_writer *w, const struct slot *s, struct request *r)
{
	const struct refused *old = &s->refused;
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
static size_t head_of(const struct slot *s, const struct request *r)
{
	const char *nl;

	if (r->reported)
		return r->skip;
	if (!s->frame.len)
		return r->skip;
	nl = memchr(r->data, '\n', r->len);
	return nl ? (size_t)(nl - r->data) + 1 : r->len;
}

/* The skipped bytes belong to a record whose beginning was refused. */
static void refused_join(struct jsonl_writer *w, struct slot *s, const struct request *r)
{
	size_t from = r->reported < r->skip ? r->reported : r->skip;
	struct iovec iov = {.iov_base = (char *)r->data + from,
			    .iov_len = r->skip - from};

	if (r->join && iov.iov_len && s->refused.name[0])
		w->events->join(w->ctx, s->refused.name, &iov, 1, s->who);
}

static int refuse(struct jsonl_writer *w, struct slot *s, const struct request *r,
		  const struct jsonl_bad_line *bad)
{
	struct refused next = {
	    .active = true,
	    .head = head_of(s, r),
	    .mid = r->data[r->len - 1] != '\n',
	    .unheard = s->after_full,
	    .code = bad->verdict,
	};
	/* What was reported before is in the quarantine; a line that began there is not
	 * whole in it. */
	size_t known = r->reported > r->skip ? r->reported - r->skip : 0;
	size_t from = known < bad->start ? known : bad->start;
	struct iovec iov[2] = {
	    {.iov_base = s->frame.buf, .iov_len = s->frame.len},
	    {.iov_base = (char *)r->data + r->skip + (known ? from : 0),
	     .iov_len = r->len - r->skip - (known ? from : 0)},
	};

	slot_set_aside(w, s, "refused", bad->verdict,
		       bad->start + bad->offset - (known ? from : 0), iov, 2, next.name);
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
	refused_clear(&s->refused);
	s->refused = next;
	s->after_full = false;
	jsonl_frame_clear(&s->frame);
	s->frame.swallow = false;
	return -jsonl_error_errno(bad->verdict);
}

/* The first bad line that was not reported before; NULL: none. */
static const struct jsonl_bad_line *
first_new_bad(const struct slot *s, const struct request *r, const struct jsonl_cut *cut)
{
	size_t known = r->reported > r->skip ? r->reported - r->skip : 0;

	for (size_t i = 0; i < cut->nbad; i++)
		if (cut->bad[i].start + cut->bad[i].len > known)
			return &cut->bad[i];
	return NULL;
}

static bool is_unfinished(const struct slot *s, const struct request *r,
			  const struct jsonl_cut *cut)
{
	return cut->nbad &&
	       cut->bad[cut->nbad - 1].start + cut->bad[cut->nbad - 1].len ==
		   s->frame.len + r->len - r->skip &&
	       r->data[r->len - 1] != '\n';
}

/* onbad=quarantine: each bad line becomes an entry of its own. */
static void bad_set_aside(struct jsonl_writer *w, struct slot *s, const struct request *r,
			  const struct jsonl_cut *cut, const struct jsonl_bad_line *from)
{
	char name[JSONL_QUARANTINE_NAME];

	for (const struct jsonl_bad_line *bad = from; bad < cut->bad + cut->nbad; bad++) {
		size_t own = bad->start < s->frame.len ? s->frame.len - bad->start : 0;
		size_t at = own ? 0 : bad->start - s->frame.len;
		struct iovec iov[2] = {
		    {.iov_base = s->frame.buf + (own ? bad->start : 0), .iov_len = own},
		    {.iov_base = (char *)r->data + r->skip + at,
		     .iov_len = bad->len - own},
		};

		slot_set_aside(w, s, "bad-record", bad->verdict, bad->offset, iov, 2,
			       name);
	}
}

/* ---- write ---- */

/* A process that was killed in mid-record left an orphan that nobody means to finish: who
 * comes next must not lose a record to it. */
static void orphan_give_up(struct jsonl_writer *w, struct slot *s, const char *data,
			   size_t len)
{
	const char *nl = memchr(data, '\n', len);

	if (!nl || !s->adopted || !s->frame.len ||
	    !starts_afresh(w, s->frame.buf, s->frame.len, data, (size_t)(nl - data)))
		return;
	fragment_set_aside(w, s, JSONL_INCOMPLETE, s->frame.len);
	s->adopted = false;
}

static int slot_write(struct jsonl_writer *w, struct slot *s, struct request *r)
{
	const char *data = r->data + r->skip;
	size_t len = r->len - r->skip;
	const struct jsonl_bad_line *bad;
	struct jsonl_cut cut;
	size_t rest;
	int rc;

	orphan_give_up(w, s, data, len);
	rc = jsonl_frame_offer(&s->frame, &w->opt.limits, data, len, &cut);

	if (rc)
		goto out;
	bad = first_new_bad(s, r, &cut);
	if (bad && (w->opt.onbad == JSONL_ONBAD_REFUSE || is_unfinished(s, r, &cut))) {
		rc = refuse(w, s, r, bad);
		goto out;
	}
	/* Room for the fragment first: after the append there is no way back. */
	rest = len - cut.used;
	if (rest) {
		rc = w->events->charge(w->ctx, (int64_t)rest);
		if (rc)
			goto out;
		s->charged += rest;
	}
	rc = cut_append(w, s, &cut);
	if (!rc) {
		if (bad)
			bad_set_aside(w, s, r, &cut, bad);
		jsonl_frame_take(&s->frame, &cut, data, len);
		if (cut.used)
			s->adopted = false;
	}
out:
	jsonl_cut_deinit(&cut);
	return rc;
}

/* After success: the refused request has been dealt with, as far as this one reached. */
static void refused_settle(struct jsonl_writer *w, struct slot *s,
			   const struct request *r)
{
	if (!s->refused.active)
		return;
	refused_join(w, s, r);
	if (r->join && r->data[r->skip - 1] != '\n') {
		/* Still in the middle of that line: only that is remembered. */
		free(steal_ptr(&s->refused.bytes));
		s->refused.len = 0;
		return;
	}
	refused_clear(&s->refused);
}

int jsonl_writer_write(struct jsonl_writer *w, uint64_t owner, void *caller, bool append,
		       off_t off, const char *data, size_t len)
{
	struct request r = {.data = data, .len = len};
	cleanup_unlock pthread_mutex_t *locked = NULL;
	struct slot *s;
	int rc;

	if (!len)
		return 0;
	pthread_mutex_lock(&w->lock);
	locked = &w->lock;
	s = slot_get(w, owner, caller);
	if (!s)
		return -ENOMEM;
	rc = recall(w, s, &r);
	if (rc) {
		s->refused.unheard = false;
		return rc;
	}
	if (!append) {
		rc = place(w, off, !s->frame.len && !r.skip && !r.reported, &r);
		if (rc || r.stored)
			return rc;
	}
	if (r.skip < len)
		rc = slot_write(w, s, &r);
	if (rc) {
		slot_charge(w, s);
		return rc;
	}
	refused_settle(w, s, &r);
	s->after_full = len >= w->opt.max_request;
	w->virtual_end = off + (off_t)len;
	if (w->opt.settle_each) {
		rc = slot_settle(w, s);
		rc = rc < 0 ? rc : 0;
	}
	slot_charge(w, s);
	return rc;
}

/* ---- flush, fsync, release ---- */

/* The owner leaves: what it has not finished waits for the next one. */
static void slot_orphan(struct jsonl_writer *w, struct slot **p)
{
	struct slot *s = *p;
	struct slot **end = &w->orphans;
	bool keep = slot_has_bytes(s) || s->frame.swallow;

	*p = s->next;
	s->next = NULL;
	s->after_full = false;
	while (*end) {
		/* One newline to swallow is enough to remember. */
		if (!slot_has_bytes(s) && !slot_has_bytes(*end))
			keep = false;
		end = &(*end)->next;
	}
	if (!keep) {
		slot_free(w, s);
		return;
	}
	*end = s;
	if (++w->norphans <= WRITER_MAX_ORPHANS)
		return;
	s = w->orphans;
	w->orphans = s->next;
	w->norphans--;
	if (s->frame.len)
		fragment_set_aside(w, s, JSONL_INCOMPLETE, s->frame.len);
	slot_free(w, s);
}

int jsonl_writer_flush(struct jsonl_writer *w, uint64_t owner)
{
	struct slot **p;
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	p = slot_find(w, owner);
	if (*p) {
		rc = slot_settle(w, *p);
		if (rc != -EAGAIN)
			slot_orphan(w, p);
	}
	pthread_mutex_unlock(&w->lock);
	return to_errno(rc);
}

int jsonl_writer_settle(struct jsonl_writer *w)
{
	struct slot *lists[2];
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	lists[0] = w->orphans;
	lists[1] = w->slots;
	for (int i = 0; i < 2 && rc >= 0; i++)
		for (struct slot *s = lists[i]; s && rc >= 0; s = s->next)
			rc = slot_settle(w, s);
	pthread_mutex_unlock(&w->lock);
	return rc < 0 ? rc : 0;
}

/* -EAGAIN: not yet. Else the slot holds nothing any more. */
static int slot_release(struct jsonl_writer *w, struct slot *s, bool last,
			bool *committed)
{
	bool can_grow;
	size_t offset;
	int rc = jsonl_frame_judge(&s->frame, &w->opt.limits, &can_grow, &offset);

	if (rc == JSONL_OK) {
		rc = fragment_commit(w, s);
		if (!rc)
			*committed = true;
		if (!rc || (rc == -EAGAIN && !last))
			return rc;
		offset = 0;
	}
	if (rc == JSONL_BLANK)
		jsonl_frame_clear(&s->frame);
	else
		fragment_set_aside(w, s, rc, offset);
	return 0;
}

int jsonl_writer_release(struct jsonl_writer *w, bool last, bool *committed)
{
	struct slot **lists[2] = {&w->orphans, &w->slots};
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	for (int i = 0; i < 2 && !rc; i++) {
		while (*lists[i]) {
			struct slot *s = *lists[i];

			rc = slot_release(w, s, last, committed);
			if (rc)
				break;
			*lists[i] = s->next;
			slot_free(w, s);
		}
	}
	pthread_mutex_unlock(&w->lock);
	return rc;
}
