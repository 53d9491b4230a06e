/* SPDX-License-Identifier: MIT */
#include "base/io.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/waits.h"

/* Vectors that are rebuilt on the stack after a short write, at a time. */
#define WRITE_BATCH 64
#define COMPARE_BATCH 16384 /* bytes read at once, on the stack */

static int system_openat(const struct jsonl_io *io, int dir, const char *name, int flags,
			 mode_t mode)
{
	/* O_NONBLOCK because a lease on the file, or a fifo's other end, could make this
	 * wait. */
	int fd = openat(dir, name, flags | O_CLOEXEC | O_NONBLOCK, mode);

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

static ssize_t system_append(const struct jsonl_io *io, int fd, const struct iovec *iov,
			     int n)
{
	ssize_t written = pwritev2(fd, iov, n, 0, RWF_APPEND);

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
	jsonl_waits();
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int system_fsync(const struct jsonl_io *io, int fd)
{
	jsonl_waits();
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

/* The calls that are the same on file systems of one host and of several. */
#define SYSTEM_CALLS                                                                     \
	.openat = system_openat, .close = system_close, .pread = system_pread,           \
	.append = system_append, .ftruncate = system_ftruncate,                          \
	.reserve = system_reserve, .fdatasync = system_fdatasync, .fsync = system_fsync, \
	.trylock = system_trylock, .drop_cache = system_drop_cache,                      \
	.renameat = system_renameat, .unlinkat = system_unlinkat, .mark = system_mark,   \
	.marked = system_marked, .unmark = system_unmark, .refer = system_refer

const struct jsonl_io jsonl_io_system = {
    SYSTEM_CALLS,
    .writev = system_writev,
    .position = system_position,
    .fstat = system_fstat,
    .unlock = system_unlock,
};

/* ---- file systems of several hosts ---- */

/* Returns how many of the first `most` bytes are whole lines. */
static size_t whole_lines(const struct iovec *iov, int n, size_t most)
{
	size_t at = 0, lines = 0;

	for (int i = 0; i < n && at < most; at += iov[i++].iov_len) {
		const char *p = iov[i].iov_base;
		size_t len = iov[i].iov_len < most - at ? iov[i].iov_len : most - at;
		const char *end = len ? memrchr(p, '\n', len) : NULL;

		if (end)
			lines = at + (size_t)(end - p) + 1;
	}
	return lines;
}

static ssize_t remote_writev(const struct jsonl_io *io, int fd, const struct iovec *iov,
			     int n)
{
	struct iovec piece[WRITE_BATCH];
	size_t left = 0;
	int count = 0;

	if (jsonl_iov_length(iov, n) > JSONL_IO_REQUEST)
		left = whole_lines(iov, n < WRITE_BATCH ? n : WRITE_BATCH, JSONL_IO_REQUEST);
	if (!left) /* all of it fits, or its first line does not: it goes as it is */
		return system_writev(io, fd, iov, n);
	for (; left; left -= piece[count++].iov_len) {
		piece[count] = iov[count];
		if (piece[count].iov_len > left)
			piece[count].iov_len = left;
	}
	return system_writev(io, fd, piece, count);
}

static off_t remote_position(const struct jsonl_io *io, int fd)
{
	(void)io;
	(void)fd;
	return -ESPIPE;
}

static int remote_fstat(const struct jsonl_io *io, int fd, struct stat *st)
{
	struct statx sx;
	int rc = fstat(fd, st) < 0 ? -errno : 0; /* fields that statx does not have */

	(void)io;
	if (rc)
		return rc;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &sx) < 0)
		return -errno;
	st->st_size = (off_t)sx.stx_size;
	st->st_nlink = sx.stx_nlink;
	st->st_ino = sx.stx_ino;
	st->st_mode = sx.stx_mode;
	st->st_uid = sx.stx_uid;
	st->st_gid = sx.stx_gid;
	st->st_blocks = (blkcnt_t)sx.stx_blocks;
	st->st_mtim = (struct timespec){sx.stx_mtime.tv_sec, sx.stx_mtime.tv_nsec};
	st->st_ctim = (struct timespec){sx.stx_ctime.tv_sec, sx.stx_ctime.tv_nsec};
	return 0;
}

void jsonl_io_let_go(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	/* Everything was synced before, so an error of this means nothing. */
	if (copy >= 0)
		(void)close(copy);
}

/* The client lets go after the unlock, since it may answer a sync before it has noted
 * for how long it keeps the lock. */
static int remote_unlock(const struct jsonl_io *io, int fd)
{
	int rc = system_unlock(io, fd);

	jsonl_io_let_go(fd);
	return rc;
}

const struct jsonl_io jsonl_io_remote = {
    SYSTEM_CALLS,
    .writev = remote_writev,
    .position = remote_position,
    .fstat = remote_fstat,
    .unlock = remote_unlock,
};

bool jsonl_io_is_named(int fd, int dir_fd, const char *name, int flags)
{
	struct statx st, named;

	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_INO, &st) == 0 &&
	       statx(dir_fd, name, flags | AT_STATX_FORCE_SYNC, STATX_INO, &named) == 0 &&
	       st.stx_ino == named.stx_ino && st.stx_dev_major == named.stx_dev_major &&
	       st.stx_dev_minor == named.stx_dev_minor;
}

bool jsonl_io_is_remote(int fd)
{
	/* Not all are in linux/magic.h. */
	static const unsigned long types[] = {
	    FUSE_SUPER_MAGIC,	   NFS_SUPER_MAGIC,	  OCFS2_SUPER_MAGIC,
	    0x00c36400 /* ceph */, 0xfe534d42 /* smb2 */, 0xff534d42 /* cifs */,
	    0x01161970 /* gfs2 */, V9FS_MAGIC};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	for (size_t n = 0; n < sizeof(types) / sizeof(types[0]); n++)
		if ((unsigned long)fs.f_type == types[n])
			return true;
	return false;
}

void jsonl_io_direct(int fd)
{
	struct statfs fs;
	char byte;
	int flags;

	if (fstatfs(fd, &fs) < 0 || fs.f_type != FUSE_SUPER_MAGIC)
		return;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_DIRECT) < 0)
		return;
	/* One that passes the flag on may want whole blocks. */
	if (pread(fd, &byte, 1, 0) < 0 && errno == EINVAL)
		(void)fcntl(fd, F_SETFL, flags);
}

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

/* Copies vectors to `batch`, but for the first `skip` bytes of the first. Returns how
 * many. */
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
	size_t skip = 0; /* bytes of iov[0] that are written already */

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
		/* The caller's vectors are written by one call, which is one append. */
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

int jsonl_io_equals(const struct jsonl_io *io, int fd, const void *data, size_t len,
		    off_t off)
{
	char buf[COMPARE_BATCH];

	for (size_t done = 0; done < len;) {
		size_t n = len - done < sizeof(buf) ? len - done : sizeof(buf);
		ssize_t got = jsonl_io_read_full(io, fd, buf, n, off + (off_t)done);

		if (got < 0)
			return (int)got;
		if ((size_t)got < n || memcmp(buf, (const char *)data + done, n) != 0)
			return 0;
		done += n;
	}
	return 1;
}
