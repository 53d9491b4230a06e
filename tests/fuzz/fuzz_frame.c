/* SPDX-License-Identifier: MIT */
/* A stream cut into requests gives what a look at its lines gives, whatever the cuts. */
#include "record/frame.h"

#include "rules/config.h"
#include "json/text.h"
#include "tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAM 2048

struct result {
	char good[STREAM], bad[STREAM], rest[STREAM];
	size_t ngood, nbad, nrest, records, blank, marks;
};

static void add(char *to, size_t *n, const void *bytes, size_t len)
{
	if (len)
		memcpy(to + *n, bytes, len);
	*n += len;
}

/* The plain way: line by line. */
static void look(const struct jsonl_limits *lim, const char *stream, size_t len,
		 bool swallow, struct result *r)
{
	size_t at = 0;

	while (at < len) {
		const char *nl = memchr(stream + at, '\n', len - at);
		size_t n = nl ? (size_t)(nl - (stream + at)) : len - at;
		size_t mark = n >= 3 && !memcmp(stream + at, "\xef\xbb\xbf", 3) ? 3 : 0;
		struct jsonl_text text;
		int verdict =
		    jsonl_text_check(stream + at + mark, n - mark, lim->maxdepth, &text);
		bool object = text.kind == JSONL_KIND_OBJECT;
		bool container = object || text.kind == JSONL_KIND_ARRAY;

		if (!nl) {
			add(r->rest, &r->nrest, stream + at, n);
			return;
		}
		if (swallow && (n == 0 || (n == 1 && stream[at] == '\r'))) {
			swallow = false;
			at += n + 1;
			continue;
		}
		swallow = false;
		if (n + 1 > lim->maxrecord)
			verdict = JSONL_TOO_LONG;
		else if (verdict == JSONL_OK && lim->value == JSONL_VALUE_OBJECT &&
			 !object)
			verdict = JSONL_NOT_OBJECT;
		else if (verdict == JSONL_OK && lim->value == JSONL_VALUE_CONTAINER &&
			 !container)
			verdict = JSONL_NOT_CONTAINER;
		else if (verdict == JSONL_OK && lim->oversize == JSONL_OVERSIZE_REJECT &&
			 n - mark + 1 >= lim->pipebuf)
			verdict = JSONL_OVERSIZE;
		if (verdict == JSONL_BLANK && lim->blank == JSONL_BLANK_DROP)
			r->blank++;
		else if (verdict == JSONL_OK || verdict == JSONL_BLANK)
			add(r->good, &r->ngood, stream + at + mark, n - mark + 1);
		else
			add(r->bad, &r->nbad, stream + at, n + 1);
		r->records += verdict == JSONL_OK;
		r->marks += mark && (verdict == JSONL_OK || verdict == JSONL_BLANK);
		at += n + 1;
	}
}

/* One request. False: an unfinished line has outgrown maxrecord, the stream ends here. */
static bool feed(struct jsonl_frame *f, const struct jsonl_limits *lim, const char *data,
		 size_t len, struct result *r)
{
	char *copy = malloc(len ? len : 1);
	size_t before = f->len;
	struct jsonl_cut cut;
	bool go_on;

	REQUIRE(copy);
	memcpy(copy, data, len);
	REQUIRE(jsonl_frame_offer(f, lim, copy, len, &cut) == 0);
	REQUIRE(f->len == before && cut.used <= len);
	for (int i = 0; i < cut.niov; i++)
		add(r->good, &r->ngood, cut.iov[i].iov_base, cut.iov[i].iov_len);
	for (size_t i = 0; i < cut.nbad; i++) {
		const struct jsonl_bad_line *bad = &cut.bad[i];
		size_t own = bad->start < before ? before - bad->start : 0;

		REQUIRE(bad->start + bad->len <= before + len && bad->offset <= bad->len);
		REQUIRE(!i || bad->start >= cut.bad[i - 1].start + cut.bad[i - 1].len);
		add(r->bad, &r->nbad, own ? f->buf + bad->start : NULL, own);
		add(r->bad, &r->nbad, copy + (own ? 0 : bad->start - before),
		    bad->len - own);
	}
	go_on = !cut.open;
	REQUIRE(go_on || (cut.bad[cut.nbad - 1].verdict == JSONL_TOO_LONG &&
			  copy[len - 1] != '\n'));
	r->records += cut.records;
	r->blank += cut.blank;
	r->marks += cut.marks;
	jsonl_frame_take(f, &cut, copy, len);
	REQUIRE(go_on || !f->len);
	jsonl_cut_deinit(&cut);
	free(copy);
	return go_on;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct result plain, framed;
	static char stream[STREAM];
	struct input in = {.data = data, .left = size};
	uint8_t flags = input_byte(&in), seed = input_byte(&in);
	struct jsonl_limits lim = {
	    .maxdepth = 4,
	    .maxrecord = flags & 1 ? 24 : STREAM + 1,
	    .pipebuf = 16,
	    .value = (flags >> 1) % 3,
	    .blank = flags & 8 ? JSONL_BLANK_KEEP : JSONL_BLANK_DROP,
	    .oversize = (flags >> 4) % 3,
	};
	struct jsonl_frame f = {.swallow = flags & 128};
	size_t len = 0, at = 0;
	bool ended = true;

	while (in.left)
		len += token_add(stream + len, sizeof(stream) - len, input_byte(&in));
	plain.ngood = plain.nbad = plain.nrest = plain.records = plain.blank =
	    plain.marks = 0;
	framed = plain;
	look(&lim, stream, len, f.swallow, &plain);
	while (at < len && ended) {
		size_t n = 1 + seed % 23;

		seed = (uint8_t)(seed * 5 + 3);
		n = n < len - at ? n : len - at;
		ended = feed(&f, &lim, stream + at, n, &framed);
		at += n;
	}
	if (ended) {
		REQUIRE(framed.ngood == plain.ngood && framed.nbad == plain.nbad);
		REQUIRE(framed.records == plain.records && framed.blank == plain.blank &&
			framed.marks == plain.marks);
		REQUIRE(f.len == plain.nrest &&
			(!f.len || !memcmp(f.buf, plain.rest, f.len)));
		REQUIRE(f.len < lim.maxrecord);
	}
	REQUIRE(framed.ngood <= plain.ngood &&
		!memcmp(framed.good, plain.good, framed.ngood));
	REQUIRE(framed.nbad <= plain.nbad + plain.nrest || !ended);
	if (ended)
		REQUIRE(!memcmp(framed.bad, plain.bad, framed.nbad));
	jsonl_frame_deinit(&f);
	return 0;
}
