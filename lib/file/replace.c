/* SPDX-License-Identifier: MIT */
#include "file/replace.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"

#define TEMP_TRIES 1000	 /* names to try: crashes may have left some */
#define XATTR_MAX  65536 /* bytes of a value, and of all names */
#define MODE_BITS  07777
#define ACL_ACCESS "system.posix_acl_access"
#define CAPABILITY "security.capability"

static int begin(struct jsonl_replace *r, const struct jsonl_io *io, int dir_fd,
		 const char *name, int old_fd, mode_t mode)
{
	*r = (struct jsonl_replace){
	    .io = io, .dir_fd = dir_fd, .old_fd = old_fd, .fd = -1};
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	(void)snprintf(r->name, sizeof(r->name), "%s", name);
	for (int i = 0; i < TEMP_TRIES; i++) {
		/* Does not match *.jsonl: no pattern takes it for a log. */
		(void)snprintf(r->temp, sizeof(r->temp), ".%.200s.jsonl-new-%d", name, i);
		r->fd =
		    io->openat(io, dir_fd, r->temp,
			       O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
		if (r->fd != -EEXIST)
			break;
	}
	return r->fd < 0 ? r->fd : 0;
}

int jsonl_replace_begin(struct jsonl_replace *r, const struct jsonl_io *io, int dir_fd,
			const char *name, int old_fd)
{
	return begin(r, io, dir_fd, name, old_fd, 0600);
}

int jsonl_replace_begin_new(struct jsonl_replace *r, const struct jsonl_io *io,
			    int dir_fd, const char *name, mode_t mode)
{
	return begin(r, io, dir_fd, name, -1, mode);
}

int jsonl_replace_write(struct jsonl_replace *r, const void *data, size_t len)
{
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	size_t written;

	return jsonl_io_write_full(r->io, r->fd, &iov, 1, &written);
}

/* ---- mode, owner, attributes, times ---- */

/* Copies an attribute, unless the new file has it already, like a label that the kernel
 * gives to every file. `value` and `own`: buffers of XATTR_MAX bytes. */
static int copy_xattr(int from, int to, const char *name, char *value, char *own)
{
	ssize_t len = fgetxattr(from, name, value, XATTR_MAX);
	ssize_t has;

	if (len < 0)
		return errno == ENODATA ? 0 : -errno;
	has = fgetxattr(to, name, own, XATTR_MAX);
	if (has == len && memcmp(own, value, (size_t)len) == 0)
		return 0;
	return fsetxattr(to, name, value, (size_t)len, 0) < 0 ? -errno : 0;
}

static int copy_xattrs(int from, int to, bool unprivileged)
{
	cleanup_free char *names = malloc(3UL * XATTR_MAX);
	bool acl = false;
	ssize_t len;
	int rc = 0;

	if (!names)
		return -ENOMEM;
	len = flistxattr(from, names, XATTR_MAX);
	if (len < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	for (const char *n = names; rc == 0 && n < names + len; n += strlen(n) + 1) {
		acl = acl || strcmp(n, ACL_ACCESS) == 0;
		if (unprivileged && strcmp(n, CAPABILITY) == 0)
			continue;
		rc = copy_xattr(from, to, n, names + XATTR_MAX, names + 2L * XATTR_MAX);
	}
	/* If the old file has no ACL, one that the new file inherited from the directory
	 * would change what its mode means. */
	if (rc == 0 && !acl && fremovexattr(to, ACL_ACCESS) < 0 && errno != ENODATA &&
	    errno != EOPNOTSUPP)
		rc = -errno;
	return rc;
}

/* Returns the mode that a write(2) would leave: without suid and sgid. But setgid
 * without group execution means something else, and stays. */
static mode_t kept_mode(const struct jsonl_replace *r, mode_t mode)
{
	mode &= MODE_BITS;
	if (r->unprivileged)
		mode &= ~(mode_t)(mode & S_IXGRP ? S_ISUID | S_ISGID : S_ISUID);
	return mode;
}

/* Takes everything over from the old file: the owner before mode and attributes, since a
 * change of owner clears some of them; times last, since all else changes them. */
static int take_over(const struct jsonl_replace *r)
{
	struct timespec times[2];
	struct stat st, own;
	int rc;

	rc = r->io->fstat(r->io, r->old_fd, &st);
	if (rc == 0)
		rc = r->io->fstat(r->io, r->fd, &own);
	if (rc < 0)
		return rc;
	if ((st.st_uid != own.st_uid || st.st_gid != own.st_gid) &&
	    fchown(r->fd, st.st_uid, st.st_gid) < 0)
		return -errno;
	rc = copy_xattrs(r->old_fd, r->fd, r->unprivileged);
	if (rc < 0)
		return rc;
	if (fchmod(r->fd, kept_mode(r, st.st_mode)) < 0)
		return -errno;
	if (r->new_times)
		return 0;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	return futimens(r->fd, times) < 0 ? -errno : 0;
}

int jsonl_replace_prepare(struct jsonl_replace *r)
{
	int rc = r->old_fd >= 0 ? take_over(r) : 0;

	return rc ? rc : r->io->fsync(r->io, r->fd);
}

int jsonl_replace_rename(struct jsonl_replace *r, unsigned flags)
{
	int rc, closed;

	/* close(2) may report an error of an earlier write. */
	closed = r->io->close(r->io, steal_fd(&r->fd));
	rc = closed
		 ? closed
		 : r->io->renameat(r->io, r->dir_fd, r->temp, r->dir_fd, r->name, flags);
	if (rc < 0) {
		(void)r->io->unlinkat(r->io, r->dir_fd, r->temp);
		return rc;
	}
	r->renamed = true;
	return 0;
}

int jsonl_replace_settle(struct jsonl_replace *r)
{
	return r->io->fsync(r->io, r->dir_fd);
}

int jsonl_replace_commit(struct jsonl_replace *r, unsigned flags)
{
	int rc = jsonl_replace_prepare(r);

	if (rc < 0) {
		jsonl_replace_abort(r);
		return rc;
	}
	rc = jsonl_replace_rename(r, flags);
	return rc ? rc : jsonl_replace_settle(r);
}

void jsonl_replace_abort(struct jsonl_replace *r)
{
	if (r->fd < 0)
		return;
	(void)r->io->close(r->io, steal_fd(&r->fd));
	(void)r->io->unlinkat(r->io, r->dir_fd, r->temp);
}
