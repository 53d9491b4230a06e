/* SPDX-License-Identifier: MIT */
#include "quarantine/quarantine_internal.h"
#include "base/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/stamp.h"
#include "json/utf8.h"

#define ACL_NAME   "system.posix_acl_access"
#define ACL_MAX	   65536 /* bytes of an ACL: XATTR_SIZE_MAX */
#define NAME_TRIES 1000	 /* names of earlier, after the clock was set back */

#define RANDOM 8 /* bytes of a name that nobody can guess */

/* Makes a name UTCSTAMP.NANOSECONDSZ.RANDOM-BASENAME. A byte that is not a printable
 * character becomes `_`, so that the name is the same in the directory, in the index and
 * in a log line. */
static int make_name(int64_t stamp, const char *path, char name[JSONL_QUARANTINE_NAME])
{
	const char *base = strrchr(path, '/');
	unsigned char random[RANDOM];
	const struct timespec at = jsonl_quarantine_moment(stamp);
	size_t len, out;

	base = base ? base + 1 : path;
	jsonl_stamp_name(&at, name);
	out = strlen(name);
	name[out++] = '.';
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	for (size_t i = 0; i < sizeof(random); i++)
		out += (size_t)snprintf(name + out, JSONL_QUARANTINE_NAME - out, "%02x",
					random[i]);
	name[out++] = '-';
	len = strlen(base);
	for (size_t i = 0; i < len;) {
		uint32_t code = 0;
		size_t n = jsonl_utf8_next(base + i, len - i, &code);

		if (n == 0 || code < 0x20 || (code >= 0x7f && code < 0xa0)) {
			n = n ? n : 1;
			if (out + 1 >= JSONL_QUARANTINE_NAME)
				break;
			name[out++] = '_';
		} else {
			if (out + n >= JSONL_QUARANTINE_NAME)
				break;
			memcpy(name + out, base + i, n);
			out += n;
		}
		i += n;
	}
	name[out] = '\0';
	return 0;
}

/* Reads the ACL of source_fd, also if that is an O_PATH descriptor. Its length; 0: there
 * is none. */
static ssize_t read_acl(int source_fd, char *acl)
{
	char path[64];
	ssize_t n = fgetxattr(source_fd, ACL_NAME, acl, ACL_MAX);

	if (n < 0 && errno == EBADF) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", source_fd);
		n = getxattr(path, ACL_NAME, acl, ACL_MAX);
	}
	if (n < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
		return 0;
	return n < 0 ? -errno : n;
}

/* Takes over owner, ACL and mode of the source while the file is still empty, so that its
 * bytes are never open to more than may read the source. Where one of the three cannot be
 * taken over (a daemon that is not root) the file stays its owner's alone, 0600. */
static void take_over(int fd, int source_fd)
{
	cleanup_free char *acl = malloc(ACL_MAX);
	struct stat st, own;
	ssize_t len;

	if (!acl || fstat(source_fd, &st) < 0 || fstat(fd, &own) < 0)
		return;
	if ((st.st_uid != own.st_uid || st.st_gid != own.st_gid) &&
	    fchown(fd, st.st_uid, st.st_gid) < 0)
		return;
	len = read_acl(source_fd, acl);
	if (len < 0)
		return;
	/* If the source has no ACL, one inherited from the directory must go, too. */
	if (len > 0 ? fsetxattr(fd, ACL_NAME, acl, (size_t)len, 0) < 0
		    : fremovexattr(fd, ACL_NAME) < 0 && errno != ENODATA &&
			  errno != EOPNOTSUPP)
		return;
	/* No execute bits: nobody runs what is set aside. If this fails, 0600 or the ACL
	 * counts. */
	(void)fchmod(fd, st.st_mode & 0666);
}

/* Creates the file under a name of its own. The descriptor or -errno. */
static int create_file(struct jsonl_quarantine *q, const char *path, int64_t *stamp,
		       char name[JSONL_QUARANTINE_NAME])
{
	for (int i = 0; i < NAME_TRIES; i++) {
		int fd = make_name(*stamp, path, name);

		if (fd < 0)
			return fd;
		fd = q->io->openat(q->io, q->dir_fd, name,
				   O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW,
				   0600);
		if (fd != -EEXIST)
			return fd;
		pthread_mutex_lock(&q->lock);
		*stamp = jsonl_quarantine_stamp(q);
		pthread_mutex_unlock(&q->lock);
	}
	return -EEXIST;
}

int jsonl_quarantine_file_store(struct jsonl_quarantine *q,
				const struct jsonl_quarantine_item *item, int64_t *stamp,
				char name[JSONL_QUARANTINE_NAME])
{
	size_t written;
	int fd, rc, closed;

	fd = create_file(q, item->path, stamp, name);
	if (fd < 0)
		return fd;
	if (item->source_fd >= 0)
		take_over(fd, item->source_fd);
	rc = jsonl_io_write_full(q->io, fd, item->iov, item->niov, &written);
	if (rc == 0 && item->durable)
		rc = q->io->fsync(q->io, fd);
	closed = q->io->close(q->io, fd);
	rc = rc ? rc : closed;
	if (rc == 0 && item->durable)
		rc = q->io->fsync(q->io, q->dir_fd);
	if (rc < 0)
		(void)q->io->unlinkat(q->io, q->dir_fd, name);
	return rc;
}

uint64_t jsonl_quarantine_file_readers(uint64_t hash, int source_fd)
{
	cleanup_free char *acl = malloc(ACL_MAX);
	struct stat st;
	ssize_t len;

	if (source_fd < 0 || fstat(source_fd, &st) < 0 || !acl)
		return hash;
	hash = jsonl_hash(hash, &st.st_uid, sizeof(st.st_uid));
	hash = jsonl_hash(hash, &st.st_gid, sizeof(st.st_gid));
	hash = jsonl_hash(hash, &st.st_mode, sizeof(st.st_mode));
	len = read_acl(source_fd, acl);
	return len > 0 ? jsonl_hash(hash, acl, (size_t)len) : hash;
}

static bool same_bytes(struct jsonl_quarantine *q, int fd, off_t at,
		       const struct jsonl_quarantine_item *item)
{
	for (int i = 0; i < item->niov; i++) {
		const struct iovec *iov = &item->iov[i];

		if (jsonl_io_equals(q->io, fd, iov->iov_base, iov->iov_len, at) != 1)
			return false;
		at += (off_t)iov->iov_len;
	}
	return true;
}

bool jsonl_quarantine_file_holds(struct jsonl_quarantine *q, const char *name, int64_t at,
				 bool sync, const struct jsonl_quarantine_item *item)
{
	struct stat st;
	bool same;
	int fd;

	fd = q->io->openat(q->io, q->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return false;
	same = q->io->fstat(q->io, fd, &st) == 0 && S_ISREG(st.st_mode) &&
	       (at >= 0 ||
		(uint64_t)st.st_size == jsonl_iov_length(item->iov, item->niov)) &&
	       same_bytes(q, fd, at < 0 ? 0 : at, item);
	/* It was not synced yet, so an error of its writing has been reported to nobody,
	 * and is reported to us. */
	if (same && sync)
		same =
		    q->io->fsync(q->io, fd) == 0 && q->io->fsync(q->io, q->dir_fd) == 0;
	q->io->close(q->io, fd);
	return same;
}
