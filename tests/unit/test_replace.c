/* SPDX-License-Identifier: MIT */
/* Replacing a whole file: every system call fails once, or is the last one of the
 * process, before or after it was done. The name must stand for the old content or for
 * the new one, whole, and for nothing else. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "file/replace.h"

#define OLD_TEXT "{\"old\":1}\n{\"old\":2}\n"
#define NEW_SIZE 100000
#define MAX_CALL 60

enum fault { FAILS, SHORT, ENDS_BEFORE, ENDS_AFTER, FAULTS };

struct faulty {
	struct jsonl_io io;
	int calls, at;
	enum fault fault;
	bool done; /* it happened */
};

static struct faulty faulty;
static char new_text[NEW_SIZE];
static int dir_fd = -1;

/* ---- system calls ---- */

/* What becomes of this call: 0 do it, 1 do it and nothing after it, else -errno. */
static int fault(const struct jsonl_io *io)
{
	struct faulty *f = (struct faulty *)io;

	f->calls++;
	if (!f->at || f->calls < f->at)
		return 0;
	if (f->calls > f->at)
		return f->fault == ENDS_BEFORE || f->fault == ENDS_AFTER ? -EIO : 0;
	f->done = true;
	return f->fault == ENDS_AFTER ? 1 : f->fault == SHORT ? 0 : -EIO;
}

static int faulty_openat(const struct jsonl_io *io, int d, const char *name, int flags,
			 mode_t mode)
{
	int rc = fault(io);

	return rc < 0 ? rc : jsonl_io_system.openat(io, d, name, flags, mode);
}

static int faulty_close(const struct jsonl_io *io, int fd)
{
	int rc = fault(io);

	(void)jsonl_io_system.close(io, fd);
	return rc < 0 ? rc : 0;
}

static ssize_t faulty_writev(const struct jsonl_io *io, int fd, const struct iovec *iov,
			     int n)
{
	struct iovec half = iov[0];
	int rc = fault(io);

	/* What fails, or ends, has written some of it all the same. */
	if (faulty.at && faulty.calls == faulty.at && faulty.fault != ENDS_AFTER) {
		half.iov_len = half.iov_len / 2 + 1;
		half.iov_len =
		    half.iov_len > iov[0].iov_len ? iov[0].iov_len : half.iov_len;
		if (rc < 0) {
			(void)!jsonl_io_system.writev(io, fd, &half, 1);
			return rc;
		}
		return jsonl_io_system.writev(io, fd, &half, 1);
	}
	return rc < 0 ? rc : jsonl_io_system.writev(io, fd, iov, n);
}

static int faulty_fstat(const struct jsonl_io *io, int fd, struct stat *st)
{
	int rc = fault(io);

	return rc < 0 ? rc : jsonl_io_system.fstat(io, fd, st);
}

static int faulty_fsync(const struct jsonl_io *io, int fd)
{
	int rc = fault(io);

	return rc < 0 ? rc : jsonl_io_system.fsync(io, fd);
}

static int faulty_renameat(const struct jsonl_io *io, int od, const char *on, int nd,
			   const char *nn, unsigned flags)
{
	int rc = fault(io);

	return rc < 0 ? rc : jsonl_io_system.renameat(io, od, on, nd, nn, flags);
}

static int faulty_unlinkat(const struct jsonl_io *io, int d, const char *name)
{
	int rc = fault(io);

	return rc < 0 ? rc : jsonl_io_system.unlinkat(io, d, name);
}

static void arm(int at, enum fault what)
{
	faulty = (struct faulty){.at = at, .fault = what};
	faulty.io = (struct jsonl_io){
	    .openat = faulty_openat,
	    .close = faulty_close,
	    .writev = faulty_writev,
	    .fstat = faulty_fstat,
	    .fsync = faulty_fsync,
	    .renameat = faulty_renameat,
	    .unlinkat = faulty_unlinkat,
	};
}

/* ---- the directory ---- */

static void put(const char *name, const char *text, size_t len)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && write(fd, text, len) == (ssize_t)len);
	(void)close(fd);
}

static bool holds(const char *name, const char *text, size_t len)
{
	static char buf[NEW_SIZE + 1];
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf));

	if (fd >= 0)
		(void)close(fd);
	return n == (ssize_t)len && memcmp(buf, text, len) == 0;
}

/* Names that are there, and removes all. */
static unsigned sweep(void)
{
	DIR *dir = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	unsigned n = 0;
	struct dirent *e;

	/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (dir && (e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		n++;
		(void)unlinkat(dir_fd, e->d_name, 0);
	}
	closedir(dir);
	return n;
}

/* ---- tests ---- */

/* As a program does it: in pieces, and it gives up at the first failure. */
static int replace(const struct jsonl_io *io, const char *name, int old_fd,
		   unsigned flags, bool *renamed)
{
	struct jsonl_replace r;
	int rc = jsonl_replace_begin(&r, io, dir_fd, name, old_fd);

	*renamed = false;
	if (rc < 0)
		return rc;
	for (size_t at = 0; at < NEW_SIZE && rc == 0; at += NEW_SIZE / 4)
		rc = jsonl_replace_write(&r, new_text + at, NEW_SIZE / 4);
	if (rc < 0)
		jsonl_replace_abort(&r);
	else
		rc = jsonl_replace_commit(&r, flags);
	*renamed = r.renamed;
	jsonl_replace_abort(&r);
	return rc;
}

/* True when the fault came. */
static bool try_fault(int at, enum fault what)
{
	bool renamed, old, new;
	int rc, fd;
	unsigned names;

	put("x.jsonl", OLD_TEXT, strlen(OLD_TEXT));
	fd = openat(dir_fd, "x.jsonl", O_RDONLY | O_CLOEXEC);
	arm(at, what);
	rc = replace(&faulty.io, "x.jsonl", fd, 0, &renamed);
	(void)close(fd);
	old = holds("x.jsonl", OLD_TEXT, strlen(OLD_TEXT));
	new = holds("x.jsonl", new_text, NEW_SIZE);
	CHECK(old != new, "call %d, fault %d: neither old nor new", at, what);
	CHECK(rc <= 0);
	if (rc == 0)
		CHECK(new, "call %d, fault %d: said to be done", at, what);
	if (renamed)
		CHECK(new, "call %d, fault %d: said to be renamed", at, what);
	else if (what == FAILS || what == SHORT)
		CHECK(old, "call %d, fault %d: said not to be renamed", at, what);
	/* Who fails tidies up (only the tidying itself may fail); who ends cannot. */
	names = sweep();
	if (what == FAILS || what == SHORT)
		CHECK(names == 1, "call %d: %u names", at, names);
	else
		CHECK(names <= 2, "call %d: %u names", at, names);
	return faulty.done;
}

static void test_every_call(void)
{
	for (int what = FAILS; what < FAULTS; what++) {
		int at = 1;

		while (at < MAX_CALL && try_fault(at, (enum fault)what))
			at++;
		/* open, 4 writes, 2 fstat, fsync, close, rename, fsync */
		CHECK(at > 11 && at < MAX_CALL, "fault %d: %d calls", what, at);
	}
}

static void test_what_is_taken_over(void)
{
	const struct timespec times[2] = {{.tv_sec = 1000, .tv_nsec = 1},
					  {.tv_sec = 2000, .tv_nsec = 2}};
	struct stat before, after;
	bool renamed, xattrs;
	char value[8];
	int fd;

	put("x.jsonl", OLD_TEXT, strlen(OLD_TEXT));
	fd = openat(dir_fd, "x.jsonl", O_RDONLY | O_CLOEXEC);
	CHECK(fchmod(fd, 0644) == 0);
	if (geteuid() == 0)
		CHECK(fchown(fd, 65534, 65533) == 0);
	xattrs = fsetxattr(fd, "user.key", "value", 5, 0) == 0;
	CHECK(futimens(fd, times) == 0 && fstat(fd, &before) == 0);
	CHECK(replace(&jsonl_io_system, "x.jsonl", fd, 0, &renamed) == 0 && renamed);
	(void)close(fd);
	fd = openat(dir_fd, "x.jsonl", O_RDONLY | O_CLOEXEC);
	CHECK(fstat(fd, &after) == 0 && after.st_ino != before.st_ino);
	CHECK(after.st_mode == before.st_mode && after.st_uid == before.st_uid &&
	      after.st_gid == before.st_gid);
	CHECK(after.st_mtim.tv_sec == 2000 && after.st_mtim.tv_nsec == 2);
	CHECK(after.st_atim.tv_sec == 1000 && after.st_atim.tv_nsec == 1);
	if (xattrs)
		CHECK(fgetxattr(fd, "user.key", value, sizeof(value)) == 5 &&
		      memcmp(value, "value", 5) == 0);
	(void)close(fd);
	CHECK(sweep() == 1);
}

static void test_nothing_is_replaced_unasked(void)
{
	bool renamed;
	int fd;

	put("x.jsonl", OLD_TEXT, strlen(OLD_TEXT));
	fd = openat(dir_fd, "x.jsonl", O_RDONLY | O_CLOEXEC);
	CHECK(replace(&jsonl_io_system, "x.jsonl", fd, RENAME_NOREPLACE, &renamed) ==
	      -EEXIST);
	CHECK(!renamed && holds("x.jsonl", OLD_TEXT, strlen(OLD_TEXT)));
	CHECK(replace(&jsonl_io_system, "y.jsonl", fd, RENAME_NOREPLACE, &renamed) == 0);
	CHECK(renamed && holds("y.jsonl", new_text, NEW_SIZE));
	(void)close(fd);
	CHECK(sweep() == 2);
}

/* What crashes have left behind is in nobody's way. */
static void test_leftovers(void)
{
	bool renamed;
	int fd;

	put("x.jsonl", OLD_TEXT, strlen(OLD_TEXT));
	put(".x.jsonl.jsonl-new-0", "half", 4);
	put(".x.jsonl.jsonl-new-1", "half", 4);
	fd = openat(dir_fd, "x.jsonl", O_RDONLY | O_CLOEXEC);
	CHECK(replace(&jsonl_io_system, "x.jsonl", fd, 0, &renamed) == 0);
	CHECK(holds("x.jsonl", new_text, NEW_SIZE));
	(void)close(fd);
	CHECK(sweep() == 3);
}

static void test_long_names(void)
{
	char name[NAME_MAX + 2];
	bool renamed;
	int fd;

	memset(name, 'x', sizeof(name));
	name[NAME_MAX + 1] = '\0';
	put("old", OLD_TEXT, strlen(OLD_TEXT));
	fd = openat(dir_fd, "old", O_RDONLY | O_CLOEXEC);
	CHECK(replace(&jsonl_io_system, name, fd, 0, &renamed) == -ENAMETOOLONG);
	name[NAME_MAX] = '\0';
	CHECK(replace(&jsonl_io_system, name, fd, 0, &renamed) == 0);
	CHECK(holds(name, new_text, NEW_SIZE));
	(void)close(fd);
	CHECK(sweep() == 2);
}

int main(void)
{
	char path[] = "test-replace-XXXXXX";

	for (size_t i = 0; i < NEW_SIZE; i++)
		new_text[i] = (char)(i % 20 == 19 ? '\n' : '0' + i % 10);
	if (!CHECK(mkdtemp(path) != NULL))
		return check_done();
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	test_every_call();
	test_what_is_taken_over();
	test_nothing_is_replaced_unasked();
	test_leftovers();
	test_long_names();
	(void)close(dir_fd);
	CHECK(rmdir(path) == 0);
	return check_done();
}
