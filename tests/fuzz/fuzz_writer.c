/* One handle, several processes, and whatever they write, close and sync, with locks held
 * outside and full disks in between: answer by answer and byte by byte as in a small
 * model, which keeps whole strings and looks at everything anew each time. */
#include "writer.h"

#include <fcntl.h>

#include "config.h"
#include "model.h"
#include "text.h"
#include "tokens.h"
#include "writer_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT	  8192
#define OWNERS	  4
#define SLOTS	  64
#define ENTRIES	  2048
#define MAXRECORD 48
#define FULL	  24 /* bytes of the longest request */
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

struct ref_slot {
	uint64_t owner;
	struct text fragment;
	bool swallow, adopted, after_full;
	bool told; /* its close has said that the fragment is not in the file */
	/* What was refused last. */
	bool refused, remembered, mid, unheard, held_swallow;
	struct text bytes, held;
	size_t head;
	int code;
	unsigned entry;
};

struct ref {
	struct jsonl_writer_options opt;
	struct ref_slot slots[SLOTS], orphans[SLOTS]; /* newest first; oldest first */
	unsigned nslots, norphans;
	struct text content, entries[ENTRIES];
	unsigned nentries;
	int fault; /* 0, -EAGAIN, -ENOSPC: what the next append meets */
};

static struct ref ref;

static int check_line(const char *line, size_t len, struct jsonl_text *text)
{
	int verdict;

	if (len + 1 > MAXRECORD)
		return JSONL_TOO_LONG;
	verdict = jsonl_text_check(line, len, ref.opt.limits.maxdepth, text);
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
	return s->fragment.len || s->refused;
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

static struct ref_slot *ref_get(uint64_t owner)
{
	struct ref_slot *s = ref_find(owner);
	bool after_full = s && s->after_full;
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
		       (has_bytes(&ref.slots[idle]) || ref.slots[idle].swallow ||
			ref.slots[idle].after_full))
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
	s->after_full = after_full;
	s->told = false;
	s->owner = owner;
	return s;
}

/* A whole container behind an unfinished text is a record of its own. */
static bool starts_afresh(const char *open, size_t open_len, const char *line, size_t len)
{
	struct jsonl_text text;

	return jsonl_text_check(open, open_len, 16, &text) == JSONL_INCOMPLETE &&
	       jsonl_text_check(line, len, 16, &text) == JSONL_OK &&
	       (text.kind == JSONL_KIND_OBJECT || text.kind == JSONL_KIND_ARRAY);
}

static void ref_forget(struct ref_slot *s)
{
	s->refused = s->remembered = s->mid = s->unheard = s->held_swallow = false;
	s->bytes.len = s->held.len = s->head = 0;
}

/* What a request does to the stream of its process. */
struct step {
	size_t skip, reported;
	bool join;
};

static int ref_recall(struct ref_slot *s, const char *data, size_t len, struct step *st)
{
	const char *nl, *last;
	size_t from = 0, at;

	*st = (struct step){0};
	if (!s->refused)
		return 0;
	if (s->remembered && len >= s->bytes.len &&
	    !memcmp(data, s->bytes.bytes, s->bytes.len)) {
		if (s->unheard) {
			s->unheard = false;
			return -jsonl_error_errno(s->code);
		}
		st->reported = s->bytes.len;
		st->skip = s->head;
		if (s->head < s->bytes.len || !s->mid)
			return 0;
		from = s->bytes.len;
	} else if (!s->mid) {
		return 0;
	}
	nl = memchr(data + from, '\n', len - from);
	if (nl && !from && s->remembered && s->head < s->bytes.len) {
		last = memrchr(s->bytes.bytes, '\n', s->bytes.len);
		at = last ? (size_t)(last - s->bytes.bytes) + 1 : 0;
		if (starts_afresh(s->bytes.bytes + at, s->bytes.len - at, data,
				  (size_t)(nl - data)))
			return 0;
	}
	st->join = true;
	st->skip = nl ? (size_t)(nl - data) + 1 : len;
	return 0;
}

static void ref_join(const struct ref_slot *s, const char *data, const struct step *st)
{
	size_t from = st->reported < st->skip ? st->reported : st->skip;

	if (st->join)
		text_add(&ref.entries[s->entry], data + from, st->skip - from);
}

static int ref_refuse(struct ref_slot *s, const char *data, size_t len,
		      const struct step *st, const struct text *stream, size_t own,
		      size_t from, bool first_good, int code)
{
	const char *nl = memchr(data, '\n', len);
	bool had_fragment = own > 0,
	     swallow = st->reported ? s->held_swallow : s->swallow;
	struct text held = st->reported ? s->held : s->fragment;
	unsigned entry = ref_entry(NULL, stream->bytes + from, stream->len - from);
	size_t head = st->skip;

	ref_join(s, data, st);
	if (!st->reported && (had_fragment || !nl))
		head = nl ? (size_t)(nl - data) + 1 : len;
	ref_forget(s);
	if (first_good && (held.len || swallow)) {
		s->held = held;
		s->held_swallow = swallow;
		head = 0;
	}
	s->refused = s->remembered = true;
	s->entry = entry;
	s->code = code;
	s->head = head;
	s->mid = data[len - 1] != '\n';
	s->unheard = s->after_full;
	text_add(&s->bytes, data, len);
	s->after_full = s->adopted = s->swallow = false;
	s->fragment.len = 0;
	return -jsonl_error_errno(code);
}

struct line {
	size_t start, len;
	int verdict;
};

/* Everything behind the skipped bytes. */
static int ref_stream(struct ref_slot *s, const char *data, size_t len,
		      const struct step *st)
{
	static struct text stream, good;
	struct line bad[256];
	const char *nl = memchr(data + st->skip, '\n', len - st->skip);
	bool swallow = st->reported ? s->held_swallow : s->swallow, any = false;
	const struct text *fragment = st->reported ? &s->held : &s->fragment;
	size_t own, known, at = 0;
	unsigned nbad = 0, first = 0;

	if (!st->reported && s->adopted && nl && s->fragment.len &&
	    starts_afresh(s->fragment.bytes, s->fragment.len, data + st->skip,
			  (size_t)(nl - (data + st->skip)))) {
		ref_entry(&s->fragment, NULL, 0);
		s->fragment.len = 0;
		s->adopted = false;
	}
	own = fragment->len;
	known = st->reported > st->skip ? own + st->reported - st->skip : 0;
	stream.len = good.len = 0;
	text_add(&stream, fragment->bytes, own);
	text_add(&stream, data + st->skip, len - st->skip);
	while ((nl = memchr(stream.bytes + at, '\n', stream.len - at))) {
		size_t n = (size_t)(nl - (stream.bytes + at));
		struct jsonl_text text;
		int verdict = check_line(stream.bytes + at, n, &text);

		if (swallow && !any && (!n || (n == 1 && stream.bytes[at] == '\r')))
			verdict = -1;
		if (verdict == JSONL_OK ||
		    (verdict == JSONL_BLANK && ref.opt.limits.blank == JSONL_BLANK_KEEP))
			text_add(&good, stream.bytes + at, n + 1);
		else if (verdict > JSONL_BLANK)
			bad[nbad++] = (struct line){at, n + 1, verdict};
		any = true;
		at += n + 1;
	}
	if (stream.len - at && stream.len - at + 1 > MAXRECORD)
		bad[nbad++] = (struct line){at, stream.len - at, JSONL_TOO_LONG};
	while (first < nbad && bad[first].start + bad[first].len <= known)
		first++;
	if (first < nbad && (ref.opt.onbad == JSONL_ONBAD_REFUSE ||
			     (bad[nbad - 1].start + bad[nbad - 1].len == stream.len &&
			      data[len - 1] != '\n')))
		return ref_refuse(s, data, len, st, &stream, own,
				  known < bad[first].start ? known : bad[first].start,
				  bad[0].start > 0, bad[first].verdict);
	if (good.len && ref.fault)
		return ref.fault;
	text_add(&ref.content, good.bytes, good.len);
	for (; first < nbad; first++)
		ref_entry(NULL, stream.bytes + bad[first].start, bad[first].len);
	s->swallow = swallow && !any &&
		     (!stream.len || (stream.len == 1 && stream.bytes[0] == '\r'));
	s->fragment.len = 0;
	text_add(&s->fragment, stream.bytes + at, stream.len - at);
	if (any)
		s->adopted = false;
	return 0;
}

/* 0, a verdict, or -errno. */
static int ref_settle(struct ref_slot *s)
{
	struct jsonl_text text = {0};
	int verdict = s->fragment.len
			  ? check_line(s->fragment.bytes, s->fragment.len, &text)
			  : JSONL_BLANK;

	if (s->told || verdict == JSONL_BLANK || (verdict == JSONL_OK && text.can_grow))
		return 0;
	if (verdict)
		return verdict;
	if (ref.fault)
		return ref.fault;
	text_add(&ref.content, s->fragment.bytes, s->fragment.len);
	text_add(&ref.content, "\n", 1);
	s->fragment.len = 0;
	s->swallow = true;
	return 0;
}

static int ref_write(uint64_t owner, const char *data, size_t len)
{
	struct ref_slot *s;
	struct step st;
	int rc;

	if (!len)
		return 0;
	s = ref_get(owner);
	rc = ref_recall(s, data, len, &st);
	if (!rc && st.skip < len)
		rc = ref_stream(s, data, len, &st);
	if (rc)
		return rc;
	if (s->refused) {
		ref_join(s, data, &st);
		if (st.join && data[st.skip - 1] != '\n') {
			s->remembered = s->held_swallow = false;
			s->bytes.len = s->held.len = 0;
		} else {
			ref_forget(s);
		}
	}
	s->after_full = len >= FULL;
	if (ref.opt.settle_each && ref_settle(s))
		s->adopted = false;
	return 0;
}

static int ref_flush(uint64_t owner)
{
	struct ref_slot *s = ref_find(owner);
	int rc = s ? ref_settle(s) : 0;
	bool keep;

	if (!s || rc == -EAGAIN)
		return rc;
	keep = has_bytes(s) || s->swallow;
	s->told = rc < 0;
	s->after_full = false;
	for (unsigned i = 0; i < ref.norphans; i++)
		keep = keep && (has_bytes(s) || has_bytes(&ref.orphans[i]));
	REQUIRE(ref.norphans < SLOTS);
	if (keep)
		ref.orphans[ref.norphans++] = *s;
	remove_at(ref.slots, &ref.nslots, (unsigned)(s - ref.slots));
	return rc > 0 ? -jsonl_error_errno(rc) : rc;
}

static void ref_release(struct ref_slot *s)
{
	struct jsonl_text text = {0};
	int verdict = s->fragment.len
			  ? check_line(s->fragment.bytes, s->fragment.len, &text)
			  : JSONL_BLANK;

	if (verdict == JSONL_OK && !s->told) {
		text_add(&ref.content, s->fragment.bytes, s->fragment.len);
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
		weight += ref.slots[i].fragment.len + ref.slots[i].bytes.len +
			  ref.slots[i].held.len;
	for (unsigned i = 0; !ended && i < ref.norphans; i++)
		weight += ref.orphans[i].fragment.len + ref.orphans[i].bytes.len +
			  ref.orphans[i].held.len;
	REQUIRE(charged >= (int64_t)weight &&
		(charged - (int64_t)weight) % SLOT_FIXED == 0);
	REQUIRE((charged - (int64_t)weight) / SLOT_FIXED <=
		(ended ? 0 : (int64_t)ref.nslots + ref.norphans));
}

static void one_write(uint64_t owner, const char *data, size_t len)
{
	char *copy = malloc(len ? len : 1);
	int expected = ref_write(owner, data, len);

	REQUIRE(copy);
	memcpy(copy, data, len);
	REQUIRE(jsonl_writer_write(writer, owner, NULL, true, (off_t)m.files[0].size,
				   copy, len) == expected);
	free(copy);
}

static void one_settle(void)
{
	int rc = 0;

	for (unsigned i = 0; i < ref.norphans && rc >= 0; i++)
		rc = ref_settle(&ref.orphans[i]);
	for (unsigned i = 0; i < ref.nslots && rc >= 0; i++)
		rc = ref_settle(&ref.slots[i]);
	REQUIRE(jsonl_writer_settle(writer) == (rc < 0 ? rc : 0));
}

static void steps(struct input *in)
{
	static char request[64], before[64];
	size_t len = 0, nbefore = 0;

	for (int n = 0; in->left && n < 60; n++) {
		uint8_t op = input_byte(in);
		uint64_t owner = 1 + op % OWNERS;
		uint8_t count = input_byte(in);

		ref.fault = op & 0x80 ? (op & 0x40 ? -EAGAIN : -ENOSPC) : 0;
		m.files[0].lock = ref.fault == -EAGAIN ? -1 : 0;
		if (op & 0x20) {
			REQUIRE(jsonl_writer_flush(writer, owner) == ref_flush(owner));
		} else if ((op & 0x1c) == 0x1c) {
			one_settle();
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
	ref.opt = (struct jsonl_writer_options){
	    .limits = {.maxdepth = 16,
		       .maxrecord = MAXRECORD,
		       .pipebuf = 4096,
		       .value = flags & 1 ? JSONL_VALUE_OBJECT : JSONL_VALUE_ANY,
		       .blank = flags & 2 ? JSONL_BLANK_KEEP : JSONL_BLANK_DROP},
	    .onbad = flags & 4 ? JSONL_ONBAD_QUARANTINE : JSONL_ONBAD_REFUSE,
	    .settle_each = (flags & 24) == 24,
	    .max_request = FULL,
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
