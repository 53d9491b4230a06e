/* SPDX-License-Identifier: MIT */
/* Findings of jsonl_check_fd: kind, line, byte, length; the same however the file is cut
 * into pieces by reading. */
#include "tools/check.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "rules/config.h"

static int fd = -1;

/* Reads that come back short: at most `most` bytes each. */
struct short_io {
	struct jsonl_io io;
	size_t most;
};

static ssize_t short_pread(const struct jsonl_io *io, int file, void *buf, size_t len,
			   off_t off)
{
	size_t most = ((const struct short_io *)io)->most;

	return jsonl_io_system.pread(io, file, buf, len < most ? len : most, off);
}

static const struct jsonl_limits standard = {
    .maxdepth = 16,
    .maxrecord = 64,
    .pipebuf = 32,
    .value = JSONL_VALUE_ANY,
    .blank = JSONL_BLANK_DROP,
    .oversize = JSONL_OVERSIZE_WARN,
};

static char seen[1 << 16];
static size_t seen_len;
static int stop_after; /* findings; 0: never */
static uint64_t progress;
static uint64_t lines_before; /* of the parts before the one that is read */

static int remember(void *ctx, const struct jsonl_finding *f)
{
	CHECK(ctx == seen);
	if (seen_len < sizeof(seen) - 128)
		seen_len += (size_t)snprintf(
		    seen + seen_len, sizeof(seen) - seen_len, "%s@%llu:%llu+%llu ",
		    jsonl_finding_name(f->kind),
		    (unsigned long long)(lines_before + f->line),
		    (unsigned long long)f->offset, (unsigned long long)f->length);
	return stop_after && --stop_after == 0 ? 77 : 0;
}

static void count_progress(void *ctx, uint64_t bytes)
{
	progress += bytes;
}

static const struct jsonl_check hooks = {
    .finding = remember,
    .progress = count_progress,
    .ctx = seen,
};

/* Written long ago: nobody is appending. */
static const struct timespec long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

static void lay_down(const void *bytes, size_t len)
{
	CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, len, 0) == (ssize_t)len);
	CHECK(futimens(fd, long_ago) == 0);
}

static int run(const struct jsonl_limits *limits, size_t most,
	       struct jsonl_check_counts *counts)
{
	struct short_io io = {.io = jsonl_io_system, .most = most};

	io.io.pread = short_pread;
	seen[0] = '\0';
	seen_len = 0;
	progress = 0;
	memset(counts, 0, sizeof(*counts));
	return jsonl_check_fd(&io.io, fd, limits, &hooks, counts);
}

/* ---- what is found ---- */

#define ROW(text, r, want)                                                               \
	{                                                                                \
		(text), sizeof(text) - 1, (r), (want)                                    \
	}
#define X10 "xxxxxxxxxx"
#define N10 "\0\0\0\0\0\0\0\0\0\0"

static const struct {
	const char *text;
	size_t len;
	uint64_t records;
	const char *want;
} table[] = {
    ROW("", 0, ""),
    ROW("{}\n", 1, ""),
    ROW("{\"a\":1}\r\n[2]\n\"x\"\nnull\n-1.5\n", 5, ""),
    /* notes */
    ROW("{}\n\n \t\r\n{}\n", 2, "blank-line@2:3+0 blank-line@3:4+3 "),
    ROW("\n", 0, "blank-line@1:0+0 "),
    ROW("{}\n ", 1, "blank-line@2:3+1 "),
    ROW("{}\n[1]", 2, "missing-newline@2:6+0 "),
    ROW("true", 1, "missing-newline@1:4+0 "),
    ROW("{}\n12", 2, "unfinished-number@2:5+0 "),
    ROW("[\"" X10 X10 X10 "\"]\n", 1, "oversize@1:0+35 "),
    ROW("[\"" X10 X10 "123456\"]\n", 1, ""),		      /* 31 bytes */
    ROW("[\"" X10 X10 "1234567\"]\n", 1, "oversize@1:0+32 "), /* 32 */
    ROW("[\"" X10 X10 "1234567\"]", 1, "oversize@1:0+32 missing-newline@1:31+0 "),
    /* damage */
    ROW("{\"a\":\n{}\n", 1, "half-record@1:5+5 "),
    ROW("{}\n{\"a\":\"x", 1, "torn-tail@2:10+7 "),
    ROW("{}\n\"\xe2\x82", 1, "torn-tail@2:6+3 "),
    ROW("{\"a\":1}{\"b\":2}\n", 0, "fused-records@1:7+14 "),
    ROW("{\"a\":1}[2]", 0, "fused-records@1:7+10 "),
    ROW("{}{}{}\n{}\n", 1, "fused-records@1:2+6 "),
    ROW("{\"a\":\"\xff\"}\n", 0, "bad-utf8@1:6+9 "),
    ROW("{\"a\":\"\xed\xa0\x80\"}\n{}\n", 1, "bad-utf8@1:7+11 "),
    ROW("{'a':1}\n", 0, "invalid@1:1+7 "),
    ROW("[01]\n[NaN]\n{}\n", 1, "invalid@1:2+4 invalid@2:6+5 "),
    ROW("\xef\xbb\xbf{}\n", 1, ""),
    ROW("{}\n\xef\xbb\xbf{}\n", 1, "invalid@2:3+5 "),
    ROW("{} x\n", 0, "invalid@1:3+4 "),
    /* runs of NULs */
    ROW("{}\n" N10 "{}\n", 1, "nul-bytes@2:3+10 "),
    ROW("{}\n" N10 "\n{}\n", 2, "nul-bytes@2:3+10 "),
    ROW("{}\n" N10, 1, "nul-bytes@2:3+10 "),
    ROW(N10, 0, "nul-bytes@1:0+10 "),
    ROW("{\"a\":" N10 "{}\n{}\n", 1, "half-record@1:5+5 nul-bytes@1:5+10 "),
    ROW("{\"a\":" N10, 0, "half-record@1:5+5 nul-bytes@1:5+10 "),
    ROW("{}\0\0{}\0{\n", 0, "nul-bytes@1:2+2 nul-bytes@1:6+1 half-record@1:8+1 "),
    ROW("{}\0\0 \n{}\n", 1, "nul-bytes@1:2+2 "),
    ROW("\0\0{\"a", 0, "nul-bytes@1:0+2 torn-tail@1:5+3 "),
    ROW("x\0\n", 0, "invalid@1:0+1 nul-bytes@1:1+1 "),
    ROW("{\"a\":1}{\"b\":2}\0\n", 0, "fused-records@1:7+14 nul-bytes@1:14+1 "),
    /* longer than a run of NULs of many buffers of ours, and than maxrecord */
    ROW("{}\n" N10 N10 N10 N10 N10 N10 N10 N10 "{}\n{}\n", 2, "nul-bytes@2:3+80 "),
    /* 63 bytes and their newline are a record of 64; one more is too long */
    ROW("[\"" X10 X10 X10 X10 X10 "123456789\"]\n", 1, "oversize@1:0+64 "),
    ROW("[\"" X10 X10 X10 X10 X10 X10 "\"]\n{}\n", 1, "too-long@1:0+64 "),
    ROW("[\"" X10 X10 X10 X10 X10 X10 X10 "\"]\n{}\n", 1, "too-long@1:0+74 "),
    ROW("{}\n[\"" X10 X10 X10 X10 X10 X10 X10, 1, "too-long@2:3+72 "),
    ROW("[\"" X10 X10 X10 X10 X10 X10 X10 "\0{}\n{}\n", 1,
	"too-long@1:0+72 nul-bytes@1:72+1 "),
    ROW(N10 X10 X10 X10 X10 X10 X10 X10 "\n", 0, "nul-bytes@1:0+10 too-long@1:10+70 "),
    /* of one line no more than 16 */
    ROW("\0x\0x\0x\0x\0x\0x\0x\0x\0x\0x\n\0\n", 0,
	"nul-bytes@1:0+1 invalid@1:1+1 nul-bytes@1:2+1 invalid@1:3+1 nul-bytes@1:4+1 "
	"invalid@1:5+1 nul-bytes@1:6+1 invalid@1:7+1 nul-bytes@1:8+1 invalid@1:9+1 "
	"nul-bytes@1:10+1 invalid@1:11+1 nul-bytes@1:12+1 invalid@1:13+1 "
	"nul-bytes@1:14+1 "
	"invalid@1:15+1 nul-bytes@2:21+1 "),
};

static void test_table(void)
{
	static const size_t pieces[] = {1, 2, 3, 7, 64, 1 << 20};
	struct jsonl_check_counts c;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint64_t lines = 0;

		lay_down(table[i].text, table[i].len);
		for (size_t k = 0; k < table[i].len; k++)
			lines += table[i].text[k] == '\n';
		lines += table[i].len && table[i].text[table[i].len - 1] != '\n';
		for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
			int rc = run(&standard, pieces[p], &c);

			CHECK(rc == 0, "row %zu: %d", i, rc);
			CHECK(strcmp(seen, table[i].want) == 0, "row %zu by %zu: %s", i,
			      pieces[p], seen);
			CHECK(c.records == table[i].records, "row %zu by %zu: %llu", i,
			      pieces[p], (unsigned long long)c.records);
			CHECK(c.lines == lines, "row %zu by %zu: %llu", i, pieces[p],
			      (unsigned long long)c.lines);
			CHECK(c.bytes == table[i].len && progress == table[i].len);
		}
	}
}

/* Cut into parts at any byte, a file has the same findings and counts. */
static void test_parts(void)
{
	static const uint64_t steps[] = {1, 2, 3, 5, 8, 13, 40, 64};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct jsonl_check_counts whole;

		lay_down(table[i].text, table[i].len);
		CHECK(run(&standard, 1 << 20, &whole) == 0);
		for (size_t p = 0; p < sizeof(steps) / sizeof(steps[0]); p++) {
			struct jsonl_check_counts sum = {0};
			struct jsonl_part part = {.size = table[i].len};

			seen[0] = '\0';
			seen_len = 0;
			lines_before = 0;
			while (part.to < UINT64_MAX) {
				struct jsonl_check_counts c = {0};

				part.from = part.to;
				part.to = part.from + steps[p];
				if (part.to >= table[i].len)
					part.to = UINT64_MAX;
				CHECK(jsonl_check_part(&jsonl_io_system, fd, &standard,
						       &hooks, &part, &c) == 0);
				jsonl_check_add(&sum, &c);
				lines_before += c.lines;
			}
			CHECK(strcmp(seen, table[i].want) == 0, "row %zu by %llu: %s", i,
			      (unsigned long long)steps[p], seen);
			CHECK(memcmp(&sum, &whole, sizeof(sum)) == 0, "row %zu by %llu",
			      i, (unsigned long long)steps[p]);
		}
	}
	lines_before = 0;
}

/* The counts of a file are the sum of its findings. */
static void test_counts(void)
{
	static const char text[] = "{}\n\n{\"a\":\n{}{}\n[\"" X10 X10 X10 "\"]\n\0\n[1]";
	struct jsonl_check_counts c;

	lay_down(text, sizeof(text) - 1);
	CHECK(run(&standard, 5, &c) == 0);
	CHECK(c.findings[JSONL_FINDING_BLANK] == 1 && c.blank == 1);
	CHECK(c.findings[JSONL_FINDING_HALF] == 1);
	CHECK(c.findings[JSONL_FINDING_FUSED] == 1);
	CHECK(c.findings[JSONL_FINDING_NUL] == 1);
	CHECK(c.findings[JSONL_FINDING_OVERSIZE] == 1 && c.oversize == 1);
	CHECK(c.findings[JSONL_FINDING_NO_NEWLINE] == 1);
	CHECK(jsonl_check_damage(&c) == 3);
	CHECK(c.largest == 35 && c.records == 3 && c.lines == 7);
}

static void test_limits(void)
{
	static const char text[] = "{}\n[]\n1\n\n[\"" X10 X10 X10 "\"]\n[[[[1]]]]\n";
	struct jsonl_limits lim = standard;
	struct jsonl_check_counts c;

	lay_down(text, sizeof(text) - 1);
	lim.value = JSONL_VALUE_OBJECT;
	CHECK(run(&lim, 9, &c) == 0 && c.records == 1);
	CHECK(c.findings[JSONL_FINDING_VALUE] == 4, "%s", seen);
	lim.value = JSONL_VALUE_CONTAINER;
	CHECK(run(&lim, 9, &c) == 0 && c.findings[JSONL_FINDING_VALUE] == 1, "%s", seen);
	lim = standard;
	lim.blank = JSONL_BLANK_KEEP;
	CHECK(run(&lim, 9, &c) == 0 && c.blank == 1 &&
	      c.findings[JSONL_FINDING_BLANK] == 0);
	lim = standard;
	lim.oversize = JSONL_OVERSIZE_ALLOW;
	CHECK(run(&lim, 9, &c) == 0 && c.findings[JSONL_FINDING_OVERSIZE] == 0);
	lim = standard;
	lim.maxdepth = 3;
	CHECK(run(&lim, 9, &c) == 0 && c.findings[JSONL_FINDING_INVALID] == 1, "%s",
	      seen);
}

static void test_stop(void)
{
	struct jsonl_check_counts c;

	lay_down("x\ny\nz\n", 6);
	stop_after = 2;
	CHECK(run(&standard, 3, &c) == 77);
	CHECK(strcmp(seen, "invalid@1:0+1 invalid@2:2+1 ") == 0, "%s", seen);
	stop_after = 0;
	CHECK(jsonl_check_fd(&jsonl_io_system, -1, &standard, &hooks, &c) == -EBADF);
}

/* No hooks at all, and a file that is larger than every buffer. */
static void test_large(void)
{
	static const struct jsonl_check none = {0};
	struct jsonl_limits lim = standard;
	struct jsonl_check_counts c = {0};
	size_t len = 3 << 20;
	char *text = malloc(len);

	if (!CHECK(text))
		return;
	lim.maxrecord = 1 << 20;
	lim.pipebuf = 4096;
	for (size_t i = 0; i < len; i += 16)
		memcpy(text + i, "{\"a\":123456789}\n", 16);
	lay_down(text, len);
	CHECK(jsonl_check_fd(&jsonl_io_system, fd, &lim, &none, &c) == 0);
	CHECK(c.records == len / 16 && jsonl_check_damage(&c) == 0 && c.bytes == len);

	/* One record of 1 MiB less one, one of 1 MiB, one beyond. */
	memset(text, ' ', len);
	text[(1 << 20) - 2] = text[(2 << 20) - 2] = '1';
	text[(1 << 20) - 1] = text[(2 << 20) - 1] = '\n';
	text[len - 2] = '1';
	lay_down(text, len);
	CHECK(run(&lim, 1 << 20, &c) == 0);
	CHECK(strcmp(seen, "oversize@1:0+1048576 oversize@2:1048576+1048576 "
			   "too-long@3:2097152+1048576 ") == 0,
	      "%s", seen);

	/* A hole is a run like any other. */
	memcpy(text, "{}\n", 3);
	lay_down(text, 3);
	CHECK(ftruncate(fd, (off_t)64 << 20) == 0);
	CHECK(futimens(fd, long_ago) == 0);
	CHECK(run(&lim, 1 << 20, &c) == 0);
	CHECK(strcmp(seen, "nul-bytes@2:3+67108861 ") == 0, "%s", seen);
	free(text);
}

/* ---- somebody appends meanwhile ---- */

static void *append_slowly(void *arg)
{
	static const char *const parts[] = {"{\"b\"", ":", "2}", "\n{\"c\":3}\n{\"d"};
	const struct timespec pause = {.tv_nsec = 150 * 1000000L};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		size_t len = strlen(parts[i]);

		nanosleep(&pause, NULL);
		if (write(fd, parts[i], len) != (ssize_t)len)
			return (void *)parts[i];
	}
	return NULL;
}

/* The line that was being written when the check came to it is waited for; what begins
 * after it is not looked at. */
static void test_growing(void)
{
	struct jsonl_check_counts c;
	pthread_t thread;
	void *failed;
	int rc;

	CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, "{\"a\":1}\n ", 9, 0) == 9);
	CHECK(lseek(fd, 0, SEEK_END) == 9);
	CHECK(pthread_create(&thread, NULL, append_slowly, NULL) == 0);
	rc = run(&standard, 1 << 20, &c);
	pthread_join(thread, &failed);
	CHECK(!failed);
	CHECK(rc == 0 && seen[0] == '\0', "%d: %s", rc, seen);
	CHECK(c.records == 2 && c.lines == 2, "%llu", (unsigned long long)c.records);
	CHECK(c.bytes == 8 + 9, "%llu", (unsigned long long)c.bytes);
}

/* A tail that stays as it is for two seconds is torn. */
static void test_still(void)
{
	struct jsonl_check_counts c;
	struct timespec before, after;

	CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, "{}\n{\"a\"", 7, 0) == 7);
	clock_gettime(CLOCK_MONOTONIC, &before);
	CHECK(run(&standard, 1 << 20, &c) == 0);
	clock_gettime(CLOCK_MONOTONIC, &after);
	CHECK(strcmp(seen, "torn-tail@2:7+4 ") == 0, "%s", seen);
	CHECK(after.tv_sec - before.tv_sec >= 1 && after.tv_sec - before.tv_sec <= 4);
}

static void test_names(void)
{
	for (int i = 0; i < JSONL_FINDING_COUNT; i++) {
		CHECK(jsonl_finding_name(i)[0] && jsonl_finding_text(i)[0]);
		for (int k = 0; k < i; k++)
			CHECK(strcmp(jsonl_finding_name(i), jsonl_finding_name(k)) != 0);
	}
	CHECK(jsonl_finding_is_note(JSONL_FINDING_OVERSIZE));
	CHECK(!jsonl_finding_is_note(JSONL_FINDING_TORN_TAIL));
}

int main(void)
{
	const char *tmp = getenv("TMPDIR");

	fd = open(tmp ? tmp : "/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	if (!CHECK(fd >= 0))
		return check_done();
	test_table();
	test_parts();
	test_counts();
	test_limits();
	test_stop();
	test_large();
	test_growing();
	test_still();
	test_names();
	close(fd);
	return check_done();
}
