/* SPDX-License-Identifier: MIT */
/* The bottom room: full reads and writes over calls that come back short or interrupted,
 * the window of a reader, growing lists, vectors, hashes, verdicts. */
#include "base/io.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/reader.h"
#include "check.h"

/* The system, but each call does at most `most` bytes and every other one is interrupted.
 */
struct slow_io {
	struct jsonl_io io; /* first: cast back */
	size_t most;
	unsigned calls;
	int fails; /* -errno of the call after the third */
};

static int slow_begin(const struct jsonl_io *io)
{
	struct slow_io *slow = (struct slow_io *)io;

	if (slow->fails && slow->calls >= 3)
		return slow->fails;
	return slow->calls++ % 2 ? 0 : -EINTR;
}

static ssize_t slow_pread(const struct jsonl_io *io, int fd, void *buf, size_t len,
			  off_t off)
{
	size_t most = ((const struct slow_io *)io)->most;
	int rc = slow_begin(io);

	return rc ? rc : jsonl_io_system.pread(io, fd, buf, len < most ? len : most, off);
}

static ssize_t slow_writev(const struct jsonl_io *io, int fd, const struct iovec *iov,
			   int n)
{
	struct iovec first = iov[0];
	size_t most = ((const struct slow_io *)io)->most;
	int rc = slow_begin(io);

	CHECK(n > 0);
	if (first.iov_len > most)
		first.iov_len = most;
	return rc ? rc : jsonl_io_system.writev(io, fd, &first, 1);
}

static struct slow_io slow_io(size_t most, int fails)
{
	struct slow_io slow = {.io = jsonl_io_system, .most = most, .fails = fails};

	slow.io.pread = slow_pread;
	slow.io.writev = slow_writev;
	return slow;
}

static int scratch(const char *bytes)
{
	char path[] = "/tmp/jsonl-base-XXXXXX";
	int fd = mkostemp(path, O_APPEND);

	CHECK(fd >= 0 && unlink(path) == 0);
	CHECK(write(fd, bytes, strlen(bytes)) == (ssize_t)strlen(bytes));
	return fd;
}

static void test_reading(void)
{
	int fd = scratch("0123456789");
	struct slow_io slow = slow_io(3, 0);
	char buf[16] = "";

	CHECK(jsonl_io_read_full(&slow.io, fd, buf, 10, 0) == 10);
	CHECK(memcmp(buf, "0123456789", 10) == 0);
	CHECK(jsonl_io_read_full(&slow.io, fd, buf, 10, 8) == 2);
	CHECK(jsonl_io_read_full(&slow.io, fd, buf, 10, 10) == 0);
	slow = slow_io(3, -EIO);
	CHECK(jsonl_io_read_full(&slow.io, fd, buf, 10, 0) == -EIO);
	close(fd);
}

static void test_writing(void)
{
	struct iovec iov[5] = {{(void *)"", 0},
			       {(void *)"abcd", 4},
			       {(void *)"", 0},
			       {(void *)"efghi", 5},
			       {(void *)"", 0}};
	struct slow_io slow = slow_io(3, 0);
	int fd = scratch("");
	char buf[16];
	size_t written;

	CHECK(jsonl_io_write_full(&slow.io, fd, iov, 5, &written) == 0 && written == 9);
	CHECK(pread(fd, buf, sizeof(buf), 0) == 9 && memcmp(buf, "abcdefghi", 9) == 0);
	CHECK(jsonl_io_write_full(&slow.io, fd, iov, 1, &written) == 0 && written == 0);
	close(fd);
	/* One interrupted call and one of three bytes, then an error. */
	fd = scratch("");
	slow = slow_io(3, -ENOSPC);
	slow.calls = 1;
	CHECK(jsonl_io_write_full(&slow.io, fd, iov, 5, &written) == -ENOSPC);
	CHECK(written == 3 && pread(fd, buf, sizeof(buf), 0) == 3);
	close(fd);
}

/* One call for hosts: whole lines of what fits one request, the rest by the next. */
static void test_requests(void)
{
	enum { LINE = 1000, LINES = 300, MOST = JSONL_IO_REQUEST / LINE * LINE };
	char *bytes = malloc(LINES * LINE), *got = malloc(LINES * LINE);
	struct iovec iov[LINES];
	int fd = scratch("");
	size_t written;

	memset(bytes, 'x', LINES * LINE);
	for (int i = 0; i < LINES; i++) {
		bytes[(i + 1) * LINE - 1] = '\n';
		iov[i] = (struct iovec){bytes + i * LINE, LINE};
	}
	/* In one vector, in many, in some. */
	CHECK(jsonl_io_remote.writev(&jsonl_io_remote, fd,
				     &(struct iovec){bytes, LINES * LINE}, 1) == MOST);
	CHECK(jsonl_io_remote.writev(&jsonl_io_remote, fd, iov, LINES) == 64 * LINE);
	iov[1] = (struct iovec){bytes + LINE, (LINES - 1) * LINE};
	CHECK(jsonl_io_remote.writev(&jsonl_io_remote, fd, iov, 2) == MOST);
	CHECK(jsonl_io_remote.writev(&jsonl_io_remote, fd, iov, 1) == LINE);
	(void)!ftruncate(fd, 0);
	CHECK(jsonl_io_write_full(&jsonl_io_remote, fd, iov, 2, &written) == 0);
	CHECK(written == LINES * LINE &&
	      pread(fd, got, LINES * LINE, 0) == LINES * LINE &&
	      memcmp(bytes, got, LINES * LINE) == 0);
	/* A line that is longer goes as it is. */
	memset(bytes, 'x', LINES * LINE);
	CHECK(jsonl_io_remote.writev(&jsonl_io_remote, fd, iov, 2) == LINES * LINE);
	close(fd);
	free(bytes);
	free(got);
}

static void test_comparing(void)
{
	size_t len = 40000;
	char *bytes = malloc(len + 1);
	struct slow_io slow = slow_io(20000, 0);
	int fd;

	memset(bytes, 'x', len);
	bytes[len] = '\0';
	fd = scratch(bytes);
	CHECK(jsonl_io_equals(&slow.io, fd, bytes, len, 0) == 1);
	CHECK(jsonl_io_equals(&slow.io, fd, bytes, 0, 7) == 1);
	CHECK(jsonl_io_equals(&slow.io, fd, bytes, len - 5, 5) == 1);
	/* The file ends before. */
	CHECK(jsonl_io_equals(&slow.io, fd, bytes, len, 1) == 0);
	bytes[len - 1] = 'y';
	CHECK(jsonl_io_equals(&slow.io, fd, bytes, len, 0) == 0);
	CHECK(jsonl_io_equals(&slow.io, fd, bytes, len - 1, 0) == 1);
	slow = slow_io(20000, -EIO);
	CHECK(jsonl_io_equals(&slow.io, fd, bytes, len, 0) == -EIO);
	close(fd);
	free(bytes);
}

/* Reads a file of long and short lines through the window: every line once, as it stands.
 */
static void test_reader(void)
{
	const size_t lens[] = {0, 1, 70000, 3, 3 * JSONL_READER_PIECE, 0, 12};
	struct slow_io slow = slow_io(50000, 0);
	struct jsonl_reader r;
	uint64_t size = 0;
	int fd = scratch("");
	unsigned line = 0;

	for (unsigned i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		char *text = malloc(lens[i] + 1);

		memset(text, 'a' + (int)i, lens[i]);
		text[lens[i]] = '\n';
		CHECK(write(fd, text, lens[i] + 1) == (ssize_t)lens[i] + 1);
		size += lens[i] + 1;
		free(text);
	}
	CHECK(jsonl_reader_init(&r, &slow.io, fd, 0, size) == 0);
	for (;;) {
		size_t len;
		ssize_t got;

		if (jsonl_reader_line(&r, &len)) {
			CHECK(len == lens[line], "line %u: %zu bytes", line, len);
			for (size_t i = 0; i < len; i++)
				CHECK(r.buf[r.start + i] == 'a' + (int)line);
			r.start += len + 1;
			r.searched = 0;
			line++;
			continue;
		}
		got = jsonl_reader_fill(&r);
		CHECK(got >= 0);
		if (!got)
			break;
	}
	CHECK(line == sizeof(lens) / sizeof(*lens) && jsonl_reader_offset(&r) == size);
	/* The file has become shorter than it was said to be. */
	r.size = size + 10;
	CHECK(jsonl_reader_fill(&r) == -ESTALE);
	jsonl_reader_deinit(&r);
	close(fd);
}

static void test_nuls(void)
{
	char buf[100] = {0};

	CHECK(jsonl_reader_nuls(buf, sizeof(buf)) == sizeof(buf));
	for (size_t at = 0; at < sizeof(buf); at++) {
		buf[at] = 1;
		CHECK(jsonl_reader_nuls(buf, sizeof(buf)) == at);
		CHECK(jsonl_reader_nuls(buf, at) == at);
		buf[at] = 0;
	}
}

static void test_growing(void)
{
	struct item {
		char bytes[24];
	} *items = NULL;
	size_t cap = 0, had;
	char *huge = NULL;

	for (unsigned n = 0; n < 1000; n++) {
		had = cap;
		CHECK(jsonl_grow(&items, &cap, n + 1, sizeof(*items)) == 0 && cap > n);
		CHECK(cap == had || cap >= 2 * had, "%zu after %zu", cap, had);
		snprintf(items[n].bytes, sizeof(items[n].bytes), "%u", n);
	}
	for (unsigned n = 0; n < 1000; n++)
		CHECK((unsigned)atoi(items[n].bytes) == n);
	/* More than there can be: nothing changes. */
	had = cap;
	CHECK(jsonl_grow(&items, &cap, SIZE_MAX, sizeof(*items)) == -ENOMEM);
	CHECK(jsonl_grow(&items, &cap, SIZE_MAX / 16, sizeof(*items)) == -ENOMEM);
	CHECK(cap == had && atoi(items[999].bytes) == 999);
	free(items);
	cap = 0;
	CHECK(jsonl_grow(&huge, &cap, 100000, 1) == 0 && cap >= 100000);
	huge[99999] = 'x';
	free(huge);
}

static void test_vectors(void)
{
	struct iovec iov[3] = {{(void *)"ab", 2}, {NULL, 0}, {(void *)"cde", 3}};
	char buf[8] = "-------";

	CHECK(jsonl_iov_length(iov, 3) == 5 && jsonl_iov_length(NULL, 0) == 0);
	jsonl_iov_copy(buf, iov, 3);
	CHECK(memcmp(buf, "abcde--", 7) == 0);
}

static void test_hashes(void)
{
	/* Known answers of FNV-1a; a hash in pieces is that of the whole. */
	CHECK(jsonl_hash(JSONL_HASH_START, "", 0) == UINT64_C(0xcbf29ce484222325));
	CHECK(jsonl_hash(JSONL_HASH_START, "a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
	CHECK(jsonl_hash(JSONL_HASH_START, "foobar", 6) == UINT64_C(0x85944171f73967e8));
	CHECK(jsonl_hash(jsonl_hash(JSONL_HASH_START, "foo", 3), "bar", 3) ==
	      UINT64_C(0x85944171f73967e8));
}

/* Each verdict has a name of its own, a sentence, and an errno. */
static void test_verdicts(void)
{
	for (int a = 0; a < JSONL_VERDICT_COUNT; a++) {
		CHECK(jsonl_error_text(a)[0]);
		CHECK((jsonl_error_errno(a) == 0) == (a == JSONL_OK));
		for (int b = 0; b < a; b++)
			CHECK(strcmp(jsonl_error_name(a), jsonl_error_name(b)) != 0);
	}
	CHECK(strcmp(jsonl_error_name(JSONL_FUSED), "fused") == 0);
	CHECK(strcmp(jsonl_error_name(-EIO), "error") == 0);
	CHECK(strcmp(jsonl_error_name(JSONL_VERDICT_COUNT), "error") == 0);
	CHECK(jsonl_error_errno(-ENOSPC) == ENOSPC);
	CHECK(jsonl_error_errno(JSONL_TOO_LONG) == EMSGSIZE);
	CHECK(strstr(jsonl_error_text(-ENOENT), "No such file"));
}

int main(void)
{
	test_reading();
	test_writing();
	test_requests();
	test_comparing();
	test_reader();
	test_nuls();
	test_growing();
	test_vectors();
	test_hashes();
	test_verdicts();
	return check_done();
}
