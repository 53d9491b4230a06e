/* SPDX-License-Identifier: MIT */
/* One handle, several processes, and whatever they write, close and sync, with locks held
 * outside and full disks in between: answer by answer and byte by byte as in a small
 * model, which keeps whole strings and looks at everything anew each time. */
#include "record/writer.h"

#include <fcntl.h>

#include "rules/config.h"
#include "model.h"
#include "json/text.h"
#include "tokens.h"
#include "record/writer_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT	  8192
#define OWNERS	  4
#define SLOTS	  64
#define ENTRIES	  2048
#define MAXRECORD 48
#define LINES	  32 /* of one entry */
/* The first slots of a handle weigh nothing, each of the others this. */
#define FREE_SLOTS 2
#define SLOT_FIXED ((int64_t)sizeof(struct jsonl_slot) + JSONL_FRAME_KEEP)

struct text {
	char bytes[TEXT];
	size_t len;
};

static void text_add(struct text *t, const char *bytes, size_t len)
{
	REQUIRE(t->len + len <= TEXT);
	if (len)
		memcpy(t->bytes + t->len, bytes, len);
	t->len += len;
}

/* ---- what the writer does ---- */

static struct model m;
static struct jsonl_file *file;
static struct jsonl_writer *writer;
static struct text entries[ENTRIES];
static unsigned nentries;
static int64_t charged;

/* ---- lines that are known, of both ---- */

struct known {
	uint64_t process, hash;
	size_t len;
};

static struct known knowns[ENTRIES];
static unsigned nknowns;

static bool on_known(void *ctx, uint64_t process, uint64_t hash, size_t len, bool add)
{
	for (unsigned i = 0; i < nknowns; i++)
		if (knowns[i].process == process && knowns[i].hash == hash &&
		    knowns[i].len == len)
			return true;
	REQUIRE(nknowns < ENTRIES);
	if (add)
		knowns[nknowns++] = (struct known){process, hash, len};
	return false;
}

static uint64_t on_process(void *ctx, void *caller)
{
	return (uint64_t)(uintptr_t)caller;
}

static void *on_identify(void *ctx, void *caller)
{
	return NULL;
}

static void on_set_aside(void *ctx, const struct jsonl_set_aside *what,
			 char name[JSONL_QUARANTINE_NAME])
{
	size_t len = 0;

	REQUIRE(nentries < ENTRIES);
	entries[nentries].len = 0;
	for (int i = 0; i < what->niov; i++) {
		text_add(&entries[nentries], what->iov[i].iov_base, what->iov[i].iov_len);
		len += what->iov[i].iov_len;
	}
	REQUIRE(what->offset <= len);
	snprintf(name, JSONL_QUARANTINE_NAME, "%u", nentries++);
}

static void on_join(void *ctx, const char *name, const struct iovec *iov, int niov,
		    void *who)
{
	unsigned n = (unsigned)atoi(name);

	REQUIRE(n < nentries);
	for (int i = 0; i < niov; i++)
		text_add(&entries[n], iov[i].iov_base, iov[i].iov_len);
}

static int on_charge(void *ctx, int64_t bytes)
{
	charged += bytes;
	REQUIRE(charged >= 0);
	return 0;
}

static void on_note(void *ctx, const struct jsonl_writer_note *note, void *who)
{
}

static const struct jsonl_writer_events writer_events = {
    .identify = on_identify,
    .process = on_process,
    .known = on_known,
    .set_aside = on_set_aside,
    .join = on_join,
    .charge = on_charge,
    .note = on_note,
};

static int file_set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
			  int niov, off_t at, uint64_t offset)
{
	REQUIRE(!"the file is always whole");
	return 0;
}

static void file_report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
}

static const struct jsonl_file_events file_events = {.set_aside = file_set_aside,
						     .report = file_report};

/* ---- what it should do ---- */

/* A process, and what it is to be told. */
struct ref_owner {
	uint64_t owner, process;
	bool accepted, synced;
	int debt;
};

struct ref_slot {
	uint64_t owner, process;
	struct text fragment;
	bool swallow, adopted;
	bool told; /* its close has said that the fragment is not in the file */
	/* The request that was refused last, and what stood in front of it. */
	bool refused, open, one_line, held_swallow;
	struct text bytes, held;
	size_t skip;
	/* A line whose rest goes to an entry. */
	bool aside;
	unsigned entry;
	struct text head; /* of one that is too long */
};

struct ref {
	struct jsonl_writer_options opt;
	struct ref_slot slots[SLOTS], orphans[SLOTS]; /* newest first; oldest first */
	unsigned nslots, norphans;
	struct text content, entries[ENTRIES];
	unsigned nentries;
	struct ref_owner owners[ENTRIES];
	unsigned nowners;
	struct ref_known {
		uint64_t process;
		struct text line;
	} knowns[ENTRIES];
	unsigned nknowns;
	int fault; /* 0, -EAGAIN, -ENOSPC: what the next append meets */
};

static struct ref ref;

static size_t mark_of(const char *line, size_t len)
{
	return len >= 3 && !memcmp(line, "\xef\xbb\xbf", 3) ? 3 : 0;
}

static int check_line(const char *line, size_t len, struct jsonl_text *text)
{
	size_t mark = mark_of(line, len);
	int verdict;

	if (len + 1 > MAXRECORD)
		return JSONL_TOO_LONG;
	verdict =
	    jsonl_text_check(line + mark, len - mark, ref.opt.limits.maxdepth, text);
	if (verdict == JSONL_OK && ref.opt.limits.value == JSONL_VALUE_OBJECT &&
	    text->kind != JSONL_KIND_OBJECT)
		return JSONL_NOT_OBJECT;
	return verdict;
}

static unsigned ref_entry(const struct text *a, const char *b, size_t blen)
{
	struct text *e = &ref.entries[ref.nentries];

	REQUIRE(ref.nentries < ENTRIES);
	e->len = 0;
	if (a)
		text_add(e, a->bytes, a->len);
	text_add(e, b, blen);
	return ref.nentries++;
}

static bool has_bytes(const struct ref_slot *s)
{
	return s->fragment.len || s->refused || s->aside;
}

static void remove_at(struct ref_slot *list, unsigned *n, unsigned at)
{
	memmove(list + at, list + at + 1, (--*n - at) * sizeof(*list));
}

static struct ref_slot *ref_find(uint64_t owner)
{
	for (unsigned i = 0; i < ref.nslots; i++)
		if (ref.slots[i].owner == owner)
			return &ref.slots[i];
	return NULL;
}

static struct ref_owner *ref_by(uint64_t owner, uint64_t process)
{
	unsigned i = 0;

	while (i < ref.nowners &&
	       (ref.owners[i].owner != owner || ref.owners[i].process != process))
		i++;
	REQUIRE(i < ENTRIES);
	if (i == ref.nowners)
		ref.owners[ref.nowners++] =
		    (struct ref_owner){.owner = owner, .process = process};
	return &ref.owners[i];
}

static struct ref_slot *ref_get(uint64_t owner, uint64_t process)
{
	struct ref_slot *s = ref_find(owner);
	unsigned from = 0;

	while (from < ref.norphans && !has_bytes(&ref.orphans[from]))
		from++;
	if (s && (has_bytes(s) || s->swallow || from == ref.norphans))
		return s;
	if (s)
		remove_at(ref.slots, &ref.nslots, (unsigned)(s - ref.slots));
	/* From the third on, a slot that stands for nothing is used again. */
	if (!ref.norphans && ref.nslots + ref.norphans >= FREE_SLOTS) {
		unsigned idle = 0;

		while (idle < ref.nslots &&
		       (has_bytes(&ref.slots[idle]) || ref.slots[idle].swallow))
			idle++;
		if (idle < ref.nslots)
			remove_at(ref.slots, &ref.nslots, idle);
	}
	REQUIRE(ref.nslots < SLOTS);
	memmove(ref.slots + 1, ref.slots, ref.nslots++ * sizeof(ref.slots[0]));
	s = &ref.slots[0];
	if (ref.norphans) {
		from = from == ref.norphans ? 0 : from;
		*s = ref.orphans[from];
		remove_at(ref.orphans, &ref.norphans, from);
		s->adopted = true;
	} else {
		*s = (struct ref_slot){0};
	}
	s->told = false;
	s->owner = owner;
	s->process = process;
	ref_by(owner, process);
	return s;
}

static bool is_container(const char *line, size_t len)
{
	struct jsonl_text text;

	return jsonl_text_check(line, len, 16, &text) == JSONL_OK &&
	       (text.kind == JSONL_KIND_OBJECT || text.kind == JSONL_KIND_ARRAY);
}

static void ref_forget(struct ref_slot *s)
{
	s->refused = s->open = s->one_line = s->held_swallow = false;
	s->bytes.len = s->held.len = s->skip = 0;
}

/* A whole line counts by its first bytes, as many as a record may have. */
static bool ref_known(const struct ref_slot *s, const char *line, size_t len, bool add)
{
	struct ref_known *k = &ref.knowns[ref.nknowns];

	len = len < MAXRECORD ? len : MAXRECORD;
	for (unsigned i = 0; i < ref.nknowns; i++)
		if (ref.knowns[i].process == s->process &&
		    ref.knowns[i].line.len == len &&
		    !memcmp(ref.knowns[i].line.bytes, line, len))
			return true;
	REQUIRE(ref.nknowns < ENTRIES);
	if (!add)
		return false;
	ref.nknowns++;
	k->process = s->process;
	k->line.len = 0;
	text_add(&k->line, line, len);
	return false;
}

/* What a request does to the stream of its process. */
struct step {
	size_t skip, again;
	bool join;
};

static void ref_recall(const struct ref_slot *s, const char *data, size_t len,
		       struct step *st)
{
	const char *nl;

	*st = (struct step){0};
	if (s->refused && len >= s->bytes.len &&
	    !memcmp(data, s->bytes.bytes, s->bytes.len)) {
		st->again = s->bytes.len;
		st->skip = s->skip;
		if (!s->one_line)
			return;
	} else if (!s->aside) {
		return;
	}
	nl = memchr(data + st->again, '\n', len - st->again);
	if (nl && !st->again && is_container(data, (size_t)(nl - data)))
		return;
	st->join = true;
	st->skip = nl ? (size_t)(nl - data) + 1 : len;
}

static void ref_end_aside(struct ref_slot *s)
{
	s->aside = false;
	s->head.len = 0;
}

static void ref_join(struct ref_slot *s, const char *data, const struct step *st)
{
	if (!s->aside || !st->join) {
		ref_end_aside(s);
		return;
	}
	text_add(&ref.entries[s->entry], data + st->again, st->skip - st->again);
	if (data[st->skip - 1] != '\n')
		return;
	if (s->head.len)
		ref_known(s, s->head.bytes, s->head.len, true);
	ref_end_aside(s);
}

struct line {
	size_t start, len;
	int verdict;
	bool open;
};

/* Everything behind the skipped bytes, line by line. */
struct cut {
	struct text stream, good;
	struct line bad[256];
	unsigned nbad;
	size_t records, known, at;
	bool any;
};

static bool is_again(const struct ref_slot *s, const struct cut *c, const struct line *l)
{
	return l->open ? s->open && l->start < c->known : l->start + l->len <= c->known;
}

static bool is_new(const struct ref_slot *s, const struct cut *c, const struct line *l)
{
	return !is_again(s, c, l) &&
	       (l->open || !ref_known(s, c->stream.bytes + l->start, l->len, false));
}

static void ref_aside(struct ref_slot *s, const struct cut *c)
{
	const struct line *last = &c->bad[c->nbad - 1];

	ref_end_aside(s);
	s->aside = true;
	s->entry = ref.nentries - 1;
	text_add(&s->head, c->stream.bytes + last->start,
		 last->len < MAXRECORD ? last->len : MAXRECORD);
}

/* Behind the judgement of all of them: of two equal lines none is known by the other. */
static void ref_remember(const struct ref_slot *s, const struct cut *c)
{
	for (unsigned i = 0; i < c->nbad; i++)
		if (!c->bad[i].open)
			ref_known(s, c->stream.bytes + c->bad[i].start, c->bad[i].len,
				  true);
}

static void ref_bad(struct ref_slot *s, const struct cut *c)
{
	struct ref_owner *by = ref_by(s->owner, s->process);
	unsigned lines = 0;

	for (unsigned i = 0; i < c->nbad; i++) {
		const struct line *l = &c->bad[i];
		const char *bytes = c->stream.bytes + l->start;
		bool again = is_again(s, c, l);

		if (!l->open && (ref_known(s, bytes, l->len, false) || again))
			continue;
		if (!again && ref.opt.onbad == JSONL_ONBAD_REPORT) {
			by->debt = by->debt ? by->debt : l->verdict;
			by->synced = false;
		}
		if (lines++ % LINES == 0)
			ref_entry(NULL, bytes, l->len);
		else
			text_add(&ref.entries[ref.nentries - 1], bytes, l->len);
	}
	ref_remember(s, c);
	if (c->nbad && c->bad[c->nbad - 1].open)
		ref_aside(s, c);
}

static void ref_refuse_all(struct ref_slot *s, const struct cut *c, unsigned first)
{
	size_t from = c->known < c->bad[first].start ? c->known : c->bad[first].start;

	ref_remember(s, c);
	ref_entry(NULL, c->stream.bytes + from, c->stream.len - from);
	if (c->bad[c->nbad - 1].open) {
		ref_aside(s, c);
	} else if (c->at < c->stream.len) {
		s->aside = true;
		s->entry = ref.nentries - 1;
	}
}

static int ref_refuse(struct ref_slot *s, const char *data, size_t len,
		      const struct step *st, const struct cut *c, unsigned first)
{
	struct text held = st->again ? s->held : s->fragment;
	bool swallow = st->again ? s->held_swallow : s->swallow;
	bool open = c->bad[c->nbad - 1].open;
	bool one_line = open && !c->bad[c->nbad - 1].start;

	if (st->join)
		ref_join(s, data, st);
	ref_end_aside(s);
	if (ref.opt.onbad == JSONL_ONBAD_REFUSE)
		ref_refuse_all(s, c, first);
	else
		ref_bad(s, c);
	ref_forget(s);
	s->refused = true;
	s->open = open;
	s->one_line = one_line;
	s->skip = st->skip;
	if (!one_line) {
		s->held = held;
		s->held_swallow = swallow;
	}
	text_add(&s->bytes, data, len);
	s->adopted = s->swallow = false;
	s->fragment.len = 0;
	return -jsonl_error_errno(c->bad[first].verdict);
}

static void ref_cut(struct cut *c, const struct text *fragment, bool swallow,
		    const char *data, size_t len)
{
	const char *nl;

	c->stream.len = c->good.len = 0;
	c->nbad = 0;
	c->records = c->at = 0;
	c->any = false;
	text_add(&c->stream, fragment->bytes, fragment->len);
	text_add(&c->stream, data, len);
	while ((nl = memchr(c->stream.bytes + c->at, '\n', c->stream.len - c->at))) {
		const char *line = c->stream.bytes + c->at;
		size_t n = (size_t)(nl - line);
		size_t mark = mark_of(line, n);
		struct jsonl_text text;
		int verdict = check_line(line, n, &text);

		if (swallow && !c->any && (!n || (n == 1 && *line == '\r')))
			verdict = -1;
		c->records += verdict == JSONL_OK;
		if (verdict == JSONL_OK ||
		    (verdict == JSONL_BLANK && ref.opt.limits.blank == JSONL_BLANK_KEEP))
			text_add(&c->good, line + mark, n - mark + 1);
		else if (verdict > JSONL_BLANK)
			c->bad[c->nbad++] = (struct line){c->at, n + 1, verdict, false};
		c->any = true;
		c->at += n + 1;
	}
	if (c->stream.len - c->at && c->stream.len - c->at + 1 > MAXRECORD) {
		c->bad[c->nbad++] =
		    (struct line){c->at, c->stream.len - c->at, JSONL_TOO_LONG, true};
		c->at = c->stream.len;
	}
}

static bool ref_refuses(const struct ref_slot *s, const struct cut *c, unsigned *first)
{
	if (ref.opt.onbad == JSONL_ONBAD_QUARANTINE)
		return false;
	if (ref.opt.onbad == JSONL_ONBAD_REPORT &&
	    (c->records || c->at < c->stream.len ||
	     ref_by(s->owner, s->process)->accepted))
		return false;
	for (*first = 0; *first < c->nbad; ++*first)
		if (is_new(s, c, &c->bad[*first]))
			return true;
	return false;
}

static int ref_judge(const struct ref_slot *s, size_t *mark, bool *can_grow);
static int ref_commit(struct ref_slot *s);

static int ref_orphan(struct ref_slot *s, const char *data, size_t len)
{
	const char *nl = memchr(data, '\n', len);
	bool can_grow;
	size_t mark;
	int verdict, rc = 0;

	if (!nl || !s->adopted || !s->fragment.len ||
	    !is_container(data, (size_t)(nl - data)))
		return 0;
	verdict = ref_judge(s, &mark, &can_grow);
	if (verdict == JSONL_BLANK)
		return 0;
	if (!verdict && can_grow) {
		rc = ref_commit(s);
	} else {
		ref_entry(&s->fragment, NULL, 0);
		s->fragment.len = 0;
	}
	if (!rc)
		s->adopted = false;
	return rc;
}

static int ref_stream(struct ref_slot *s, const char *data, size_t len,
		      const struct step *st)
{
	static struct cut c;
	bool swallow;
	unsigned first;
	int rc = ref_orphan(s, data + st->skip, len - st->skip);

	if (rc)
		return rc;
	swallow = st->again ? s->held_swallow : s->swallow;
	ref_cut(&c, st->again ? &s->held : &s->fragment, swallow, data + st->skip,
		len - st->skip);
	c.known = st->again > st->skip ? c.stream.len - (len - st->again) : 0;
	if (ref_refuses(s, &c, &first))
		return ref_refuse(s, data, len, st, &c, first);
	if (c.good.len && ref.fault)
		return ref.fault;
	text_add(&ref.content, c.good.bytes, c.good.len);
	if (c.records)
		ref_by(s->owner, s->process)->accepted = true;
	ref_join(s, data, st);
	ref_bad(s, &c);
	s->swallow = swallow && !c.any && !(c.nbad && c.bad[c.nbad - 1].open) &&
		     (!c.stream.len || (c.stream.len == 1 && c.stream.bytes[0] == '\r'));
	s->fragment.len = 0;
	text_add(&s->fragment, c.stream.bytes + c.at, c.stream.len - c.at);
	if (c.any)
		s->adopted = false;
	return 0;
}

/* What the fragment is without a byte order mark. */
static int ref_judge(const struct ref_slot *s, size_t *mark, bool *can_grow)
{
	const char *line = s->fragment.bytes;
	size_t n = s->fragment.len;
	struct jsonl_text text = {0};
	int verdict;

	*mark = mark_of(line, n);
	verdict = n == *mark ? JSONL_BLANK : check_line(line, n, &text);
	*can_grow = text.can_grow;
	return verdict;
}

static int ref_commit(struct ref_slot *s)
{
	bool can_grow;
	size_t mark;

	(void)ref_judge(s, &mark, &can_grow);
	if (ref.fault)
		return ref.fault;
	text_add(&ref.content, s->fragment.bytes + mark, s->fragment.len - mark);
	text_add(&ref.content, "\n", 1);
	if (s->owner)
		ref_by(s->owner, s->process)->accepted = true;
	s->fragment.len = 0;
	s->swallow = true;
	return 0;
}

/* 0, a verdict, or -errno. */
static int ref_settle(struct ref_slot *s)
{
	bool can_grow;
	size_t mark;
	int verdict = ref_judge(s, &mark, &can_grow);

	if (s->told || verdict == JSONL_BLANK || (verdict == JSONL_OK && can_grow))
		return 0;
	return verdict ? verdict : ref_commit(s);
}

static int ref_write(uint64_t owner, uint64_t process, const char *data, size_t len)
{
	struct ref_slot *s;
	struct step st;
	int rc = 0;

	if (!len)
		return 0;
	s = ref_get(owner, process);
	ref_recall(s, data, len, &st);
	if (st.skip < len)
		rc = ref_stream(s, data, len, &st);
	else
		ref_join(s, data, &st);
	if (rc)
		return rc;
	ref_forget(s);
	if (ref.opt.settle_each && ref_settle(s))
		s->adopted = false;
	return 0;
}

static int ref_flush(uint64_t owner, uint64_t process)
{
	struct ref_slot *s = ref_find(owner);
	int rc = s ? ref_settle(s) : 0;
	bool keep;

	if (rc == -EAGAIN)
		return rc;
	if (s) {
		ref_forget(s);
		keep = has_bytes(s) || s->swallow;
		s->told = rc < 0;
		s->owner = 0;
		for (unsigned i = 0; i < ref.norphans; i++)
			keep = keep && (has_bytes(s) || has_bytes(&ref.orphans[i]));
		REQUIRE(ref.norphans < SLOTS);
		if (keep)
			ref.orphans[ref.norphans++] = *s;
		remove_at(ref.slots, &ref.nslots, (unsigned)(s - ref.slots));
	}
	if (rc > 0 && ref.opt.onbad == JSONL_ONBAD_QUARANTINE)
		rc = 0;
	for (unsigned i = 0; i < ref.nowners && !rc; i++)
		if (ref.owners[i].owner == owner && ref.owners[i].process == process)
			rc = ref.owners[i].debt;
	return rc > 0 ? -jsonl_error_errno(rc) : rc;
}

static int ref_fsync(uint64_t process)
{
	int rc = 0, told = 0;

	for (unsigned i = 0; i < ref.norphans && rc >= 0; i++)
		rc = ref_settle(&ref.orphans[i]);
	for (unsigned i = 0; i < ref.nslots && rc >= 0; i++)
		rc = ref_settle(&ref.slots[i]);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < ref.nowners; i++) {
		struct ref_owner *o = &ref.owners[i];

		if (o->process != process || !o->debt || o->synced)
			continue;
		o->synced = true;
		told = -jsonl_error_errno(o->debt);
	}
	return told;
}

static void ref_release(struct ref_slot *s)
{
	bool can_grow;
	size_t mark;
	int verdict = ref_judge(s, &mark, &can_grow);

	if (verdict == JSONL_OK && !s->told) {
		text_add(&ref.content, s->fragment.bytes + mark, s->fragment.len - mark);
		text_add(&ref.content, "\n", 1);
	} else if (verdict != JSONL_BLANK) {
		ref_entry(&s->fragment, NULL, 0);
	}
}

/* ---- side by side ---- */

static void fault_now(struct model *model, enum model_op op)
{
	if (op == MODEL_WRITEV && ref.fault == -ENOSPC)
		model->faults[0] = (struct model_fault){
		    .at = model->calls + 1, .kind = MODEL_FAIL, .code = ENOSPC};
}

static void compare(bool ended)
{
	size_t weight = 0;

	REQUIRE(m.files[0].size == ref.content.len);
	REQUIRE(!ref.content.len ||
		!memcmp(m.files[0].data, ref.content.bytes, ref.content.len));
	REQUIRE(nentries == ref.nentries);
	for (unsigned i = 0; i < nentries; i++)
		REQUIRE(entries[i].len == ref.entries[i].len &&
			!memcmp(entries[i].bytes, ref.entries[i].bytes, entries[i].len));
	for (unsigned i = 0; !ended && i < ref.nslots; i++)
		weight += ref.slots[i].fragment.len + ref.slots[i].held.len;
	for (unsigned i = 0; !ended && i < ref.norphans; i++)
		weight += ref.orphans[i].fragment.len + ref.orphans[i].held.len;
	REQUIRE(charged >= (int64_t)weight &&
		(charged - (int64_t)weight) % SLOT_FIXED == 0);
	REQUIRE((charged - (int64_t)weight) / SLOT_FIXED <=
		(ended ? 0 : (int64_t)ref.nslots + ref.norphans));
}

/* A process ends, and another one gets the number of its file table. */
static uint64_t process_of[OWNERS + 1];

static void *caller_of(uint64_t owner)
{
	return (void *)(uintptr_t)process_of[owner];
}

static void one_write(uint64_t owner, const char *data, size_t len)
{
	char *copy = malloc(len ? len : 1);
	int expected = ref_write(owner, process_of[owner], data, len);

	REQUIRE(copy);
	memcpy(copy, data, len);
	REQUIRE(jsonl_writer_write(writer, owner, caller_of(owner), true,
				   (off_t)m.files[0].size, copy, len) == expected);
	free(copy);
}

static void steps(struct input *in)
{
	static char request[64], before[64];
	size_t len = 0, nbefore = 0;

	for (uint64_t owner = 1; owner <= OWNERS; owner++)
		process_of[owner] = owner;
	for (int n = 0; in->left && n < 60; n++) {
		uint8_t op = input_byte(in);
		uint64_t owner = 1 + op % OWNERS;
		uint8_t count = input_byte(in);

		ref.fault = op & 0x80 ? (op & 0x40 ? -EAGAIN : -ENOSPC) : 0;
		m.files[0].lock = ref.fault == -EAGAIN ? -1 : 0;
		if (op & 0x20) {
			int rc = ref_flush(owner, process_of[owner]);

			REQUIRE(jsonl_writer_flush(writer, owner, caller_of(owner)) ==
				rc);
			if (op & 0x10 && rc != -EAGAIN)
				process_of[owner] += OWNERS;
		} else if ((op & 0x1c) == 0x1c) {
			REQUIRE(jsonl_writer_settle(writer, caller_of(owner)) ==
				ref_fsync(process_of[owner]));
		} else {
			/* What was sent before comes again, with more behind it. */
			len = 0;
			if (op & 0x10 && nbefore <= 32) {
				memcpy(request, before, nbefore);
				len = nbefore;
			}
			for (count %= 6; count && in->left; count--)
				len += token_add(request + len, sizeof(request) - len,
						 input_byte(in));
			one_write(owner, request, len);
			memcpy(before, request, len);
			nbefore = len;
		}
		compare(false);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct jsonl_file_options opt = {.maxrecord = 4096, .maxdepth = 16};
	struct input in = {.data = data, .left = size};
	uint8_t flags = input_byte(&in);
	bool committed;

	ref.nslots = ref.norphans = ref.nentries = nentries = 0;
	ref.content.len = 0;
	ref.nowners = ref.nknowns = nknowns = 0;
	ref.opt = (struct jsonl_writer_options){
	    .limits = {.maxdepth = 16,
		       .maxrecord = MAXRECORD,
		       .pipebuf = 4096,
		       .value = flags & 1 ? JSONL_VALUE_OBJECT : JSONL_VALUE_ANY,
		       .blank = flags & 2 ? JSONL_BLANK_KEEP : JSONL_BLANK_DROP},
	    .onbad = flags & 4	  ? JSONL_ONBAD_REPORT
		     : flags & 32 ? JSONL_ONBAD_QUARANTINE
				  : JSONL_ONBAD_REFUSE,
	    .settle_each = (flags & 24) == 24,
	};
	charged = 0;
	model_init(&m);
	m.before = fault_now;
	REQUIRE(jsonl_file_new(&m.io, model_open(&m, 0, O_RDONLY, false), &opt,
			       &file_events, NULL, &file) == 0);
	jsonl_file_set_append_fd(file, model_open(&m, 0, O_RDWR | O_APPEND, false), true);
	REQUIRE(jsonl_writer_new(file, &ref.opt, &writer_events, NULL, 0, &writer) == 0);
	steps(&in);
	ref.fault = 0;
	m.files[0].lock = 0;
	for (unsigned i = 0; i < ref.norphans; i++)
		ref_release(&ref.orphans[i]);
	for (unsigned i = 0; i < ref.nslots; i++)
		ref_release(&ref.slots[i]);
	REQUIRE(jsonl_writer_release(writer, true, &committed) == 0);
	jsonl_writer_free(writer);
	compare(true);
	jsonl_file_free(file);
	model_deinit(&m);
	return 0;
}
