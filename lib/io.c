#include "io.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Vectors of what is left after a short write are rebuilt on the stack, this many at a
 * time. */
#define WRITE_BATCH 64

static int system_openat(const struct jsonl_io *io, int dir, const char *name, int flags,
			 mode_t mode)
{
	int fd = openat(dir, name, flags | O_CLOEXEC, mode);

	return fd < 0 ? -errno : fd;
}

static int system_close(const struct jsonl_io *io, int fd)
{
	return close(fd) < 0 ? -errno : 0;
}

static ssize_t system_pread(const struct jsonl_io *io, int fd, void *buf, size_t len,
			    off_t off)
{
	ssize_t n = pread(fd, buf, len, off);

	return n < 0 ? -errno : n;
}

static ssize_t system_writev(const struct jsonl_io *io, int fd, const struct iovec *iov,
			     int n)
{
	ssize_t written = writev(fd, iov, n);

	return written < 0 ? -errno : written;
}

static off_t system_position(const struct jsonl_io *io, int fd)
{
	off_t off = lseek(fd, 0, SEEK_CUR);

	return off < 0 ? -errno : off;
}

static int system_fstat(const struct jsonl_io *io, int fd, struct stat *st)
{
	return fstat(fd, st) < 0 ? -errno : 0;
}

static int system_ftruncate(const struct jsonl_io *io, int fd, off_t len)
{
	return ftruncate(fd, len) < 0 ? -errno : 0;
}

static int system_reserve(const struct jsonl_io *io, int fd, off_t off, off_t len)
{
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, off, len) < 0 ? -errno : 0;
}

static int system_fdatasync(const struct jsonl_io *io, int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int system_fsync(const struct jsonl_io *io, int fd)
{
	return fsync(fd) < 0 ? -errno : 0;
}

static int system_trylock(const struct jsonl_io *io, int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static int system_unlock(const struct jsonl_io *io, int fd)
{
	return flock(fd, LOCK_UN) < 0 ? -errno : 0;
}

static int system_drop_cache(const struct jsonl_io *io, int fd, off_t off, off_t len)
{
	/* This one returns its error and leaves errno alone. */
	return -posix_fadvise(fd, off, len, POSIX_FADV_DONTNEED);
}

static int system_renameat(const struct jsonl_io *io, int odir, const char *oname,
			   int ndir, const char *nname, unsigned flags)
{
	return renameat2(odir, oname, ndir, nname, flags) < 0 ? -errno : 0;
}

static int system_unlinkat(const struct jsonl_io *io, int dir, const char *name)
{
	return unlinkat(dir, name, 0) < 0 ? -errno : 0;
}

static int system_mark(const struct jsonl_io *io, int fd, const void *value, size_t len)
{
	return fsetxattr(fd, JSONL_IO_MARK, value, len, 0) < 0 ? -errno : 0;
}

static ssize_t system_marked(const struct jsonl_io *io, int fd, void *value, size_t size)
{
	ssize_t n = fgetxattr(fd, JSONL_IO_MARK, value, size);

	return n < 0 ? -errno : n;
}

static int system_unmark(const struct jsonl_io *io, int fd)
{
	return fremovexattr(fd, JSONL_IO_MARK) < 0 ? -errno : 0;
}

static int system_refer(const struct jsonl_io *io, int from, int to)
{
	int rc;

	do
		rc = dup3(from, to, O_CLOEXEC);
	while (rc < 0 && (errno == EINTR || errno == EBUSY));
	return rc < 0 ? -errno : 0;
}

const struct jsonl_io jsonl_io_system = {
    .openat = system_openat,
    .close = system_close,
    .pread = system_pread,
    .writev = system_writev,
    .position = system_position,
    .fstat = system_fstat,
    .ftruncate = system_ftruncate,
    .reserve = system_reserve,
    .fdatasync = system_fdatasync,
    .fsync = system_fsync,
    .trylock = system_trylock,
    .unlock = system_unlock,
    .drop_cache = system_drop_cache,
    .renameat = system_renameat,
    .unlinkat = system_unlinkat,
    .mark = system_mark,
    .marked = system_marked,
    .unmark = system_unmark,
    .refer = system_refer,
};

ssize_t jsonl_io_read_full(const struct jsonl_io *io, int fd, void *buf, size_t len,
			   off_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n =
		    io->pread(io, fd, (char *)buf + done, len - done, off + (off_t)done);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Fills batch with what is left of iov after `skip` bytes of its first element. */
static int remaining(struct iovec *batch, const struct iovec *iov, int n, size_t skip)
{
	int count = n < WRITE_BATCH ? n : WRITE_BATCH;

	memcpy(batch, iov, (size_t)count * sizeof(*batch));
	batch[0].iov_base = (char *)batch[0].iov_base + skip;
	batch[0].iov_len -= skip;
	return count;
}

int jsonl_io_write_full(const struct jsonl_io *io, int fd, const struct iovec *iov, int n,
			size_t *written)
{
	struct iovec batch[WRITE_BATCH];
	size_t skip = 0; /* bytes of iov[0] that are out already */

	*written = 0;
	for (;;) {
		ssize_t got;

		while (n > 0 && iov->iov_len == skip) {
			iov++;
			n--;
			skip = 0;
		}
		if (n == 0)
			return 0;
		/* The first call takes the caller's vector as it is: one call, one
		 * append. */
		if (skip == 0)
			got = io->writev(io, fd, iov, n < IOV_MAX ? n : IOV_MAX);
		else
			got = io->writev(io, fd, batch, remaining(batch, iov, n, skip));
		if (got == -EINTR)
			continue;
		if (got < 0)
			return (int)got;
		if (got == 0)
			return -EIO;
		*written += (size_t)got;
		for (skip += (size_t)got; n > 0 && skip >= iov->iov_len; n--)
			skip -= iov++->iov_len;
	}
}
