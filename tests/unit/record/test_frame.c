/* SPDX-License-Identifier: MIT */
/* Assembly of records from requests: whatever way a stream is cut into requests, the same
 * records come out, the same lines are bad, and the same fragment is left. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "rules/config.h"
#include "record/frame.h"

static const struct jsonl_limits usual = {
    .maxdepth = 8,
    .maxrecord = 64,
    .pipebuf = 32,
    .value = JSONL_VALUE_ANY,
    .blank = JSONL_BLANK_DROP,
    .oversize = JSONL_OVERSIZE_WARN,
};

/* What has come out of a stream so far. */
struct outcome {
	char good[512];
	size_t ngood;
	struct jsonl_bad_line bad[8];
	size_t nbad;
	uint64_t records, blank, oversize;
	size_t largest;
	unsigned split;
	struct jsonl_frame frame;
};

/* One request, as a writer does it with onbad=quarantine: good lines are appended, bad
 * ones left out. Every buffer is of the exact size, so that a sanitizer sees a byte too
 * many. */
static void feed(struct outcome *o, const struct jsonl_limits *lim, size_t at,
		 const char *data, size_t len)
{
	char *copy = malloc(len ? len : 1);
	struct jsonl_cut cut;
	size_t before = o->frame.len, sum = 0;

	memcpy(copy, data, len);
	CHECK(jsonl_frame_offer(&o->frame, lim, copy, len, &cut) == 0);
	CHECK(o->frame.len == before, "an offer leaves the frame as it is");
	for (int i = 0; i < cut.niov; i++) {
		memcpy(o->good + o->ngood, cut.iov[i].iov_base, cut.iov[i].iov_len);
		o->ngood += cut.iov[i].iov_len;
		sum += cut.iov[i].iov_len;
	}
	CHECK(sum == cut.bytes);
	for (size_t i = 0; i < cut.nbad && o->nbad < 8; i++) {
		o->bad[o->nbad] = cut.bad[i];
		o->bad[o->nbad++].start += at - before;
	}
	o->records += cut.records;
	o->blank += cut.blank;
	o->oversize += cut.oversize;
	o->split += cut.split;
	if (cut.largest > o->largest)
		o->largest = cut.largest;
	jsonl_frame_take(&o->frame, &cut, copy, len);
	jsonl_cut_deinit(&cut);
	free(copy);
}

static struct outcome run(const struct jsonl_limits *lim, const char *data, size_t len,
			  size_t a, size_t b)
{
	struct outcome o = {0};

	feed(&o, lim, 0, data, a);
	feed(&o, lim, a, data + a, b - a);
	feed(&o, lim, b, data + b, len - b);
	return o;
}

static void same(const struct outcome *x, const struct outcome *y, size_t a, size_t b,
		 const char *name)
{
	CHECK(x->ngood == y->ngood && !memcmp(x->good, y->good, x->ngood),
	      "%s cut at %zu and %zu: `%.*s`", name, a, b, (int)y->ngood, y->good);
	CHECK(x->records == y->records && x->blank == y->blank &&
		  x->oversize == y->oversize && x->largest == y->largest,
	      "%s cut at %zu and %zu", name, a, b);
	CHECK(x->frame.len == y->frame.len &&
		  (!x->frame.len || !memcmp(x->frame.buf, y->frame.buf, x->frame.len)),
	      "%s cut at %zu and %zu: fragment of %zu", name, a, b, y->frame.len);
	CHECK(x->nbad == y->nbad, "%s cut at %zu and %zu: %zu bad", name, a, b, y->nbad);
	for (size_t i = 0; i < x->nbad && i < y->nbad; i++)
		CHECK(x->bad[i].start == y->bad[i].start &&
			  x->bad[i].len == y->bad[i].len &&
			  x->bad[i].offset == y->bad[i].offset &&
			  x->bad[i].verdict == y->bad[i].verdict,
		      "%s cut at %zu and %zu: bad line %zu", name, a, b, i);
}

struct row {
	const char *name, *in, *good, *fragment;
	uint64_t records, blank;
	struct jsonl_bad_line bad[3];
	size_t nbad;
	struct jsonl_limits lim;
};

#define WITH(...)                                                                        \
	{                                                                                \
		.maxdepth = 8, .maxrecord = 64, .pipebuf = 32, __VA_ARGS__               \
	}

static const struct row rows[] = {
    {"nothing", "", "", "", 0, 0, {{0}}, 0, WITH(0)},
    {"one", "{\"a\":1}\n", "{\"a\":1}\n", "", 1, 0, {{0}}, 0, WITH(0)},
    {"two and a half",
     "[1]\n\"x\"\n{\"a\"",
     "[1]\n\"x\"\n",
     "{\"a\"",
     2,
     0,
     {{0}},
     0,
     WITH(0)},
    {"carriage return", "[1]\r\n[2]\r\n", "[1]\r\n[2]\r\n", "", 2, 0, {{0}}, 0, WITH(0)},
    {"white space is stored", "  { } \t\n", "  { } \t\n", "", 1, 0, {{0}}, 0, WITH(0)},
    {"blank lines are dropped",
     "\n[1]\n \t\r\n\n[2]\n",
     "[1]\n[2]\n",
     "",
     2,
     3,
     {{0}},
     0,
     WITH(0)},
    {"many holes keep the order",
     "[1]\n\n[2]\n\n[3]\n\n[4]\n\n\n[5]\n[6]\n\n[7]\n[",
     "[1]\n[2]\n[3]\n[4]\n[5]\n[6]\n[7]\n",
     "[",
     7,
     6,
     {{0}},
     0,
     WITH(0)},
    {"blank lines are kept",
     "\n[1]\n \n\n[2]\n",
     "\n[1]\n \n\n[2]\n",
     "",
     2,
     0,
     {{0}},
     0,
     WITH(.blank = JSONL_BLANK_KEEP)},
    {"bad in the middle",
     "[1]\n{oops}\n[2]\n",
     "[1]\n[2]\n",
     "",
     2,
     0,
     {{4, 7, 1, JSONL_UNEXPECTED}},
     1,
     WITH(0)},
    {"bad first and last",
     "x\n[1]\n[2]]\n",
     "[1]\n",
     "",
     1,
     0,
     {{0, 2, 0, JSONL_BAD_LITERAL}, {6, 5, 3, JSONL_TRAILING}},
     2,
     WITH(0)},
    {"fused",
     "{\"a\":1}{\"b\":2}\n[1]\n",
     "[1]\n",
     "",
     1,
     0,
     {{0, 15, 7, JSONL_FUSED}},
     1,
     WITH(0)},
    {"half a value",
     "{\"a\":\n",
     "",
     "",
     0,
     0,
     {{0, 6, 5, JSONL_INCOMPLETE}},
     1,
     WITH(0)},
    {"any value",
     "1\n\"s\"\ntrue\nnull\n[]\n{}\n",
     "1\n\"s\"\ntrue\nnull\n[]\n{}\n",
     "",
     6,
     0,
     {{0}},
     0,
     WITH(0)},
    {"containers alone",
     "[]\n1\n{}\n\"s\"\n",
     "[]\n{}\n",
     "",
     2,
     0,
     {{3, 2, 0, JSONL_NOT_CONTAINER}, {8, 4, 0, JSONL_NOT_CONTAINER}},
     2,
     WITH(.value = JSONL_VALUE_CONTAINER)},
    {"objects alone",
     "[]\n{}\n5\n",
     "{}\n",
     "",
     1,
     0,
     {{0, 3, 0, JSONL_NOT_OBJECT}, {6, 2, 0, JSONL_NOT_OBJECT}},
     2,
     WITH(.value = JSONL_VALUE_OBJECT)},
    {"too deep",
     "[[[]]]\n[[]]\n",
     "[[]]\n",
     "",
     1,
     0,
     {{0, 7, 2, JSONL_TOO_DEEP}},
     1,
     {.maxdepth = 2, .maxrecord = 64, .pipebuf = 32}},
    /* The newline counts: 31 and it make 32, which is pipebuf. */
    {"oversize is counted",
     "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n",
     "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n",
     "",
     1,
     0,
     {{0}},
     0,
     WITH(0)},
    {"oversize is refused",
     "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n\"aaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n",
     "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n",
     "",
     1,
     0,
     {{0, 32, 31, JSONL_OVERSIZE}},
     1,
     WITH(.oversize = JSONL_OVERSIZE_REJECT)},
    {"maxrecord is reached",
     "\"aaaa\"\n[1]\n",
     "\"aaaa\"\n[1]\n",
     "",
     2,
     0,
     {{0}},
     0,
     {.maxdepth = 8, .maxrecord = 7, .pipebuf = 32}},
    {"bytes that are no UTF-8",
     "\"\xff\n[\"\xe2\x82\xac\"]\n",
     "[\"\xe2\x82\xac\"]\n",
     "",
     1,
     0,
     {{0, 3, 1, JSONL_BAD_UTF8}},
     1,
     WITH(0)},
};

static void test_rows(void)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		size_t len = strlen(r->in);
		struct outcome whole = run(&r->lim, r->in, len, len, len);

		CHECK(whole.ngood == strlen(r->good) &&
			  !memcmp(whole.good, r->good, whole.ngood),
		      "%s: `%.*s`", r->name, (int)whole.ngood, whole.good);
		CHECK(whole.frame.len == strlen(r->fragment) &&
			  (!whole.frame.len ||
			   !memcmp(whole.frame.buf, r->fragment, whole.frame.len)),
		      "%s", r->name);
		CHECK(whole.records == r->records && whole.blank == r->blank,
		      "%s: %d records, %d blank", r->name, (int)whole.records,
		      (int)whole.blank);
		CHECK(whole.nbad == r->nbad, "%s: %zu bad", r->name, whole.nbad);
		for (size_t n = 0; n < r->nbad && n < whole.nbad; n++)
			CHECK(whole.bad[n].start == r->bad[n].start &&
				  whole.bad[n].len == r->bad[n].len &&
				  whole.bad[n].offset == r->bad[n].offset &&
				  whole.bad[n].verdict == r->bad[n].verdict,
			      "%s: bad line %zu: %zu+%zu, byte %zu, %s", r->name, n,
			      whole.bad[n].start, whole.bad[n].len, whole.bad[n].offset,
			      jsonl_error_name(whole.bad[n].verdict));
		for (size_t a = 0; a <= len; a++) {
			for (size_t b = a; b <= len; b++) {
				struct outcome o = run(&r->lim, r->in, len, a, b);

				same(&whole, &o, a, b, r->name);
				jsonl_frame_deinit(&o.frame);
			}
		}
		jsonl_frame_deinit(&whole.frame);
	}
}

/* Byte by byte: a record that came in more than one request is told as split. */
static void test_bytes(void)
{
	const char in[] = "{\"a\":[1,2]}\n\"\xf0\x9f\x98\x80\"\n7\n";
	struct outcome o = {0};

	for (size_t i = 0; i < strlen(in); i++)
		feed(&o, &usual, i, in + i, 1);
	CHECK(o.ngood == strlen(in) && !memcmp(o.good, in, o.ngood));
	CHECK(o.records == 3 && o.split == 3 && o.largest == 12);
	feed(&o, &usual, 0, "[]\n", 3);
	CHECK(o.split == 3);
	CHECK(o.oversize == 0);
	jsonl_frame_deinit(&o.frame);
}

/* ---- a newline that was committed for the writer ---- */

static void test_swallow(void)
{
	static const struct {
		const char *in, *good;
		uint64_t blank;
	} after[] = {
	    {"\n[1]\n", "[1]\n", 0},   {"\r\n[1]\n", "[1]\n", 0},
	    {"[1]\n", "[1]\n", 0},     {"\n\n[1]\n", "[1]\n", 1},
	    {"\r\n\r\n", "", 1},       {" \n[1]\n", "[1]\n", 1},
	    {"\r[1]\n", "\r[1]\n", 0}, {"\r\r\n", "", 1},
	};
	struct jsonl_limits keep = usual;

	keep.blank = JSONL_BLANK_KEEP;
	for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
		size_t len = strlen(after[i].in);

		for (size_t a = 0; a <= len; a++) {
			struct outcome o = {.frame.swallow = true};

			feed(&o, &usual, 0, after[i].in, a);
			feed(&o, &usual, a, after[i].in + a, len - a);
			CHECK(o.ngood == strlen(after[i].good) &&
				  !memcmp(o.good, after[i].good, o.ngood),
			      "%zu cut at %zu: `%.*s`", i, a, (int)o.ngood, o.good);
			CHECK(o.blank == after[i].blank, "%zu cut at %zu: %d", i, a,
			      (int)o.blank);
			CHECK(!o.frame.swallow);
			jsonl_frame_deinit(&o.frame);
			/* Where blank lines are kept, exactly the one newline is missing.
			 */
			o = (struct outcome){.frame.swallow = true};
			feed(&o, &keep, 0, after[i].in, a);
			feed(&o, &keep, a, after[i].in + a, len - a);
			CHECK(o.ngood == len - (strncmp(after[i].in, "\n", 1) == 0 ? 1
						: strncmp(after[i].in, "\r\n", 2) == 0
						    ? 2
						    : 0),
			      "%zu cut at %zu: %zu kept", i, a, o.ngood);
			jsonl_frame_deinit(&o.frame);
		}
	}
}

/* ---- bounds ---- */

/* A fragment that would pass maxrecord is told before its newline comes. */
static void test_unfinished(void)
{
	struct jsonl_limits lim = usual;
	struct jsonl_frame f = {0};
	struct jsonl_cut cut;

	lim.maxrecord = 8;
	/* Seven bytes, and the newline that is still to come make eight. */
	CHECK(jsonl_frame_offer(&f, &lim, "[1]\n\"aaaaa\"", 11, &cut) == 0);
	CHECK(cut.nbad == 0 && cut.used == 4 && cut.records == 1);
	jsonl_frame_take(&f, &cut, "[1]\n\"aaaaa\"", 11);
	jsonl_cut_deinit(&cut);
	CHECK(f.len == 7);
	CHECK(jsonl_frame_offer(&f, &lim, " ", 1, &cut) == 0);
	CHECK(cut.nbad == 1 && cut.bad[0].verdict == JSONL_TOO_LONG &&
	      cut.bad[0].start == 0 && cut.bad[0].len == 8 && cut.bad[0].offset == 8);
	jsonl_cut_deinit(&cut);
	CHECK(f.len == 7);
	CHECK(jsonl_frame_offer(&f, &lim, "\n[2]\n[33333333", 14, &cut) == 0);
	CHECK(cut.records == 2 && cut.bytes == 12 && cut.nbad == 1 && cut.split &&
	      cut.bad[0].verdict == JSONL_TOO_LONG && cut.bad[0].start == 7 + 5 &&
	      cut.bad[0].len == 9);
	jsonl_cut_deinit(&cut);
	jsonl_frame_deinit(&f);
	/* What the file system below would take in pieces is refused, too. */
	lim.maxrecord = 1000;
	lim.longest = 5;
	CHECK(jsonl_frame_offer(&f, &lim, "[11]\n[222]\n", 11, &cut) == 0);
	CHECK(cut.records == 1 && cut.nbad == 1 && cut.bad[0].verdict == JSONL_UNSHARED &&
	      cut.bad[0].start == 5 && cut.bad[0].offset == 5);
	CHECK(jsonl_error_errno(JSONL_UNSHARED) == EMSGSIZE);
	jsonl_cut_deinit(&cut);
	jsonl_frame_deinit(&f);
	lim.longest = 0;
	/* Memory is bounded by it: what is too long is not copied. */
	lim.maxrecord = 1000;
	char *big = calloc(1, 1 << 20);
	CHECK(jsonl_frame_offer(&f, &lim, big, 1 << 20, &cut) == 0);
	CHECK(cut.nbad == 1 && f.cap <= 2048, "%zu", f.cap);
	jsonl_cut_deinit(&cut);
	jsonl_frame_deinit(&f);
	free(big);
}

static void test_memory(void)
{
	struct jsonl_limits lim = usual;
	struct jsonl_frame f = {0};
	struct jsonl_cut cut;
	char *big = malloc(60000);

	lim.maxrecord = 1 << 20;
	memset(big, ' ', 60000);
	CHECK(jsonl_frame_offer(&f, &lim, big, 60000, &cut) == 0);
	jsonl_frame_take(&f, &cut, big, 60000);
	jsonl_cut_deinit(&cut);
	CHECK(f.len == 60000);
	CHECK(jsonl_frame_offer(&f, &lim, "1\n", 2, &cut) == 0);
	CHECK(cut.records == 1 && cut.largest == 60002 && cut.oversize == 1);
	jsonl_frame_take(&f, &cut, "1\n", 2);
	jsonl_cut_deinit(&cut);
	/* A thousand writers that once had a long record must not keep its memory. */
	CHECK(f.len == 0 && f.cap <= 4096, "%zu", f.cap);
	jsonl_frame_deinit(&f);
	free(big);
}

/* ---- what a fragment is worth ---- */

static void test_judge(void)
{
	static const struct {
		const char *bytes;
		int verdict;
		bool can_grow;
		size_t offset;
	} judged[] = {
	    {"", JSONL_BLANK, false, 0},
	    {" \r", JSONL_BLANK, false, 2},
	    {"{\"a\":1}", JSONL_OK, false, 7},
	    {"{\"a\":1}\r", JSONL_OK, false, 8},
	    {"12", JSONL_OK, true, 2},
	    {"12 ", JSONL_OK, false, 3},
	    {"true", JSONL_OK, false, 4},
	    {"\"s\"", JSONL_OK, false, 3},
	    {"tru", JSONL_INCOMPLETE, false, 3},
	    {"{\"a\":", JSONL_INCOMPLETE, false, 5},
	    {"{\"a\"]", JSONL_UNEXPECTED, false, 4},
	    {"\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
	     JSONL_TOO_LONG, false, 64},
	};

	for (size_t i = 0; i < sizeof(judged) / sizeof(judged[0]); i++) {
		struct outcome o = {0};
		struct jsonl_limits lim = usual;
		bool can_grow;
		size_t offset;
		int verdict;

		lim.maxrecord = 1000;
		feed(&o, &lim, 0, judged[i].bytes, strlen(judged[i].bytes));
		verdict = jsonl_frame_judge(&o.frame, &usual, &can_grow, &offset);
		CHECK(verdict == judged[i].verdict, "`%s`: %s", judged[i].bytes,
		      jsonl_error_name(verdict));
		CHECK(can_grow == judged[i].can_grow, "`%s`", judged[i].bytes);
		if (verdict > JSONL_BLANK)
			CHECK(offset == judged[i].offset, "`%s`: %zu", judged[i].bytes,
			      offset);
		jsonl_frame_clear(&o.frame);
		CHECK(jsonl_frame_judge(&o.frame, &usual, &can_grow, &offset) ==
		      JSONL_BLANK);
		jsonl_frame_deinit(&o.frame);
	}
}

int main(void)
{
	test_rows();
	test_bytes();
	test_swallow();
	test_unfinished();
	test_memory();
	test_judge();
	return check_done();
}
