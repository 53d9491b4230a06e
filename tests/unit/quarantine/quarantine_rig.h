/* SPDX-License-Identifier: MIT */
/* What the tests of the quarantine share: state directories on a real disk, system calls
 * that fail when told to, and what must hold between files, index and count. */
#ifndef TESTS_UNIT_QUARANTINE_RIG_H
#define TESTS_UNIT_QUARANTINE_RIG_H

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "quarantine/quarantine_internal.h"
#include "report/report.h"

#define RIG static __attribute__((unused))
#define MIB (1ULL << 20)

static char top[1024];
static int state_fd = -1;
static unsigned state_number;

/* ---- system calls that fail when told to ---- */

struct faulty {
	struct jsonl_io io;
	int calls;
	int at;		/* the call that fails, from 1; 0: none */
	int code;	/* -errno it fails with, or 0: a write comes back short */
	bool dead;	/* from that call on nothing works any more */
	bool seen_open; /* a file was readable to others than its source's readers */
	mode_t created;
};

static struct faulty faulty;

static int fault(const struct jsonl_io *io)
{
	struct faulty *f = (struct faulty *)io;

	f->calls++;
	if (f->at && (f->calls == f->at || (f->dead && f->calls > f->at)))
		return f->code;
	return 0;
}

RIG int faulty_openat(const struct jsonl_io *io, int d, const char *name, int flags,
		      mode_t mode)
{
	int rc = fault(io);

	if (flags & O_CREAT)
		faulty.created |= mode;
	return rc ? rc : jsonl_io_system.openat(io, d, name, flags, mode);
}

RIG int faulty_close(const struct jsonl_io *io, int fd)
{
	int rc = fault(io);

	(void)jsonl_io_system.close(io, fd);
	return rc;
}

RIG ssize_t faulty_writev(const struct jsonl_io *io, int fd, const struct iovec *iov,
			  int n)
{
	struct iovec half = iov[0];
	struct stat st;
	int rc = fault(io);

	/* A file that takes a source's mode has it before it has a byte. */
	if (fstat(fd, &st) == 0 && st.st_size == 0 && (st.st_mode & 077))
		faulty.seen_open = true;
	/* Half of it gets out: a short write, or the process ends in the middle of it. */
	if (faulty.at && faulty.calls == faulty.at && (!rc || faulty.dead) &&
	    iov[0].iov_len > 1) {
		ssize_t got;

		half.iov_len /= 2;
		got = jsonl_io_system.writev(io, fd, &half, 1);
		return rc ? rc : got;
	}
	return rc ? rc : jsonl_io_system.writev(io, fd, iov, n);
}

RIG int faulty_fstat(const struct jsonl_io *io, int fd, struct stat *st)
{
	int rc = fault(io);

	return rc ? rc : jsonl_io_system.fstat(io, fd, st);
}

RIG ssize_t faulty_pread(const struct jsonl_io *io, int fd, void *buf, size_t len,
			 off_t off)
{
	int rc = fault(io);

	return rc ? rc : jsonl_io_system.pread(io, fd, buf, len, off);
}

RIG int faulty_ftruncate(const struct jsonl_io *io, int fd, off_t len)
{
	int rc = fault(io);

	return rc ? rc : jsonl_io_system.ftruncate(io, fd, len);
}

RIG int faulty_fdatasync(const struct jsonl_io *io, int fd)
{
	int rc = fault(io);

	return rc ? rc : jsonl_io_system.fdatasync(io, fd);
}

RIG int faulty_fsync(const struct jsonl_io *io, int fd)
{
	int rc = fault(io);

	return rc ? rc : jsonl_io_system.fsync(io, fd);
}

RIG int faulty_unlinkat(const struct jsonl_io *io, int d, const char *name)
{
	int rc = fault(io);

	return rc ? rc : jsonl_io_system.unlinkat(io, d, name);
}

RIG int faulty_renameat(const struct jsonl_io *io, int odir, const char *oname, int ndir,
			const char *nname, unsigned flags)
{
	int rc = fault(io);

	return rc ? rc
		  : jsonl_io_system.renameat(io, odir, oname, ndir, nname, flags);
}

RIG int faulty_trylock(const struct jsonl_io *io, int fd)
{
	int rc = fault(io);

	return rc ? rc : jsonl_io_system.trylock(io, fd);
}

RIG void faulty_reset(int at, int code, bool dead)
{
	faulty =
	    (struct faulty){.io = jsonl_io_system, .at = at, .code = code, .dead = dead};
	faulty.io.openat = faulty_openat;
	faulty.io.close = faulty_close;
	faulty.io.writev = faulty_writev;
	faulty.io.pread = faulty_pread;
	faulty.io.fstat = faulty_fstat;
	faulty.io.ftruncate = faulty_ftruncate;
	faulty.io.fdatasync = faulty_fdatasync;
	faulty.io.fsync = faulty_fsync;
	faulty.io.unlinkat = faulty_unlinkat;
	faulty.io.renameat = faulty_renameat;
	faulty.io.trylock = faulty_trylock;
}

/* ---- helpers ---- */

/* A new, empty state directory. */
RIG void new_state(void)
{
	char path[PATH_MAX];

	if (state_fd >= 0)
		close(state_fd);
	snprintf(path, sizeof(path), "%s/%u", top, state_number++);
	CHECK(mkdir(path, 0755) == 0);
	state_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(state_fd >= 0);
}

RIG struct jsonl_quarantine *start(uint64_t max)
{
	struct jsonl_quarantine *q = NULL;

	CHECK(jsonl_quarantine_new(&faulty.io, state_fd, max, &q) == 0);
	if (!q)
		exit(check_done());
	return q;
}

RIG int put(struct jsonl_quarantine *q, const char *path, const char *bytes, size_t len,
	    uid_t uid, char *name)
{
	struct iovec iov = {.iov_base = (char *)bytes, .iov_len = len};
	struct jsonl_quarantine_item item = {
	    .iov = &iov,
	    .niov = 1,
	    .event = "refused",
	    .code = JSONL_UNEXPECTED,
	    .path = path,
	    .uid = uid,
	    .source_fd = -1,
	};

	return jsonl_quarantine_put(q, &item, name);
}

RIG int put_text(struct jsonl_quarantine *q, const char *path, const char *text,
		 char *name)
{
	return put(q, path, text, strlen(text), 0, name);
}

/* The content of quarantine/NAME (or of the index, name NULL); static, NUL behind it. */
RIG char *content(const char *name)
{
	static char buf[1 << 20];
	char path[PATH_MAX];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s%s", name ? "quarantine/" : "quarantine.jsonl",
		 name ? name : "");
	fd = openat(state_fd, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
	if (fd >= 0)
		close(fd);
	buf[n < 0 ? 0 : n] = '\0';
	return n < 0 ? NULL : buf;
}

RIG struct stat stat_of(const char *name)
{
	struct stat st = {0};
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "quarantine/%s", name);
	CHECK(fstatat(state_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0);
	return st;
}

RIG unsigned count_files(void)
{
	int fd = openat(state_fd, "quarantine", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

/* Walks over the index: every line that is whole JSON names a file that is there. The
 * number of such lines; *other: of lines that are not JSON. */
RIG unsigned check_index(unsigned *other)
{
	unsigned lines = 0;
	char *text = content(NULL), *line;

	*other = 0;
	for (line = text ? strtok(text, "\n") : NULL; line; line = strtok(NULL, "\n")) {
		struct jsonl_report *r = jsonl_report_parse(line);
		const char *file = jsonl_report_get_string(r, "file");
		char path[PATH_MAX];

		if (!r) {
			++*other;
			continue;
		}
		snprintf(path, sizeof(path), "quarantine/%s", file ? file : "(none)");
		CHECK(faccessat(state_fd, path, F_OK, 0) == 0, "%s", line);
		lines++;
		jsonl_report_free(r);
	}
	return lines;
}

/* What is counted is what a new start would count. */
RIG void check_usage(struct jsonl_quarantine *q)
{
	uint64_t bytes, entries, bytes2, entries2;
	struct jsonl_quarantine *fresh = NULL;

	jsonl_quarantine_usage(q, &bytes, &entries);
	CHECK(jsonl_quarantine_new(&jsonl_io_system, state_fd, 1 << 30, &fresh) == 0);
	jsonl_quarantine_usage(fresh, &bytes2, &entries2);
	CHECK(bytes == bytes2 && entries == entries2,
	      "%llu in %llu, on disk %llu in %llu", (unsigned long long)bytes,
	      (unsigned long long)entries, (unsigned long long)bytes2,
	      (unsigned long long)entries2);
	jsonl_quarantine_free(fresh);
}

static void remove_tree(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *e;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    unlinkat(fd, e->d_name, 0) < 0)
			remove_tree(fd, e->d_name);
	if (d)
		closedir(d);
	unlinkat(at, name, AT_REMOVEDIR);
}

/* Before the first test; false: there is no place for it. */
RIG bool rig_begin(const char *name)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(top, sizeof(top), "%s/%s.XXXXXX", tmp ? tmp : "/tmp", name);
	umask(022);
	faulty_reset(0, 0, false);
	return CHECK(mkdtemp(top));
}

RIG int rig_end(void)
{
	close(state_fd);
	remove_tree(AT_FDCWD, top);
	return check_done();
}

#endif
