/* SPDX-License-Identifier: MIT */
/* What is found at the end of a file, in which of the four states, and what readers see.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "model.h"
#include "file/tail.h"

#define MAXRECORD 64
#define MAXDEPTH  4

static const struct row {
	const char *name, *content;
	size_t len; /* 0: strlen */
	enum jsonl_tail_state state;
	off_t start, visible;
	int verdict; /* of a torn one */
} rows[] = {
    {"empty", "", 0, JSONL_TAIL_CLEAN, 0, 0, 0},
    {"one record", "[1]\n", 0, JSONL_TAIL_CLEAN, 4, 4, 0},
    {"damage before the end is not looked at", "oops\n", 0, JSONL_TAIL_CLEAN, 5, 5, 0},
    {"a newline alone", "\n", 0, JSONL_TAIL_CLEAN, 1, 1, 0},
    {"newline missing", "[1]\n{\"a\":2}", 0, JSONL_TAIL_VALID, 4, 11, 0},
    {"newline missing, first line", "{\"a\":2}", 0, JSONL_TAIL_VALID, 0, 7, 0},
    {"newline missing, carriage return", "[1]\r\n[2]\r", 0, JSONL_TAIL_VALID, 5, 9, 0},
    {"a literal", "[1]\ntrue", 0, JSONL_TAIL_VALID, 4, 8, 0},
    {"a bare number may go on", "[1]\n12", 0, JSONL_TAIL_TORN, 4, 4, JSONL_INCOMPLETE},
    {"a bare number that has ended", "[1]\n12 ", 0, JSONL_TAIL_VALID, 4, 7, 0},
    {"half a record", "[1]\n{\"a\":", 0, JSONL_TAIL_TORN, 4, 4, JSONL_INCOMPLETE},
    {"half a record, first line", "{\"a\":", 0, JSONL_TAIL_TORN, 0, 0, JSONL_INCOMPLETE},
    {"half a character", "[1]\n\"\xe2\x82", 0, JSONL_TAIL_TORN, 4, 4, JSONL_INCOMPLETE},
    {"NULs", "[1]\n\0\0\0\0", 8, JSONL_TAIL_TORN, 4, 4, JSONL_NUL},
    {"NULs alone", "\0\0\0\0", 4, JSONL_TAIL_TORN, 0, 0, JSONL_NUL},
    {"a record and NULs", "[1]\n[2]\0\0", 9, JSONL_TAIL_TORN, 4, 4, JSONL_NUL},
    {"NULs, then a record", "[1]\n\0\0[2]", 9, JSONL_TAIL_TORN, 4, 4, JSONL_NUL},
    {"half a record and NULs, first line", "{\"a\"\0\0\0", 7, JSONL_TAIL_TORN, 0, 0,
     JSONL_NUL},
    {"a bad line without its end", "[1]\nx", 0, JSONL_TAIL_TORN, 4, 4, JSONL_BAD_LITERAL},
    {"white space", "[1]\n  ", 0, JSONL_TAIL_TORN, 4, 4, JSONL_BLANK},
    {"a blank line before", "[1]\n\n{", 0, JSONL_TAIL_TORN, 5, 5, JSONL_INCOMPLETE},
    {"not JSON Lines", "hello\nworld", 0, JSONL_TAIL_UNKNOWN, 6, 11, 0},
    {"not JSON Lines, one line", "hello", 0, JSONL_TAIL_UNKNOWN, 0, 5, 0},
    {"NULs before the end of a first line", "{\0\0\0\"a\":", 8, JSONL_TAIL_UNKNOWN, 0, 8,
     0},
    {"NULs, the rest of a batch and its newline", "[1]\n\0\0\0\0:2}\n", 12, JSONL_TAIL_TORN, 4,
     4, JSONL_NUL},
    {"half a record, NULs, a rest with its newline", "[1]\n{\"a\0\0 2}\n", 13, JSONL_TAIL_TORN,
     4, 4, JSONL_NUL},
    {"several holes", "[1]\n\0\0]\n[2\0\n", 12, JSONL_TAIL_TORN, 4, 4, JSONL_NUL},
    {"holes, then half a record", "[1]\n\0\0]\n[2", 10, JSONL_TAIL_TORN, 4, 4,
     JSONL_INCOMPLETE},
    {"a record behind a hole keeps it", "[1]\n\0\0]\n[2]\n", 12, JSONL_TAIL_CLEAN, 12, 12, 0},
    {"a record without its newline behind a hole", "[1]\n\0\0]\n[2]", 11, JSONL_TAIL_VALID, 8,
     11, 0},
    {"a hole behind a blank line", "[1]\n\n\0]\n", 8, JSONL_TAIL_TORN, 5, 5, JSONL_NUL},
    {"a hole behind what is no record", "hello\n\0]\n", 9, JSONL_TAIL_CLEAN, 9, 9, 0},
    {"a hole alone", "\0\0]\n", 4, JSONL_TAIL_CLEAN, 4, 4, 0},
    {"valid behind what is no record", "hello\n[1]", 0, JSONL_TAIL_VALID, 6, 9, 0},
    {"a binary",
     "\x7f"
     "ELF\2\1\1\0\0\n\0\0\3\0>",
     15, JSONL_TAIL_UNKNOWN, 10, 15, 0},
    {"longer than a record may be",
     "[1]\n\"0123456789012345678901234567890123456789012345678901234567890123456789", 0,
     JSONL_TAIL_UNKNOWN, 4, 4, 0},
    {"longer, and no record before",
     "hello\n\"0123456789012345678901234567890123456789012345678901234567890123456789", 0,
     JSONL_TAIL_UNKNOWN, 6, 77, 0},
    {"as long as a record may be",
     "[1]\n\"012345678901234567890123456789012345678901234567890123456789012", 0,
     JSONL_TAIL_TORN, 4, 4, JSONL_INCOMPLETE},
    {"deeper than allowed", "[1]\n[[[[[1]]]]]", 0, JSONL_TAIL_TORN, 4, 4, JSONL_TOO_DEEP},
};

static int inspect(struct model *m, off_t size, struct jsonl_tail *tail)
{
	int fd = model_open(m, 0, O_RDONLY, false);
	int rc = jsonl_tail_inspect(&m->io, fd, size, MAXRECORD, MAXDEPTH, tail);

	m->io.close(&m->io, fd);
	return rc;
}

static void test_rows(void)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		size_t len = r->len ? r->len : strlen(r->content);
		struct jsonl_tail tail;
		struct model m;

		model_init(&m);
		model_put(&m, 0, r->content, len, true);
		CHECK(inspect(&m, (off_t)len, &tail) == 0, "%s", r->name);
		CHECK(tail.state == r->state, "%s: %d", r->name, (int)tail.state);
		CHECK(tail.size == (off_t)len, "%s", r->name);
		CHECK(tail.start == r->start, "%s: %d", r->name, (int)tail.start);
		CHECK(tail.visible == r->visible, "%s: %d", r->name, (int)tail.visible);
		if (r->state == JSONL_TAIL_TORN)
			CHECK(tail.verdict == r->verdict, "%s: %s", r->name,
			      jsonl_error_name(tail.verdict));
		model_deinit(&m);
	}
}

/* Inspecting reads only, and passes on what the disk says at whichever call. */
static void test_faults(void)
{
	struct jsonl_tail tail;
	struct model m;
	unsigned calls;

	model_init(&m);
	model_put(&m, 0, "[1]\n{\"a\":", 9, true);
	CHECK(inspect(&m, 9, &tail) == 0);
	calls = m.calls;
	CHECK(calls >= 2);
	for (unsigned at = 1; at <= calls; at++) {
		m.calls = 0;
		m.faults[0] =
		    (struct model_fault){.at = at, .kind = MODEL_FAIL, .code = EIO};
		CHECK(inspect(&m, 9, &tail) == -EIO);
		CHECK(m.trace[at - 1] == MODEL_PREAD);
		m.calls = 0;
		m.faults[0].code = EINTR;
		CHECK(inspect(&m, 9, &tail) == 0 && tail.state == JSONL_TAIL_TORN);
	}
	m.faults[0].at = 0;
	/* Cut by somebody else since fstat: the caller asks again. */
	CHECK(inspect(&m, 12, &tail) == -ESTALE);
	model_deinit(&m);
}

/* However long a file or its last line is, only so much is read. */
static void test_bound(void)
{
	const size_t len = 1 << 20;
	char *big = malloc(len);
	struct jsonl_tail tail;
	struct model m;

	memset(big, 'x', len);
	model_init(&m);
	model_put(&m, 0, big, len, true);
	CHECK(inspect(&m, (off_t)len, &tail) == 0);
	CHECK(tail.state == JSONL_TAIL_UNKNOWN && tail.visible == (off_t)len);
	CHECK(m.calls <= 2, "%u reads", m.calls);
	big[len - 10] = '\n';
	model_deinit(&m);
	model_init(&m);
	model_put(&m, 0, big, len, true);
	CHECK(inspect(&m, (off_t)len, &tail) == 0);
	CHECK(tail.state == JSONL_TAIL_UNKNOWN && tail.start == (off_t)len - 9);
	CHECK(m.calls <= 4, "%u reads", m.calls);
	model_deinit(&m);
	free(big);
}

int main(void)
{
	test_rows();
	test_faults();
	test_bound();
	return check_done();
}
