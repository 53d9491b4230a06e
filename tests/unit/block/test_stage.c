/* SPDX-License-Identifier: MIT */
/* Staged bytes: in memory, then in a file; all or nothing for each piece. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "block/stage.h"

static char dir[] = "/tmp/test_stage.XXXXXX";
static int dir_fd, made_rc;
static unsigned made;

static int on_made(void *ctx, int fd)
{
	made++;
	return made_rc;
}

static int64_t charged;
static int charge_rc;

static int on_charge(void *ctx, int64_t bytes)
{
	if (bytes > 0 && charge_rc)
		return charge_rc;
	charged += bytes;
	return 0;
}

static const struct jsonl_stage_events events = {.made = on_made, .charge = on_charge};

static struct jsonl_stage *stage_new(int at)
{
	struct jsonl_stage *s;

	if (jsonl_stage_new(&jsonl_io_system, at, "stage-1", "x.jsonl", &events, NULL,
			    &s))
		abort();
	return s;
}

static bool on_disk(void)
{
	return faccessat(dir_fd, "stage-1", F_OK, 0) == 0;
}

/* Adds `n` bytes that depend on where they stand. */
static int add(struct jsonl_stage *s, size_t n)
{
	char *bytes = malloc(n);
	struct iovec iov[2] = {{.iov_base = bytes, .iov_len = n / 2},
			       {.iov_base = bytes + n / 2, .iov_len = n - n / 2}};
	uint64_t at = jsonl_stage_length(s);
	int rc;

	if (!bytes)
		abort();
	for (size_t i = 0; i < n; i++)
		bytes[i] = (char)('a' + (at + i) % 23);
	rc = jsonl_stage_add(s, iov, 2);
	free(bytes);
	return rc;
}

static bool is_right(struct jsonl_stage *s)
{
	char buf[7001];
	const char *bytes;
	uint64_t at = 0;
	ssize_t got;

	while ((got = jsonl_stage_read(s, at, buf, sizeof(buf), &bytes)) > 0) {
		for (ssize_t i = 0; i < got; i++)
			if (bytes[i] != (char)('a' + (at + (uint64_t)i) % 23))
				return false;
		at += (uint64_t)got;
	}
	return got == 0 && at == jsonl_stage_length(s);
}

static void test_growth(void)
{
	struct jsonl_stage *s = stage_new(dir_fd);

	CHECK(add(s, 10) == 0 && add(s, 5000) == 0 && is_right(s));
	CHECK(!on_disk() && made == 0);
	CHECK(add(s, JSONL_STAGE_MEMORY) == 0 && on_disk() && made == 1);
	CHECK(add(s, 100000) == 0 && is_right(s));
	CHECK(jsonl_stage_length(s) == 105010 + JSONL_STAGE_MEMORY);
	jsonl_stage_clear(s);
	CHECK(!on_disk() && jsonl_stage_length(s) == 0 && is_right(s));
	CHECK(add(s, 3) == 0 && is_right(s) && !on_disk());
	jsonl_stage_free(s);
}

static void test_sync(void)
{
	struct jsonl_stage *s = stage_new(dir_fd);
	char buf[64] = "";
	int fd;

	CHECK(jsonl_stage_sync(s) == 0 && !on_disk());
	CHECK(add(s, 4) == 0 && jsonl_stage_sync(s) == 0 && on_disk());
	fd = openat(dir_fd, "stage-1", O_RDONLY);
	CHECK(read(fd, buf, sizeof(buf)) == 28 &&
		  strcmp(buf, "jsonlfs stage 7\nx.jsonl\nabcd") == 0,
	      "%s", buf);
	close(fd);
	CHECK(add(s, 4) == 0 && is_right(s) && jsonl_stage_sync(s) == 0);
	jsonl_stage_free(s);
	CHECK(!on_disk());
}

static unsigned failing; /* syncs from here on that fail */

static int sync_or_fail(const struct jsonl_io *io, int fd)
{
	return failing ? failing--, -EIO : 0;
}

/* The kernel tells once that it lost a page: what follows a failed sync proves nothing.
 */
static void test_failed_sync(void)
{
	struct jsonl_io io = jsonl_io_system;
	struct jsonl_stage *s;

	io.fdatasync = io.fsync = sync_or_fail;
	if (jsonl_stage_new(&io, dir_fd, "stage-1", "x.jsonl", NULL, NULL, &s))
		abort();
	CHECK(add(s, 4) == 0);
	failing = 1;
	CHECK(jsonl_stage_sync(s) == -EIO && jsonl_stage_sync(s) == -EIO);
	CHECK(add(s, 4) == 0 && jsonl_stage_sync(s) == -EIO && is_right(s));
	CHECK(jsonl_stage_discard(s) == 0 && !on_disk());
	CHECK(add(s, 4) == 0 && jsonl_stage_sync(s) == 0);
	jsonl_stage_free(s);
}

static void test_refused(void)
{
	struct jsonl_stage *s = stage_new(-1);

	CHECK(add(s, 10) == 0 && jsonl_stage_sync(s) == -EROFS);
	CHECK(add(s, JSONL_STAGE_MEMORY) == -EROFS);
	CHECK(jsonl_stage_length(s) == 10 && is_right(s));
	jsonl_stage_free(s);

	s = stage_new(dir_fd);
	made_rc = -EDQUOT;
	CHECK(add(s, 10) == 0 && add(s, JSONL_STAGE_MEMORY) == -EDQUOT && !on_disk());
	CHECK(jsonl_stage_length(s) == 10 && is_right(s));
	made_rc = 0;
	CHECK(add(s, JSONL_STAGE_MEMORY) == 0 && is_right(s));
	jsonl_stage_free(s);
}

/* Memory is accounted for as long as it is used, and asked for first. */
static void test_memory(void)
{
	struct jsonl_stage *s = stage_new(dir_fd);

	CHECK(add(s, 10) == 0 && add(s, 5000) == 0 && charged == 5010);
	charge_rc = -ENOBUFS;
	CHECK(add(s, 10) == -ENOBUFS && jsonl_stage_length(s) == 5010 && is_right(s));
	CHECK(add(s, JSONL_STAGE_MEMORY) == 0 && charged == 0 && is_right(s));
	charge_rc = 0;
	jsonl_stage_clear(s);
	CHECK(add(s, 10) == 0 && charged == 10);
	CHECK(jsonl_stage_sync(s) == 0 && charged == 0 && add(s, 10) == 0 &&
	      charged == 0);
	CHECK(jsonl_stage_discard(s) == 0 && add(s, 10) == 0 && charged == 10);
	jsonl_stage_free(s);
	CHECK(charged == 0);
}

/* What a crash has left: whole records, up to what a power cut has not brought to the
 * disk. */
static void test_left(void)
{
	static const char left[] = "jsonlfs stage 7\nx.jsonl\n1\n22\n333\0\n";
	struct jsonl_stage *s;
	char *path, buf[64];
	const char *bytes;
	int fd;

	CHECK(jsonl_stage_open(&jsonl_io_system, dir_fd, "stage-1", &s, &path) ==
	      -ENOENT);
	fd = openat(dir_fd, "stage-1", O_WRONLY | O_CREAT, 0600);
	CHECK(write(fd, left, sizeof(left) - 1) > 0);
	CHECK(jsonl_stage_open(&jsonl_io_system, dir_fd, "stage-1", &s, &path) == 0);
	CHECK(path && strcmp(path, "x.jsonl") == 0 && jsonl_stage_length(s) == 5);
	CHECK(jsonl_stage_read(s, 0, buf, sizeof(buf), &bytes) == 5 &&
	      memcmp(bytes, "1\n22\n", 5) == 0);
	free(path);
	CHECK(jsonl_stage_take_all(s) == 0 && jsonl_stage_length(s) == 10);
	jsonl_stage_free(s);
	CHECK(on_disk());
	for (off_t len = 0; len < 24; len++) {
		CHECK(ftruncate(fd, len) == 0);
		CHECK(jsonl_stage_open(&jsonl_io_system, dir_fd, "stage-1", &s, &path) ==
		      0);
		CHECK(!path && !jsonl_stage_length(s), "%d", (int)len);
		CHECK(jsonl_stage_discard(s) == 0 && !on_disk());
		jsonl_stage_free(s);
		close(fd);
		fd = openat(dir_fd, "stage-1", O_WRONLY | O_CREAT, 0600);
		CHECK(write(fd, left, sizeof(left) - 1) > 0);
	}
	close(fd);
	CHECK(jsonl_stage_remove(&jsonl_io_system, dir_fd, "stage-1") == 0 && !on_disk());
	CHECK(jsonl_stage_remove(&jsonl_io_system, dir_fd, "stage-1") == 0);
}

int main(void)
{
	if (!mkdtemp(dir) || (dir_fd = open(dir, O_RDONLY | O_DIRECTORY)) < 0)
		return 1;
	test_growth();
	test_sync();
	test_failed_sync();
	test_refused();
	test_memory();
	test_left();
	rmdir(dir);
	return check_done();
}
