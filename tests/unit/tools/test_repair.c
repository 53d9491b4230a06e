/* SPDX-License-Identifier: MIT */
/* What stays and what goes of a damaged file, at every size of read. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "rules/config.h"
#include "tools/repair.h"

#define MAXRECORD 4096

struct text {
	const char *data;
	size_t len;
};

#define T(s)                                                                             \
	{                                                                                \
		s, sizeof(s) - 1                                                         \
	}

/* What is set aside is written with a | behind each piece. */
static const struct {
	struct text in, kept, aside;
	unsigned changes[JSONL_REPAIR_COUNT]; /* set aside, split, NULs, newline, mark */
} table[] = {
    {T(""), T(""), T(""), {0}},
    {T("\n"), T("\n"), T(""), {0}},
    {T("{}\n \t\n[1]\r\n12\n"), T("{}\n \t\n[1]\r\n12\n"), T(""), {0}},
    /* the last newline */
    {T("{}\n[1]"), T("{}\n[1]\n"), T(""), {0, 0, 0, 1}},
    {T("{}\n  "), T("{}\n  "), T(""), {0}},
    {T("{}\n12"), T("{}\n"), T("12|"), {1}},
    {T("{}\n12 "), T("{}\n12 \n"), T(""), {0, 0, 0, 1}},
    {T("{}\n{\"a"), T("{}\n"), T("{\"a|"), {1}},
    {T("{}\n\"\xe2\x82"), T("{}\n"), T("\"\xe2\x82|"), {1}},
    /* bad lines */
    {T("{}\nbad\n{}\n"), T("{}\n{}\n"), T("bad|"), {1}},
    {T("{\"a\":\n{}\n"), T("{}\n"), T("{\"a\":|"), {1}},
    {T("{}\n\"\xff\"\n"), T("{}\n"), T("\"\xff\"|"), {1}},
    /* a byte order mark, at the beginning of the file only */
    {T("\xef\xbb\xbf{}\n{}\n"), T("{}\n{}\n"), T(""), {0, 0, 0, 0, 1}},
    {T("\xef\xbb\xbf{}{}"), T("{}\n{}\n"), T(""), {0, 1, 0, 0, 1}},
    {T("\xef\xbb\xbf\n{}\n"), T("\n{}\n"), T(""), {0, 0, 0, 0, 1}},
    {T("{}\n\xef\xbb\xbf{}\n"), T("{}\n"), T("\xef\xbb\xbf{}|"), {1}},
    /* fused records */
    {T("{}{\"b\":1}\n"), T("{}\n{\"b\":1}\n"), T(""), {0, 1}},
    {T("[1] [2][3]\n"), T("[1] \n[2]\n[3]\n"), T(""), {0, 1}},
    {T("{}{}"), T("{}\n{}\n"), T(""), {0, 1}},
    {T("{}\n{}{\"b\n"), T("{}\n"), T("{}{\"b|"), {1}},
    {T("{}\n{}{}x\n"), T("{}\n"), T("{}{}x|"), {1}},
    {T("{}\n{\"a\":{\"a\":1}\n"), T("{}\n"), T("{\"a\":{\"a\":1}|"), {1}},
    /* NULs */
    {T("\0\0\0"), T(""), T(""), {0, 0, 1}},
    {T("\0\0\n{}\n"), T("{}\n"), T(""), {0, 0, 1}},
    {T("{}\n\0\0{}\n"), T("{}\n{}\n"), T(""), {0, 0, 1}},
    {T("{}\0\0\n"), T("{}\n"), T(""), {0, 0, 1}},
    {T("{}\n{\"a\":\0\0\0"), T("{}\n"), T("{\"a\":|"), {1, 0, 1}},
    {T("{}\n\"a\0b\"\n"), T("{}\n"), T("\"a|b\"|"), {2, 0, 1}},
    {T("{\"a\":\0{}{}\0\0[]\n"), T("{}\n{}\n[]\n"), T("{\"a\":|"), {1, 1, 2}},
    {T("{}\n12\0\0\n"), T("{}\n"), T("12|"), {1, 0, 1}},
    {T("{}\n\0\0 12\n"), T("{}\n"), T(" 12|"), {1, 0, 1}},
    {T("{}\n\0 \0\n{}\n"), T("{}\n{}\n"), T(""), {0, 0, 2}},
    {T("{}\0{}\0"), T("{}\n{}\n"), T(""), {0, 0, 2}},
};

#define ROWS (sizeof(table) / sizeof(table[0]))

struct seen {
	char kept[1 << 16], aside[1 << 16];
	size_t nkept, naside;
	uint64_t last; /* offset of the last change: they come in order */
	uint64_t pieces;
	bool ordered, placed;
	const char *in;
};

static struct seen seen;
static size_t read_size;

/* ---- reading in pieces of any size ---- */

static ssize_t short_pread(const struct jsonl_io *io, int fd, void *buf, size_t len,
			   off_t off)
{
	return jsonl_io_system.pread(io, fd, buf, len < read_size ? len : read_size, off);
}

static int told_keep(void *ctx, const void *data, size_t len)
{
	memcpy(seen.kept + seen.nkept, data, len);
	seen.nkept += len;
	return 0;
}

static int told_change(void *ctx, const struct jsonl_repair_change *c, const void *data)
{
	seen.ordered = seen.ordered && c->offset >= seen.last;
	seen.last = c->offset;
	if (c->kind != JSONL_REPAIR_SET_ASIDE)
		return 0;
	seen.placed = seen.placed && memcmp(seen.in + c->offset, data, c->length) == 0;
	memcpy(seen.aside + seen.naside, data, c->length);
	seen.naside += c->length;
	seen.aside[seen.naside++] = '|';
	return 0;
}

static int make_file(const char *data, size_t len)
{
	int fd = memfd_create("repair", MFD_CLOEXEC);

	CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	return fd;
}

static const struct jsonl_limits limits = {
    .maxdepth = 128,
    .maxrecord = MAXRECORD,
    .pipebuf = 4096,
    .value = JSONL_VALUE_ANY,
    .blank = JSONL_BLANK_DROP,
    .oversize = JSONL_OVERSIZE_WARN,
};

static int repair(const char *data, size_t len, const struct jsonl_limits *lim,
		  struct jsonl_repair_counts *counts)
{
	const struct jsonl_repair events = {.keep = told_keep, .change = told_change};
	struct jsonl_io io = jsonl_io_system;
	int fd = make_file(data, len), rc;

	io.pread = short_pread;
	seen.nkept = seen.naside = 0;
	seen.last = 0;
	seen.ordered = seen.placed = true;
	seen.in = data;
	rc = jsonl_repair_fd(&io, fd, lim, &events, counts);
	(void)close(fd);
	return rc;
}

static void test_table(void)
{
	for (size_t i = 0; i < ROWS; i++) {
		for (read_size = 1; read_size < 20; read_size++) {
			struct jsonl_repair_counts counts, again;
			unsigned wrong = 0;

			CHECK(repair(table[i].in.data, table[i].in.len, &limits,
				     &counts) == 0);
			CHECK(seen.nkept == table[i].kept.len &&
				  memcmp(seen.kept, table[i].kept.data, seen.nkept) == 0,
			      "row %zu, reads of %zu: kept %.*s", i, read_size,
			      (int)seen.nkept, seen.kept);
			CHECK(seen.naside == table[i].aside.len &&
				  memcmp(seen.aside, table[i].aside.data, seen.naside) ==
				      0,
			      "row %zu, reads of %zu: aside %.*s", i, read_size,
			      (int)seen.naside, seen.aside);
			for (int k = 0; k < JSONL_REPAIR_COUNT; k++)
				wrong += counts.changes[k] != table[i].changes[k];
			CHECK(!wrong, "row %zu, reads of %zu: changes", i, read_size);
			CHECK(seen.ordered && seen.placed, "row %zu", i);
			CHECK(counts.kept == seen.nkept &&
			      counts.bytes == table[i].in.len);
			/* What was repaired needs no repair. */
			CHECK(repair(table[i].kept.data, table[i].kept.len, &limits,
				     &again) == 0);
			CHECK(!jsonl_repair_is_needed(&again), "row %zu: again", i);
			CHECK(again.records == counts.records, "row %zu: records", i);
		}
	}
}

static void test_value(void)
{
	static const char in[] = "{}\n[1]\n2\n[1]{}\n";
	struct jsonl_limits lim = limits;
	struct jsonl_repair_counts counts;

	read_size = 1 << 16;
	lim.value = JSONL_VALUE_CONTAINER;
	CHECK(repair(in, sizeof(in) - 1, &lim, &counts) == 0);
	CHECK(counts.records == 4 && counts.changes[JSONL_REPAIR_SET_ASIDE] == 1);
	/* A line of which one part is not wanted is not split. */
	lim.value = JSONL_VALUE_OBJECT;
	CHECK(repair(in, sizeof(in) - 1, &lim, &counts) == 0);
	CHECK(counts.records == 1 && counts.changes[JSONL_REPAIR_SET_ASIDE] == 3);
}

static void fill_line(char *line, size_t len)
{
	memset(line, 'x', len);
	line[0] = line[len - 1] = '"';
}

static void test_long_lines(void)
{
	size_t huge = 5UL * MAXRECORD + (2UL << 20);
	struct jsonl_repair_counts counts;
	char *text = malloc(huge + 1);

	if (!CHECK(text != NULL))
		return;
	read_size = 1 << 16;
	/* One byte less than maxrecord, its newline counted, and one too many. */
	fill_line(text, MAXRECORD - 1);
	text[MAXRECORD - 1] = '\n';
	CHECK(repair(text, MAXRECORD, &limits, &counts) == 0);
	CHECK(!jsonl_repair_is_needed(&counts) && counts.records == 1);
	fill_line(text, MAXRECORD);
	text[MAXRECORD] = '\n';
	CHECK(repair(text, MAXRECORD + 1, &limits, &counts) == 0);
	CHECK(counts.changes[JSONL_REPAIR_SET_ASIDE] == 1 && counts.records == 0);
	/* Many records on one line. */
	for (size_t i = 0; i < 3UL * MAXRECORD; i += 8)
		memcpy(text + i, "{\"a\":1} ", 8);
	CHECK(repair(text, 3UL * MAXRECORD, &limits, &counts) == 0);
	CHECK(counts.split_records == 3UL * MAXRECORD / 8 && counts.records == 1536);
	/* No line any more. */
	fill_line(text, huge);
	CHECK(repair(text, huge, &limits, &counts) == JSONL_TOO_LONG);
	free(text);
}

/* Holes may be as long as the disk. */
static void test_holes(void)
{
	const off_t hole = 300L << 20;
	struct jsonl_repair_counts counts;
	const struct jsonl_repair events = {.keep = told_keep, .change = told_change};
	static const char tail[] = "{\"b\":2}\n";
	int fd = make_file("{\"a\":1}\n{\"c", 11);

	seen.nkept = seen.naside = 0;
	seen.in = "{\"a\":1}\n{\"c";
	seen.placed = seen.ordered = true;
	CHECK(pwrite(fd, tail, sizeof(tail) - 1, 11 + hole) == (ssize_t)sizeof(tail) - 1);
	CHECK(jsonl_repair_fd(&jsonl_io_system, fd, &limits, &events, &counts) == 0);
	CHECK(seen.nkept == 16 && memcmp(seen.kept, "{\"a\":1}\n{\"b\":2}\n", 16) == 0);
	CHECK(seen.naside == 4 && memcmp(seen.aside, "{\"c|", 4) == 0);
	CHECK(counts.nul_bytes == (uint64_t)hole &&
	      counts.changes[JSONL_REPAIR_NULS] == 1);
	(void)close(fd);
}

static int stop(void *ctx, const void *data, size_t len)
{
	return -ENOSPC;
}

static int stop_progress(void *ctx, uint64_t bytes)
{
	return -EBUSY;
}

static void test_callbacks_end_it(void)
{
	const struct jsonl_repair keeping = {.keep = stop};
	const struct jsonl_repair reading = {.progress = stop_progress};
	const struct jsonl_repair nothing = {0};
	struct jsonl_repair_counts counts;
	int fd = make_file("{}\nbad\n", 7);

	CHECK(jsonl_repair_fd(&jsonl_io_system, fd, &limits, &keeping, &counts) ==
	      -ENOSPC);
	CHECK(jsonl_repair_fd(&jsonl_io_system, fd, &limits, &reading, &counts) ==
	      -EBUSY);
	CHECK(jsonl_repair_fd(&jsonl_io_system, fd, &limits, &nothing, &counts) == 0);
	CHECK(counts.alien == 1 && counts.records == 1);
	(void)close(fd);
	CHECK(jsonl_repair_fd(&jsonl_io_system, -1, &limits, &nothing, &counts) ==
	      -EBADF);
}

int main(void)
{
	test_table();
	test_value();
	test_long_lines();
	test_holes();
	test_callbacks_end_it();
	return check_done();
}
