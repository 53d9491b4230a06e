/* SPDX-License-Identifier: MIT */
/* Blocks of any text: by one write, all or nothing, and what a crash has left staged. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/raw.h"
#include "check.h"

static char dir[] = "/tmp/test_raw.XXXXXX";
static int dir_fd, file_fd;
static pthread_rwlock_t readers = PTHREAD_RWLOCK_INITIALIZER;

/* The system, with faults. */
static struct {
	struct jsonl_io io; /* first: cast back */
	size_t most;	    /* bytes that a write takes */
	bool interrupted;   /* the next write */
	int sync_rc, cut_rc;
	bool outsider; /* appends behind each write */
	bool read;     /* `readers` counts */
	unsigned writes, syncs;
} disk;

static bool can_read(void)
{
	bool can = pthread_rwlock_tryrdlock(&readers) == 0;

	if (can)
		pthread_rwlock_unlock(&readers);
	return can;
}

static ssize_t disk_append(const struct jsonl_io *io, int fd, const struct iovec *iov,
			   int n)
{
	struct iovec first = iov[0];
	ssize_t got;

	CHECK(n == 1 && can_read() != disk.read);
	if (disk.interrupted) {
		disk.interrupted = false;
		return -EINTR;
	}
	disk.writes++;
	if (first.iov_len > disk.most)
		first.iov_len = disk.most;
	got = jsonl_io_system.append(io, fd, &first, 1);
	if (disk.outsider)
		CHECK(pwritev2(fd, &(struct iovec){"out", 3}, 1, 0, RWF_APPEND) == 3);
	return got;
}

static int disk_sync(const struct jsonl_io *io, int fd)
{
	CHECK(can_read());
	disk.syncs++;
	return disk.sync_rc;
}

static int disk_cut(const struct jsonl_io *io, int fd, off_t len)
{
	/* A block that is whole may be read until it is cut off. */
	CHECK(can_read() != (disk.most < SIZE_MAX));
	return disk.cut_rc ? disk.cut_rc : jsonl_io_system.ftruncate(io, fd, len);
}

static void disk_begin(void)
{
	memset(&disk, 0, sizeof(disk));
	disk.io = jsonl_io_system;
	disk.io.append = disk_append;
	disk.io.fdatasync = disk_sync;
	disk.io.ftruncate = disk_cut;
	disk.most = SIZE_MAX;
	CHECK(ftruncate(file_fd, 0) == 0 && pwrite(file_fd, "old\n", 4, 0) == 4);
}

static bool holds(const char *what)
{
	char buf[128];
	ssize_t n = pread(file_fd, buf, sizeof(buf), 0);

	return n == (ssize_t)strlen(what) && memcmp(buf, what, (size_t)n) == 0;
}

static struct jsonl_stage *staged(const char *what, bool in_file)
{
	struct iovec iov = {.iov_base = (void *)what, .iov_len = strlen(what)};
	struct jsonl_stage *s;

	CHECK(jsonl_stage_new(&jsonl_io_system, dir_fd, "stage-1", "x.md", NULL, NULL,
			      &s) == 0);
	CHECK(jsonl_stage_add(s, &iov, 1) == 0);
	if (in_file)
		CHECK(jsonl_stage_sync(s) == 0 && jsonl_stage_file(s));
	return s;
}

static void test_map(bool in_file)
{
	struct jsonl_stage *s = staged("some text", in_file);
	struct jsonl_stage_map map;

	CHECK(jsonl_stage_map(s, &map) == 0 && map.iov.iov_len == 9);
	CHECK(memcmp(map.iov.iov_base, "some text", 9) == 0);
	jsonl_stage_unmap(&map);
	jsonl_stage_free(s);
}

static int append(struct jsonl_stage *s, bool durable, bool *stays)
{
	int rc;

	disk.read = true;
	rc = jsonl_raw_append(&disk.io, file_fd, s, durable, &readers, stays);
	CHECK(can_read());
	return rc;
}

static void test_append(bool in_file, bool durable)
{
	struct jsonl_stage *s = staged("no newline", in_file);
	bool stays = true;

	disk_begin();
	disk.interrupted = true;
	CHECK(append(s, durable, &stays) == 0 && !stays);
	CHECK(holds("old\nno newline") && disk.writes == 1 && disk.syncs == durable);
	CHECK(jsonl_stage_length(s) == 10);
	jsonl_stage_free(s);
}

static void test_failures(void)
{
	struct jsonl_stage *s = staged("block", false);
	bool stays;

	/* A disk that is full, and one that loses what was written. */
	disk_begin();
	disk.most = 2;
	CHECK(append(s, true, &stays) == -ENOSPC);
	CHECK(!stays && holds("old\n"));
	disk_begin();
	disk.sync_rc = -EIO;
	CHECK(append(s, true, &stays) == -EIO);
	CHECK(!stays && holds("old\n"));
	/* Nothing is cut off when somebody has come behind it. */
	disk_begin();
	disk.outsider = true;
	disk.sync_rc = -EIO;
	CHECK(append(s, true, &stays) == -EIO);
	CHECK(stays && holds("old\nblockout"));
	disk_begin();
	disk.outsider = true;
	disk.most = 2;
	CHECK(append(s, true, &stays) == -EIO);
	CHECK(!stays && holds("old\nblout"));
	/* Or when it cannot be. */
	disk_begin();
	disk.sync_rc = disk.cut_rc = -EDQUOT;
	CHECK(append(s, true, &stays) == -EDQUOT);
	CHECK(stays && holds("old\nblock"));
	jsonl_stage_free(s);
}

static void test_recover(void)
{
	struct jsonl_stage *s = staged("block", true);

	disk_begin();
	CHECK(jsonl_raw_recover(&disk.io, file_fd, s) == 0);
	CHECK(holds("old\nblock") && disk.syncs == 1);
	/* It is there, but perhaps not on the disk. */
	CHECK(jsonl_raw_recover(&disk.io, file_fd, s) == 0);
	CHECK(holds("old\nblock") && disk.syncs == 2 && disk.writes == 1);
	disk.sync_rc = -EIO;
	CHECK(jsonl_raw_recover(&disk.io, file_fd, s) == -EIO);
	disk_begin();
	CHECK(ftruncate(file_fd, 2) == 0 && jsonl_raw_recover(&disk.io, file_fd, s) == 0);
	CHECK(holds("olblock"));
	jsonl_stage_free(s);
}

int main(void)
{
	if (!mkdtemp(dir) || (dir_fd = open(dir, O_RDONLY | O_DIRECTORY)) < 0)
		return 1;
	file_fd = openat(dir_fd, "x.md", O_RDWR | O_CREAT, 0600);
	CHECK(file_fd >= 0);
	for (int n = 0; n < 4; n++) {
		test_map(n & 1);
		test_append(n & 1, n & 2);
	}
	test_failures();
	test_recover();
	unlinkat(dir_fd, "x.md", 0);
	rmdir(dir);
	return check_done();
}
