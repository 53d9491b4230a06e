/* SPDX-License-Identifier: MIT */
/* Answers look-ups of names, and requests about a file apart from its content. */
#include "ops/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/cleanup.h"
#include "base/fuse.h"
#include "base/links.h"
#include "ops/leased.h"
#include "rules/config.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "tree/recheck.h"
#include "tree/stat.h"
#include "vault/denied.h"

void fs_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);

	fs_reply_attr(req, m, ino, fi);
}

/* ---- setattr ---- */

static int set_plain_size(fuse_req_t req, struct fs_inode *i, off_t size,
			  const struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	cleanup_close int opened = -1;
	struct fs_caller saved;
	int fd = -1, r = 0;

	if (fi && (fs_handle_of(fi)->flags & O_ACCMODE) != O_RDONLY)
		fd = fs_handle_fd(fi);
	if (fd < 0)
		fd = opened = fs_inode_open(m, i, O_WRONLY);
	if (fd < 0)
		return fd;
	r = fs_caller_content(req, fd, &saved);
	if (r)
		return r;
	if (ftruncate(fd, size))
		r = -errno;
	fs_caller_restore(&saved);
	return r;
}

static int set_size(fuse_req_t req, struct fs_inode *i, off_t size,
		    const struct fuse_file_info *fi)
{
	struct fs_handle *h = fi ? fs_handle_of(fi) : NULL;
	const struct fs_class_ops *ops;
	bool stale, sealed;
	int r = 1;

	pthread_mutex_lock(&i->lock);
	stale = i->stale;
	sealed = i->sealed;
	pthread_mutex_unlock(&i->lock);
	if (!fi && !stale)
		stale = fs_recheck(fs_mount_of(req), i) != 0;
	if (stale && !fi)
		return -ESTALE; /* the rules have changed: the kernel looks the name up
				   again */
	if (sealed)
		return -EPERM;
	if (h && h->ops->truncate)
		r = h->ops->truncate(req, h, size);
	if (r <= 0)
		return r;
	ops = fs_class_of(fs_mount_of(req), i);
	return ops->truncate ? ops->truncate(req, i, size)
			     : set_plain_size(req, i, size, fi);
}

static void time_of(int to_set, int set, int now, const struct timespec *value,
		    struct timespec *out)
{
	*out = (struct timespec){.tv_nsec = UTIME_OMIT};
	if (to_set & now)
		out->tv_nsec = UTIME_NOW;
	else if (to_set & set)
		*out = *value;
}

static int change_mode(int fd, mode_t mode)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return chmod(path, mode & 07777) ? -errno : 0;
}

/* Returns true when the caller's own chown would have cleared the setgid bit. That of
 * root's daemon leaves it when there is no group execution. */
static bool loses_setgid(fuse_req_t req, const struct stat *st, gid_t gid)
{
	if (fuse_req_ctx(req)->uid == 0 || fs_mount_of(req)->vault.uid != 0 ||
	    !S_ISREG(st->st_mode) || (st->st_mode & (S_ISGID | S_IXGRP)) != S_ISGID)
		return false;
	return !fs_caller_in_group(req, st->st_gid) ||
	       (st->st_mode & S_ISUID && gid != (gid_t)-1 &&
		!fs_caller_in_group(req, gid));
}

static int set_owner(fuse_req_t req, int fd, const struct stat *attr, int to_set)
{
	uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
	gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
	struct stat st;

	if (fstat(fd, &st) || fchownat(fd, "", uid, gid, AT_EMPTY_PATH))
		return -errno;
	if (!loses_setgid(req, &st, gid))
		return 0;
	return change_mode(fd, st.st_mode & ~(mode_t)(S_ISUID | S_ISGID));
}

/* Sets the mode. A mode that comes with a size or an owner is no chmod: the kernel wants
 * suid and sgid cleared, and the truncation or chown has done that already, by the
 * caller's rights. */
static int set_mode(int fd, mode_t mode, bool clearing)
{
	struct stat st;

	if (clearing) {
		if (fstat(fd, &st))
			return -errno;
		mode &= st.st_mode | ~(mode_t)(S_ISUID | S_ISGID);
	}
	return change_mode(fd, mode);
}

static int set_times(int fd, const struct stat *attr, int to_set)
{
	struct timespec times[2];

	time_of(to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, &attr->st_atim,
		&times[0]);
	time_of(to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, &attr->st_mtim,
		&times[1]);
	return utimensat(fd, "", times, AT_EMPTY_PATH) ? -errno : 0;
}

static int set_attributes(fuse_req_t req, struct fs_inode *i, const struct stat *attr,
			  int to_set)
{
	struct fs_mount *m = fs_mount_of(req);
	const int owner = FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
	const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW |
			  FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;
	int fd, r = 0;

	if (!(to_set & (owner | times | FUSE_SET_ATTR_MODE)))
		return 0;
	fd = fs_inode_fd_get(m, i);
	if (fd < 0)
		return fd;
	/* The owner comes first: changing it clears bits that the mode may set again. */
	if (to_set & owner)
		r = set_owner(req, fd, attr, to_set);
	if (!r && to_set & FUSE_SET_ATTR_MODE)
		r = set_mode(fd, attr->st_mode, to_set & (owner | FUSE_SET_ATTR_SIZE));
	if (to_set & FUSE_SET_ATTR_MODE)
		fs_tell_special_bits(req, "chmod", i, NULL, attr->st_mode, r);
	if (!r && to_set & times)
		r = set_times(fd, attr, to_set);
	fs_inode_fd_put(m, i, fd);
	return r;
}

static int setattr_attempt(struct fs_leased *l)
{
	struct fs_mount *m = fs_mount_of(l->req);
	struct fs_inode *i = fs_inode_of(m, l->ino);
	struct fuse_file_info *fi = l->fi.fh ? &l->fi : NULL;
	int r = i->state ? -EPERM : 0;

	if (!r && l->to_set & FUSE_SET_ATTR_SIZE)
		r = set_size(l->req, i, l->attr.st_size, fi);
	if (!r)
		r = set_attributes(l->req, i, &l->attr, l->to_set);
	if (!r)
		fs_note_change(m, i);
	return r;
}

static void setattr_answer(struct fs_leased *l, int r)
{
	struct fs_mount *m = fs_mount_of(l->req);

	if (r)
		fuse_reply_err(l->req, -r);
	else
		fs_reply_attr(l->req, m, l->ino, l->fi.fh ? &l->fi : NULL);
}

void fs_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		   struct fuse_file_info *fi)
{
	struct fs_leased l = {.attempt = setattr_attempt,
			      .answer = setattr_answer,
			      .req = req,
			      .ino = ino,
			      .fi = fi ? *fi : (struct fuse_file_info){0},
			      .attr = *attr,
			      .to_set = to_set};
	struct fs_mount *m = fs_mount_of(req);
	int r = setattr_attempt(&l);

	/* Logs have waited for their lock already. */
	if (r != -EWOULDBLOCK || fs_class_of(m, fs_inode_of(m, ino))->truncate ||
	    !fs_leased_park(&l))
		setattr_answer(&l, r);
}

/* ---- the rest ---- */

/* Checks, with links=inside, that a link with this target may be followed, and logs a
 * refusal. Of a link with several names only the path of the last look-up is known, so it
 * counts as one at the root. */
static bool may_follow(fuse_req_t req, struct fs_inode *i, int fd, const char *target)
{
	struct fs_mount *m = fs_mount_of(req);
	char path[PATH_MAX];
	struct stat st;
	size_t depth = 0;

	if (m->vault.config.links != JSONL_LINKS_INSIDE)
		return true;
	fs_path_of(m, i, path, sizeof(path));
	if (fstat(fd, &st) == 0 && st.st_nlink == 1)
		depth = fs_link_depth(path);
	if (!fs_link_leads_out(depth, target))
		return true;
	fs_denied(req, "readlink", path,
		  "the link could lead out of the vault (links=inside); replace it by a "
		  "relative one that stays inside");
	return false;
}

void fs_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	char buf[PATH_MAX + 1];
	int fd = fs_inode_fd_get(m, i);
	ssize_t n;

	if (fd < 0) {
		fuse_reply_err(req, -fd);
		return;
	}
	n = readlinkat(fd, "", buf, sizeof(buf) - 1);
	if (n < 0) {
		fuse_reply_err(req, errno);
	} else if ((size_t)n == sizeof(buf) - 1) {
		fuse_reply_err(req, ENAMETOOLONG);
	} else {
		buf[n] = '\0';
		if (may_follow(req, i, fd, buf))
			fuse_reply_readlink(req, buf);
		else
			fuse_reply_err(req, ELOOP);
	}
	fs_inode_fd_put(m, i, fd);
}

void fs_op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino ? ino : FUSE_ROOT_ID);
	struct statvfs st;
	int fd = i->virtual ? m->vault.root_fd : fs_inode_fd_get(m, i);
	int r = fd < 0 ? -fd : 0;

	if (!r && fstatvfs(fd, &st))
		r = errno;
	if (!i->virtual)
		fs_inode_fd_put(m, i, fd);
	if (r)
		fuse_reply_err(req, r);
	else
		fuse_reply_statfs(req, &st);
}
