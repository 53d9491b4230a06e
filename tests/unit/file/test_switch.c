/* SPDX-License-Identifier: MIT */
/* Another file takes the place of a log, and the descriptors cannot be exchanged at once:
 * no append may go to the old file, which has no name any more. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "check.h"
#include "file/file.h"
#include "file/file_internal.h"

static char dir[] = "/tmp/test_switch.XXXXXX";
static int dir_fd;	   /* of it */
static int calls, failing; /* of refer; from which call on it fails, 0: never */
static struct jsonl_io io;

static int refer(const struct jsonl_io *own, int from, int to)
{
	calls++;
	if (failing && calls >= failing)
		return -EBADF;
	return jsonl_io_system.refer(own, from, to);
}

static int set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
		     int niov, off_t at, uint64_t offset)
{
	return 0;
}

static void report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
}

static const struct jsonl_file_events events = {.set_aside = set_aside, .report = report};

static int open_here(const char *name, int flags)
{
	return openat(dir_fd, name, flags | O_CLOEXEC, 0600);
}

static void put(const char *name, const char *content)
{
	const int fd = open_here(name, O_WRONLY | O_CREAT | O_TRUNC);

	CHECK(write(fd, content, strlen(content)) == (ssize_t)strlen(content));
	CHECK(close(fd) == 0);
}

static bool holds(int fd, const char *content)
{
	return jsonl_io_equals(&jsonl_io_system, fd, content, strlen(content), 0) == 1 &&
	       lseek(fd, 0, SEEK_END) == (off_t)strlen(content);
}

static int append(struct jsonl_file *file, const char *line)
{
	struct jsonl_file_user user = {0};
	const struct iovec iov = {.iov_base = (char *)line, .iov_len = strlen(line)};

	return jsonl_file_append(file, &iov, 1, &user, NULL);
}

static off_t visible(struct jsonl_file *file)
{
	off_t at = -1;

	CHECK(jsonl_file_visible(file, &at) == 0);
	return at;
}

/* `fails`: the first call of refer that fails, and all after it. */
static void test_switch(int fails)
{
	const struct jsonl_file_options opt = {
	    .maxrecord = 4096, .maxdepth = 8, .retain = true};
	struct jsonl_file *file;
	int old, new, append_fd, rc;
	off_t end;

	put("log", "[1]\n[2]\n");
	put("new", "[3]\n");
	old = open_here("log", O_RDONLY);
	CHECK(jsonl_file_new(&io, open_here("log", O_RDONLY), &opt, &events, NULL,
			     &file) == 0);
	jsonl_file_set_append_fd(file, open_here("log", O_RDWR | O_APPEND), true);
	CHECK(append(file, "[2.5]\n") == 0 && visible(file) == 14);
	CHECK(jsonl_file_freeze(file, &end) == 0);
	new = open_here("new", O_RDONLY);
	append_fd = open_here("new", O_RDWR | O_APPEND);
	CHECK(io.trylock(&io, append_fd) == 0);
	CHECK(renameat(dir_fd, "new", dir_fd, "log") == 0);
	calls = 0;
	failing = fails;
	rc = jsonl_file_switch(file, new, append_fd, 4, open(dir, O_RDONLY | O_CLOEXEC));
	CHECK(rc == (fails ? -EBADF : 0), "%d", rc);
	jsonl_file_unfreeze(file);
	new = open_here("log", O_RDONLY);
	if (fails) {
		CHECK(append(file, "[4]\n") == -EBADF);
		/* Readers see the whole of one of the two. */
		CHECK(visible(file) == 14 &&
		      holds(jsonl_file_fd(file), "[1]\n[2]\n[2.5]\n"));
	}
	CHECK(holds(old, "[1]\n[2]\n[2.5]\n") && holds(new, "[3]\n"));
	failing = 0;
	CHECK(append(file, "[5]\n") == 0);
	CHECK(holds(old, "[1]\n[2]\n[2.5]\n") && holds(new, "[3]\n[5]\n"));
	CHECK(visible(file) == 8 && holds(jsonl_file_fd(file), "[3]\n[5]\n"));
	/* Nobody is kept out. */
	append_fd = open_here("log", O_RDWR);
	CHECK(io.trylock(&io, append_fd) == 0);
	close(append_fd);
	/* It may also go while the change is due. */
	put("new", "[6]\n");
	CHECK(jsonl_file_freeze(file, &end) == 0 && end == 8);
	calls = 0;
	failing = fails;
	rc = jsonl_file_switch(file, open_here("new", O_RDONLY),
			       open_here("new", O_RDWR | O_APPEND), 4,
			       open(dir, O_RDONLY | O_CLOEXEC));
	CHECK(rc == (fails ? -EBADF : 0), "%d", rc);
	jsonl_file_unfreeze(file);
	jsonl_file_free(file);
	close(old);
	close(new);
	failing = 0;
}

int main(void)
{
	int last;

	CHECK(mkdtemp(dir) != NULL);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
	io = jsonl_io_system;
	io.refer = refer;
	for (int fails = 0; fails <= 2; fails++)
		test_switch(fails);
	/* No descriptor is left open. */
	last = open("/dev/null", O_RDONLY);
	CHECK(last == dir_fd + 1, "%d, not %d", last, dir_fd + 1);
	unlinkat(dir_fd, "log", 0);
	unlinkat(dir_fd, "new", 0);
	rmdir(dir);
	return check_done();
}
