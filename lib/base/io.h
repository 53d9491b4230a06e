/* SPDX-License-Identifier: MIT */
/* Hands in the system calls that touch files, as a struct: the crash tests cut, fail or
 * shorten each of them without root and without a mount. A member behaves as the call
 * that it is named after (man pages, section 2), but returns -errno instead of setting
 * errno. Its first argument is the struct itself, which a test embeds in a larger one.
 * jsonl_io_system has no state; any thread. */
#ifndef JSONL_IO_H
#define JSONL_IO_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/error.h"

#define JSONL_IO_MARK "user.jsonlfs.intent"

struct jsonl_io {
	int (*openat)(const struct jsonl_io *io, int dir, const char *name, int flags,
		      mode_t mode);
	int (*close)(const struct jsonl_io *io, int fd);
	ssize_t (*pread)(const struct jsonl_io *io, int fd, void *buf, size_t len,
			 off_t off);
	/* writev(2) on a descriptor with O_APPEND: nothing is written without it, but by
	 * `append`. */
	ssize_t (*writev)(const struct jsonl_io *io, int fd, const struct iovec *iov,
			  int n);
	/* pwritev2(2) with RWF_APPEND, for descriptors without O_APPEND. */
	ssize_t (*append)(const struct jsonl_io *io, int fd, const struct iovec *iov,
			  int n);
	/* lseek(fd, 0, SEEK_CUR): where the last writev of this descriptor ended. */
	off_t (*position)(const struct jsonl_io *io, int fd);
	int (*fstat)(const struct jsonl_io *io, int fd, struct stat *st);
	int (*ftruncate)(const struct jsonl_io *io, int fd, off_t len);
	/* fallocate(2) with FALLOC_FL_KEEP_SIZE. */
	int (*reserve)(const struct jsonl_io *io, int fd, off_t off, off_t len);
	int (*fdatasync)(const struct jsonl_io *io, int fd);
	int (*fsync)(const struct jsonl_io *io, int fd);
	/* flock(2) with LOCK_NB: -EWOULDBLOCK when somebody else holds the lock. */
	int (*trylock)(const struct jsonl_io *io, int fd);
	int (*unlock)(const struct jsonl_io *io, int fd);
	/* posix_fadvise(2) with POSIX_FADV_DONTNEED: the next read asks the disk. */
	int (*drop_cache)(const struct jsonl_io *io, int fd, off_t off, off_t len);
	int (*renameat)(const struct jsonl_io *io, int odir, const char *oname, int ndir,
			const char *nname, unsigned flags);
	int (*unlinkat)(const struct jsonl_io *io, int dir, const char *name);
	/* fsetxattr(2), fgetxattr(2) and fremovexattr(2) of JSONL_IO_MARK. */
	int (*mark)(const struct jsonl_io *io, int fd, const void *value, size_t len);
	ssize_t (*marked)(const struct jsonl_io *io, int fd, void *value, size_t size);
	int (*unmark)(const struct jsonl_io *io, int fd);
	/* dup3(2): `to`, which is open, becomes a duplicate of `from`. A call that is
	 * under way on `to` ends on the old file. */
	int (*refer)(const struct jsonl_io *io, int from, int to);
};

extern const struct jsonl_io jsonl_io_system;
/* Bytes that FUSE sends in one request, wherever in a page they begin: 32 pages. */
#define JSONL_IO_REQUEST ((size_t)31 * 4096)
/* The calls for file systems of several hosts: fstat asks the server, position, which
 * would answer from this host's memory, is an error, and writev ends a longer write
 * short, behind the last line that fits one request: of what a host sends that was cut
 * off half may get to the servers. */
extern const struct jsonl_io jsonl_io_remote;

/* Returns true when the name stands for the open file, also by what the servers of the
 * file system say: another host may have replaced the file. `flags`: 0 or
 * AT_SYMLINK_NOFOLLOW. */
bool jsonl_io_is_named(int fd, int dir_fd, const char *name, int flags);

/* Returns true for a file on a file system that another host may have mounted, too: there
 * a host may see an old size, and old bytes. */
bool jsonl_io_is_remote(int fd);

/* Makes a client release what it keeps of a file, by a close(2). A GlusterFS client keeps
 * the servers' own lock of a file for a second after a write or sync, for the next one,
 * and another host that writes or syncs waits. After a sync. */
void jsonl_io_let_go(int fd);

/* Has reads of a descriptor answered by the servers, in the size that is asked for, on a
 * FUSE file system. A client that keeps pages may show what was there before; and
 * ceph-fuse (16.2), which is always asked for whole pages, answers a read that meets an
 * append of another host with bytes of the wrong place. Nothing changes on other
 * file systems, and on those that want whole blocks. */
void jsonl_io_direct(int fd);

/* Reads `len` bytes, fewer only if the file ends before. Returns the count or -errno. */
ssize_t jsonl_io_read_full(const struct jsonl_io *io, int fd, void *buf, size_t len,
			   off_t off) jsonl_must_check;
/* Writes all vectors, and continues after a short write. 0 or -errno; *written: bytes
 * that were written, also after a failure. */
int jsonl_io_write_full(const struct jsonl_io *io, int fd, const struct iovec *iov, int n,
			size_t *written) jsonl_must_check;
/* Compares data[0..len) with the file at `off`: 1 the same, 0 not, or the file ends
 * before; -errno. */
int jsonl_io_equals(const struct jsonl_io *io, int fd, const void *data, size_t len,
		    off_t off) jsonl_must_check;

#endif
