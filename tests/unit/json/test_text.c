/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "corpus.h"
#include "text_pair.h"

#define DEPTH 128

static const char *kind_name(const struct text_answer *a)
{
	static const char *const names[] = {"none",   "object", "array",
					    "string", "number", "literal"};

	return a->text.can_grow ? "number-grows" : names[a->text.kind];
}

static struct text_answer ask(const void *line, size_t len, unsigned maxdepth,
			      const char *what)
{
	bool agree;
	struct text_answer a = text_ask(line, len, maxdepth, &agree);

	CHECK(agree, "the paths differ: %s, %zu bytes", what, len);
	return a;
}

/* ---- what the names of the corpus say ---- */

static void check_accept(const struct corpus_case *c)
{
	struct text_answer a = ask(c->bytes, c->len, DEPTH, c->name);
	size_t kind = strcspn(c->name, ".");

	CHECK(a.verdict == JSONL_OK, "%s: %s at %zu", c->name,
	      jsonl_error_name(a.verdict), a.text.offset);
	/* "number-ended" tests that it is not "number-grows". */
	CHECK(strlen(kind_name(&a)) == kind && !memcmp(c->name, kind_name(&a), kind),
	      "%s: %s", c->name, kind_name(&a));
	CHECK(a.text.offset == 0, "%s", c->name);
}

static void check_reject(const struct corpus_case *c)
{
	struct text_answer a = ask(c->bytes, c->len, DEPTH, c->name);
	size_t verdict = strcspn(c->name, ".");
	size_t offset = strtoul(c->name + verdict + 1, NULL, 10);
	const char *name = jsonl_error_name(a.verdict);

	CHECK(strlen(name) == verdict && !memcmp(c->name, name, verdict), "%s: %s at %zu",
	      c->name, name, a.text.offset);
	CHECK(a.text.offset == offset, "%s: %s at %zu", c->name, name, a.text.offset);
	CHECK(a.text.kind == JSONL_KIND_NONE && !a.text.can_grow, "%s", c->name);
}

/* ---- what must hold of every line ---- */

static bool may_go_on(int verdict)
{
	return verdict == JSONL_OK || verdict == JSONL_INCOMPLETE ||
	       verdict == JSONL_BLANK;
}

/* The first wrong byte is the first that is wrong: every beginning of the line that ends
 * before it could go on, and every one that has it gets the same verdict. Each lies in an
 * allocation of its own, for ASan. */
static void check_prefixes(const struct corpus_case *c)
{
	struct text_answer whole = ask(c->bytes, c->len, DEPTH, c->name);
	size_t bad = may_go_on(whole.verdict) ? c->len : whole.text.offset;

	if (whole.verdict == JSONL_BOM)
		return; /* three bytes that are wrong together */
	for (size_t n = 0; n <= c->len; n++) {
		unsigned char *copy = malloc(n ? n : 1);
		struct text_answer a;

		if (!copy)
			abort();
		memcpy(copy, c->bytes, n);
		a = ask(copy, n, DEPTH, c->name);
		if (n <= bad)
			CHECK(may_go_on(a.verdict), "%s: %zu bytes: %s", c->name, n,
			      jsonl_error_name(a.verdict));
		else
			CHECK(a.verdict == whole.verdict && a.text.offset == bad,
			      "%s: %zu bytes: %s at %zu", c->name, n,
			      jsonl_error_name(a.verdict), a.text.offset);
		if (a.verdict == JSONL_INCOMPLETE || a.verdict == JSONL_BLANK)
			CHECK(a.text.offset == n, "%s", c->name);
		free(copy);
	}
}

/* White space in front moves everything across the borders of blocks. */
static void check_shifts(const struct corpus_case *c)
{
	struct text_answer whole = ask(c->bytes, c->len, DEPTH, c->name);
	unsigned char *copy = malloc(c->len + 130);

	if (!copy)
		abort();
	memset(copy, ' ', 130);
	memcpy(copy + 130, c->bytes, c->len);
	for (size_t n = 1; n <= 130 && whole.verdict != JSONL_BOM; n++) {
		struct text_answer a = ask(copy + 130 - n, c->len + n, DEPTH, c->name);

		if (whole.verdict)
			whole.text.offset++;
		CHECK(text_same(&a, &whole), "%s: %zu spaces: %s at %zu", c->name, n,
		      jsonl_error_name(a.verdict), a.text.offset);
	}
	free(copy);
}

/* Every byte replaced by everything that might matter. */
static void check_mutations(const struct corpus_case *c)
{
	static const char bytes[] =
	    "\0\x01\t\n\r\x0c\x1a\x1f !\"'+,-./019:;=@AEFZ[\\]^_`aeflntuz{|}~"
	    "\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1"
	    "\xed\xef\xf0\xf1\xf4\xf5\xff";
	unsigned char *copy = malloc(c->len ? c->len : 1);
	bool agree = true;

	if (!copy)
		abort();
	memcpy(copy, c->bytes, c->len);
	for (size_t i = 0; i < c->len && i < 700; i++) {
		for (size_t k = 0; k < sizeof(bytes) - 1 && agree; k++) {
			copy[i] = (unsigned char)bytes[k];
			(void)text_ask(copy, c->len, DEPTH, &agree);
		}
		CHECK(agree, "%s with byte %zu as 0x%02x", c->name, i, copy[i]);
		copy[i] = c->bytes[i];
		agree = true;
	}
	free(copy);
}

/* ---- at the edges of readable memory ---- */

static unsigned char *readable; /* one page between two that cannot be read */
static size_t page;

static void map_edges(void)
{
	unsigned char *all;

	page = (size_t)sysconf(_SC_PAGESIZE);
	all = mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (all == MAP_FAILED || mprotect(all + page, page, PROT_READ | PROT_WRITE))
		abort();
	readable = all + page;
}

static void check_edges(const struct corpus_case *c)
{
	struct text_answer whole = ask(c->bytes, c->len, DEPTH, c->name), a;

	if (c->len > page)
		return;
	memcpy(readable, c->bytes, c->len);
	a = ask(readable, c->len, DEPTH, c->name);
	CHECK(text_same(&a, &whole), "%s", c->name);
	memcpy(readable + page - c->len, c->bytes, c->len);
	a = ask(readable + page - c->len, c->len, DEPTH, c->name);
	CHECK(text_same(&a, &whole), "%s", c->name);
}

/* ---- depth ---- */

/* Arrays and objects in a pattern of their own at each depth. */
static size_t build_deep(char *buf, unsigned depth, bool close)
{
	size_t n = 0;

	for (unsigned i = 0; i < depth; i++) {
		if ((i * 2654435761U >> 16) & 1) {
			memcpy(buf + n, "{\"\":", 4);
			n += 4;
		} else {
			buf[n++] = '[';
		}
	}
	buf[n++] = '1';
	for (unsigned i = depth; close && i-- > 0;)
		buf[n++] = (i * 2654435761U >> 16) & 1 ? '}' : ']';
	return n;
}

static void test_depth(void)
{
	static const unsigned depths[] = {1,   2,   63,	 64,   65,   127,  128,
					  129, 191, 192, 1000, 2048, 4095, 4096};
	char *buf = malloc(5 * 4200);

	if (!buf)
		abort();
	for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
		unsigned d = depths[i];
		size_t n = build_deep(buf, d, true);
		struct text_answer a = ask(buf, n, d, "deep");

		CHECK(a.verdict == JSONL_OK, "depth %u: %s", d,
		      jsonl_error_name(a.verdict));
		a = ask(buf, n, d - 1, "deep");
		CHECK(a.verdict == JSONL_TOO_DEEP, "depth %u: %s", d,
		      jsonl_error_name(a.verdict));
		/* A container that is closed as the other kind. */
		buf[n - d] = buf[n - d] == '}' ? ']' : '}';
		a = ask(buf, n, d, "deep");
		CHECK(a.verdict == JSONL_UNEXPECTED && a.text.offset == n - d,
		      "depth %u: %s at %zu", d, jsonl_error_name(a.verdict),
		      a.text.offset);
		n = build_deep(buf, d, false);
		a = ask(buf, n, d, "deep");
		CHECK(a.verdict == JSONL_INCOMPLETE, "depth %u", d);
	}
	CHECK(ask("1", 1, 0, "scalar").verdict == JSONL_OK);
	CHECK(ask("[]", 2, 0, "array").verdict == JSONL_TOO_DEEP);
	/* The ceiling holds whatever is asked for. */
	CHECK(ask(buf, build_deep(buf, 4096, true), 5000, "deep").verdict == JSONL_OK);
	CHECK(ask(buf, build_deep(buf, 4097, true), ~0U, "deep").verdict ==
	      JSONL_TOO_DEEP);
	CHECK(ask(NULL, 0, DEPTH, "NULL").verdict == JSONL_BLANK);
	free(buf);
}

int main(int argc, char **argv)
{
	const char *tests = argc > 1 ? argv[1] : "tests";

	map_edges();
	CHECK(corpus_each(tests, "accept", check_accept) >= 90);
	CHECK(corpus_each(tests, "reject", check_reject) >= 200);
	for (int i = 0; i < 2; i++) {
		const char *kind = i ? "accept" : "reject";

		corpus_each(tests, kind, check_prefixes);
		corpus_each(tests, kind, check_shifts);
		corpus_each(tests, kind, check_edges);
		corpus_each(tests, kind, check_mutations);
	}
	test_depth();
	return check_done();
}
