/* SPDX-License-Identifier: MIT */
/* A daemon that breaks a promise, so that the rigs on real mounts can be seen to notice:
 * preloaded (LD_PRELOAD) it stands before the system calls of log files. JSONLFS_BROKEN
 * says which promise:
 *
 *   drop     each EACH-th append says that it is done and does nothing
 *   torn     each EACH-th append does its first half and says that it is done
 *   twice    each EACH-th append is done two times
 *   swap     each EACH-th append is put off until after the next one
 *   no-undo  nothing is reserved, and cutting back does nothing and says that it did
 *   no-lock  the lock is always free
 *   no-sync  syncs do nothing
 *   early    a sync is answered before it has been done: 30 ms before
 *   believe  a sync that failed is tried again and believed
 *   no-mark  the intent of a block says that it is there, and is not
 *   unsaved  what is set aside is not kept
 *
 * and what breaks nothing as long as one daemon alone has the directory (tests/hosts):
 *
 *   stale-name   the name of a log leads to the file that it led to at the first look
 *   cached-size  the size of a file is what this host remembers: the servers are not asked
 *
 * Test code alone; nothing of it is in the daemon. */
/* Both names of a call are to be had, and the headers are not to make one of them. */
#undef _FILE_OFFSET_BITS

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define EACH	 50
#define EARLY_US 30000
#define BYTES	 (4 << 20)

#define EXPORT __attribute__((visibility("default")))

static bool breaks(const char *what)
{
	const char *asked = getenv("JSONLFS_BROKEN");

	return asked && !strcmp(asked, what);
}

static bool path_of(int fd, char *path, size_t size)
{
	char name[64];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	n = readlink(name, path, size - 1);
	path[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static bool is_log(int fd)
{
	char path[4096];
	size_t n;

	if (!path_of(fd, path, sizeof(path)) || strstr(path, "/.jsonlfs/"))
		return false;
	n = strlen(path);
	return n > 6 && !strcmp(path + n - 6, ".jsonl");
}

static bool is_set_aside(int fd)
{
	char path[4096];

	return path_of(fd, path, sizeof(path)) && strstr(path, "/.jsonlfs/quarantine/");
}

static long plain(long rc)
{
	return rc; /* syscall(2) has set errno */
}

/* ---- appending ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char later[BYTES];
static size_t nlater;
static int later_fd;
static unsigned appends;

static ssize_t total(const struct iovec *iov, int n)
{
	ssize_t len = 0;

	for (int i = 0; i < n; i++)
		len += (ssize_t)iov[i].iov_len;
	return len;
}

static ssize_t gather(const struct iovec *iov, int n, char *to)
{
	ssize_t len = 0;

	for (int i = 0; i < n; i++) {
		memcpy(to + len, iov[i].iov_base, iov[i].iov_len);
		len += (ssize_t)iov[i].iov_len;
	}
	return len;
}

static ssize_t broken_append(int fd, const struct iovec *iov, int n)
{
	ssize_t len = total(iov, n), rc;
	bool now;

	pthread_mutex_lock(&lock);
	now = ++appends % EACH == 0 && len < BYTES;
	if (now && breaks("drop")) {
		rc = len;
	} else if (now && breaks("torn")) {
		gather(iov, n, later);
		rc = write(fd, later, (size_t)len / 2) < 0 ? -1 : len;
	} else if (now && breaks("swap")) {
		nlater = (size_t)gather(iov, n, later);
		later_fd = fd;
		rc = len;
	} else {
		rc = plain(syscall(SYS_writev, fd, iov, n));
		if (now && breaks("twice"))
			(void)!syscall(SYS_writev, fd, iov, n);
		if (nlater && fd == later_fd && write(fd, later, nlater) >= 0)
			nlater = 0;
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

static _Atomic bool wrote; /* since the last sync */

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
	if (breaks("unsaved") && is_set_aside(fd))
		return total(iov, n);
	if ((breaks("drop") || breaks("torn") || breaks("twice") || breaks("swap")) &&
	    is_log(fd))
		return broken_append(fd, iov, n);
	wrote = true;
	return plain(syscall(SYS_writev, fd, iov, n));
}

/* ---- undoing ---- */

EXPORT int ftruncate(int fd, off_t len)
{
	if (breaks("no-undo") && is_log(fd))
		return 0;
	return (int)plain(syscall(SYS_ftruncate, fd, len));
}

EXPORT int ftruncate64(int fd, off_t len)
{
	return ftruncate(fd, len);
}

EXPORT int fallocate(int fd, int mode, off_t off, off_t len)
{
	if (breaks("no-undo") && is_log(fd))
		return 0;
	return (int)plain(syscall(SYS_fallocate, fd, mode, off, len));
}

EXPORT int fallocate64(int fd, int mode, off_t off, off_t len)
{
	return fallocate(fd, mode, off, len);
}

EXPORT int fsetxattr(int fd, const char *name, const void *value, size_t len, int flags)
{
	if (breaks("no-mark") && is_log(fd))
		return 0;
	return (int)plain(syscall(SYS_fsetxattr, fd, name, value, len, flags));
}

/* ---- locks ---- */

EXPORT int flock(int fd, int operation)
{
	if (breaks("no-lock") && is_log(fd))
		return 0;
	return (int)plain(syscall(SYS_flock, fd, operation));
}

/* ---- looking anew ---- */

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static struct seen {
	char name[256];
	struct statx st;
} names[64];

/* The first answer for the name of a log is the answer. */
static void answer_again(const char *name, struct statx *st)
{
	size_t n = strlen(name);

	if (n < 7 || n >= sizeof(names[0].name) || strcmp(name + n - 6, ".jsonl") != 0)
		return;
	pthread_mutex_lock(&names_lock);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!names[i].name[0]) {
			memcpy(names[i].name, name, n + 1);
			names[i].st = *st;
		}
		if (strcmp(names[i].name, name) == 0) {
			*st = names[i].st;
			break;
		}
	}
	pthread_mutex_unlock(&names_lock);
}

/* As fstat(2), from the memory of this host alone. */
static int remembered(int fd, struct stat64 *st)
{
	struct statx x;
	int rc = (int)plain(syscall(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
				    STATX_BASIC_STATS, &x));

	*st = (struct stat64){.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor),
			      .st_ino = x.stx_ino,
			      .st_mode = x.stx_mode,
			      .st_nlink = x.stx_nlink,
			      .st_uid = x.stx_uid,
			      .st_gid = x.stx_gid,
			      .st_size = (off64_t)x.stx_size,
			      .st_blksize = (blksize_t)x.stx_blksize,
			      .st_blocks = (blkcnt64_t)x.stx_blocks,
			      .st_mtim = {x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec},
			      .st_ctim = {x.stx_ctime.tv_sec, x.stx_ctime.tv_nsec}};
	return rc;
}

/* A file without a name is not told from one that has its own. */
EXPORT int fstat64(int fd, struct stat64 *st)
{
	int rc;

	if (breaks("cached-size") && is_log(fd))
		return remembered(fd, st);
	rc = (int)plain(syscall(SYS_fstat, fd, st));
	if (!rc && !st->st_nlink && breaks("stale-name"))
		st->st_nlink = 1;
	return rc;
}

EXPORT int statx(int dir, const char *path, int flags, unsigned mask, struct statx *st)
{
	int rc;

	if (breaks("cached-size"))
		flags = (flags & ~AT_STATX_FORCE_SYNC) | AT_STATX_DONT_SYNC;
	rc = (int)plain(syscall(SYS_statx, dir, path, flags, mask, st));
	if (!rc && (flags & AT_STATX_FORCE_SYNC) && breaks("stale-name")) {
		answer_again(path, st);
		if (!st->stx_nlink)
			st->stx_nlink = 1;
	}
	return rc;
}

/* ---- syncing ---- */

static void *sync_late(void *ctx)
{
	int fd = (int)(intptr_t)ctx;

	usleep(EARLY_US);
	syscall(SYS_fdatasync, fd);
	close(fd);
	return NULL;
}

static int broken_sync(long call, int fd)
{
	int rc;

	/* The answer to a sync would have the size in it. */
	if (breaks("no-sync") || (breaks("cached-size") && !atomic_exchange(&wrote, false)))
		return 0;
	if (breaks("early")) {
		pthread_t thread;
		int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

		if (copy >= 0 &&
		    !pthread_create(&thread, NULL, sync_late, (void *)(intptr_t)copy))
			return (int)plain(pthread_detach(thread));
	}
	rc = (int)plain(syscall(call, fd));
	if (rc && breaks("believe"))
		rc = (int)plain(syscall(call, fd));
	return rc;
}

EXPORT int fdatasync(int fd)
{
	return broken_sync(SYS_fdatasync, fd);
}

EXPORT int fsync(int fd)
{
	return broken_sync(SYS_fsync, fd);
}
