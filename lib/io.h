/* The system calls that touch files, handed in as a struct, so that the crash tests can
 * cut, fail or shorten each one without root and without a mount. Each member behaves as
 * the call it is named after (man pages, section 2) but returns -errno instead of setting
 * errno. The first argument is the struct itself: a test embeds it in a larger one.
 * jsonl_io_system is stateless and may be used by any thread. */
#ifndef JSONL_IO_H
#define JSONL_IO_H

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "error.h"

#define JSONL_IO_MARK "user.jsonlfs.intent"

struct jsonl_io {
	int (*openat)(const struct jsonl_io *io, int dir, const char *name, int flags,
		      mode_t mode);
	int (*close)(const struct jsonl_io *io, int fd);
	ssize_t (*pread)(const struct jsonl_io *io, int fd, void *buf, size_t len,
			 off_t off);
	/* Appends: every descriptor that is written through here is O_APPEND. */
	ssize_t (*writev)(const struct jsonl_io *io, int fd, const struct iovec *iov,
			  int n);
	/* Position after the last writev of this descriptor: lseek(fd, 0, SEEK_CUR). */
	off_t (*position)(const struct jsonl_io *io, int fd);
	int (*fstat)(const struct jsonl_io *io, int fd, struct stat *st);
	int (*ftruncate)(const struct jsonl_io *io, int fd, off_t len);
	/* fallocate(2) with FALLOC_FL_KEEP_SIZE. */
	int (*reserve)(const struct jsonl_io *io, int fd, off_t off, off_t len);
	int (*fdatasync)(const struct jsonl_io *io, int fd);
	int (*fsync)(const struct jsonl_io *io, int fd);
	/* flock(2), always non-blocking: -EWOULDBLOCK when somebody else holds it. */
	int (*trylock)(const struct jsonl_io *io, int fd);
	int (*unlock)(const struct jsonl_io *io, int fd);
	/* posix_fadvise(2) POSIX_FADV_DONTNEED: what is read next comes from the disk. */
	int (*drop_cache)(const struct jsonl_io *io, int fd, off_t off, off_t len);
	int (*renameat)(const struct jsonl_io *io, int odir, const char *oname, int ndir,
			const char *nname, unsigned flags);
	int (*unlinkat)(const struct jsonl_io *io, int dir, const char *name);
	/* One extended attribute of the file, JSONL_IO_MARK: fsetxattr(2), fgetxattr(2)
	 * and fremovexattr(2). */
	int (*mark)(const struct jsonl_io *io, int fd, const void *value, size_t len);
	ssize_t (*marked)(const struct jsonl_io *io, int fd, void *value, size_t size);
	int (*unmark)(const struct jsonl_io *io, int fd);
	/* dup3(2): `to`, which is open, refers to what `from` does from now on. Who is in
	 * the middle of a call on it ends that call on the old file. */
	int (*refer)(const struct jsonl_io *io, int from, int to);
};

extern const struct jsonl_io jsonl_io_system;

/* Reads exactly len bytes unless the file ends before; returns the count or -errno. */
ssize_t jsonl_io_read_full(const struct jsonl_io *io, int fd, void *buf, size_t len,
			   off_t off) jsonl_must_check;
/* Writes everything, going on after short writes; *written says how much got out, also
 * on failure. */
int jsonl_io_write_full(const struct jsonl_io *io, int fd, const struct iovec *iov, int n,
			size_t *written) jsonl_must_check;

#endif
