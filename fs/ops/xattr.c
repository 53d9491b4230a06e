/* SPDX-License-Identifier: MIT */
/* Serves extended attributes and file flags. The kernel has decided whether the caller
 * may change them. */
#include "ops/xattr.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/caller.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "ops/readdir.h"
#include "rules/config.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/notify.h"

#define RESERVED "user.jsonlfs."
#define WRITERS	 RESERVED "writers" /* read-only, and not listed */
#define ACL_NAME "system.posix_acl_access"

static bool begins_with(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Holds a path that leads to the file itself, also if that is a symbolic link. */
struct fd_path {
	char text[64];
	int fd;
};

static int path_get(struct fs_mount *m, struct fs_inode *i, struct fd_path *p)
{
	p->fd = i->virtual ? -ENODATA : fs_inode_fd_get(m, i);
	if (p->fd < 0)
		return p->fd;
	snprintf(p->text, sizeof(p->text), "/proc/self/fd/%d", p->fd);
	return 0;
}

static void path_put(struct fs_mount *m, struct fs_inode *i, struct fd_path *p)
{
	fs_inode_fd_put(m, i, p->fd);
}

/* Checks that an attribute may be used. 0, -EPERM, or -ENOSYS where there are none: then
 * the kernel does not ask again during the mount. */
static int xattr_allowed(const struct fs_mount *m, const struct fs_inode *i,
			 const char *name)
{
	if (!m->vault.config.xattr)
		return -ENOSYS;
	if (i->state || begins_with(name, RESERVED))
		return -EPERM;
	return 0;
}

/* Sets the attribute at the caller's expense: it may take a block. */
static int set_attribute(fuse_req_t req, const struct fd_path *p, const char *name,
			 const char *value, size_t size, int flags)
{
	const struct fs_ids ids = fs_caller_ids(req);
	struct fs_caller saved;
	int r = fs_caller_pay(&ids, &saved);

	if (r)
		return r;
	if (setxattr(p->text, name, value, size, flags))
		r = -errno;
	fs_caller_restore(&saved);
	return r;
}

/* Storing an ACL drops the setgid bit unless the caller is in the file's group. */
static int set_acl(fuse_req_t req, const struct fd_path *p, const char *name,
		   const char *value, size_t size, int flags)
{
	struct fs_caller saved;
	struct stat st;
	int r;

	if (fuse_req_ctx(req)->uid == 0 || fstat(p->fd, &st) || !(st.st_mode & S_ISGID) ||
	    fs_caller_in_group(req, st.st_gid))
		return set_attribute(req, p, name, value, size, flags);
	r = fs_caller_content(req, p->fd, &saved);
	if (r)
		return r;
	if (setxattr(p->text, name, value, size, flags))
		r = -errno;
	fs_caller_restore(&saved);
	return r;
}

void fs_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		    size_t size, int flags)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	struct fd_path p;
	int r = xattr_allowed(m, i, name);

	if (!r)
		r = path_get(m, i, &p);
	if (!r) {
		if (strcmp(name, ACL_NAME) == 0)
			r = set_acl(req, &p, name, value, size, flags);
		else
			r = set_attribute(req, &p, name, value, size, flags);
		path_put(m, i, &p);
	}
	if (!r)
		fs_note_change(m, i);
	fuse_reply_err(req, -r);
}

void fs_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	struct fd_path p;
	int r = xattr_allowed(m, i, name);

	if (!r)
		r = path_get(m, i, &p);
	if (!r) {
		if (removexattr(p.text, name))
			r = -errno;
		path_put(m, i, &p);
	}
	if (!r)
		fs_note_change(m, i);
	fuse_reply_err(req, -r);
}

static void reply_value(fuse_req_t req, ssize_t n, const char *value, size_t size)
{
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else if (size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else if ((size_t)n > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, (size_t)n);
}

/* Answers with the number of handles that append to this file, under the name of a log or
 * of a generation. /proc does not show that: a descriptor that follows its name
 * (follow.c) still appears there as the file that was opened. */
static void reply_writers(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
			  size_t size)
{
	struct fs_inode *log = fs_inode_find(m, i->dev, i->ino, JSONL_CLASS_GOVERNED);
	unsigned writers = 0;
	char value[16];

	if (log) {
		pthread_mutex_lock(&log->lock);
		writers = log->writers;
		pthread_mutex_unlock(&log->lock);
		fs_inode_unref(m, log);
	}
	reply_value(req, snprintf(value, sizeof(value), "%u", writers), value, size);
}

void fs_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	cleanup_free char *heap = NULL;
	char stack[1024], *value = stack;
	struct fd_path p;
	ssize_t n;

	if (m->vault.config.xattr && S_ISREG(i->type) && strcmp(name, WRITERS) == 0) {
		reply_writers(req, m, i, size);
		return;
	}
	if (size > sizeof(stack))
		value = heap = malloc(size);
	n = !m->vault.config.xattr ? -ENOSYS : value ? path_get(m, i, &p) : -ENOMEM;
	if (!n && begins_with(name, RESERVED)) {
		n = -ENODATA;
		path_put(m, i, &p);
	} else if (!n) {
		n = getxattr(p.text, name, value, size);
		if (n < 0)
			n = -errno;
		path_put(m, i, &p);
	}
	reply_value(req, n, value, size);
}

/* Removes our own attributes from a list, and for ordinary users those of the trusted
 * namespace. */
static ssize_t without_hidden(char *list, ssize_t n, bool root)
{
	char *to = list;

	for (char *from = list; from < list + n;) {
		size_t len = strlen(from) + 1;

		if (!begins_with(from, RESERVED) &&
		    (root || !begins_with(from, "trusted."))) {
			memmove(to, from, len);
			to += len;
		}
		from += len;
	}
	return to - list;
}

void fs_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	cleanup_free char *list = NULL;
	struct fd_path p;
	ssize_t n = 0;

	if (!m->vault.config.xattr) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	if (i->virtual || (n = path_get(m, i, &p))) {
		reply_value(req, n, "", size);
		return;
	}
	n = listxattr(p.text, NULL, 0);
	if (n > 0) {
		list = malloc((size_t)n);
		if (list)
			n = listxattr(p.text, list, (size_t)n);
		else
			errno = ENOMEM;
	}
	n = n < 0 || (n > 0 && !list) ? -errno : n;
	path_put(m, i, &p);
	if (n > 0)
		n = without_hidden(list, n, fuse_req_ctx(req)->uid == 0);
	reply_value(req, n, list, size);
}

/* ---- file flags (lsattr, chattr) ---- */

static int flags_descriptor(struct fs_mount *m, struct fs_inode *i,
			    const struct fuse_file_info *fi, int *opened)
{
	int fd;

	if (i->type == S_IFDIR)
		return fs_dir_fd(fi);
	fd = fs_handle_fd(fi);
	if (fd < 0)
		fd = *opened = fs_inode_open(m, i, O_RDONLY | O_NONBLOCK);
	return fd;
}

/* The two pairs of calls by which file flags are read and changed. */
static const struct flag_calls {
	unsigned get, set;
	size_t size;
	unsigned append; /* the flag, in the first word of the value */
} flag_calls[] = {
    {FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, sizeof(unsigned), FS_APPEND_FL},
    {FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, sizeof(struct fsxattr), FS_XFLAG_APPEND},
};

union flag_value {
	unsigned flags;
	struct fsxattr attr;
};
_Static_assert(offsetof(struct fsxattr, fsx_xflags) == 0, "the flags come first");

static const struct flag_calls *flag_calls_of(unsigned cmd)
{
	for (size_t k = 0; k < sizeof(flag_calls) / sizeof(flag_calls[0]); k++)
		if (cmd == flag_calls[k].get || cmd == flag_calls[k].set)
			return &flag_calls[k];
	return NULL;
}

static void get_flags(fuse_req_t req, const struct flag_calls *calls, bool append_only,
		      int fd, size_t out_size)
{
	union flag_value value = {0};

	if (out_size < calls->size) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if (ioctl(fd, calls->get, &value)) {
		fuse_reply_err(req, errno);
		return;
	}
	if (append_only)
		value.flags |= calls->append;
	fuse_reply_ioctl(req, 0, &value, calls->size);
}

/* Sets file flags. Append-only, which we show for logs, is not a flag of the backing
 * file. */
static int set_flags(const struct flag_calls *calls, bool append_only, int fd,
		     const void *in, size_t in_size)
{
	union flag_value value = {0}, now = {0};

	if (in_size < calls->size)
		return -EINVAL;
	memcpy(&value, in, calls->size);
	if (append_only) {
		if (!(value.flags & calls->append))
			return -EPERM;
		if (ioctl(fd, calls->get, &now))
			return -errno;
		value.flags =
		    (value.flags & ~calls->append) | (now.flags & calls->append);
	}
	return ioctl(fd, calls->set, &value) ? -errno : 0;
}

void fs_op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg,
		 struct fuse_file_info *fi, unsigned flags, const void *in_buf,
		 size_t in_size, size_t out_size)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	const bool append_only = fs_class_of(m, i)->append_only;
	const struct flag_calls *calls = flag_calls_of(cmd);
	cleanup_close int opened = -1;
	int fd, r;

	(void)arg;
	(void)flags;
	if (i->virtual || !calls) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	fd = flags_descriptor(m, i, fi, &opened);
	if (fd < 0) {
		fuse_reply_err(req, -fd);
	} else if (cmd == calls->get) {
		get_flags(req, calls, append_only, fd, out_size);
	} else {
		r = i->state ? -EPERM
			     : set_flags(calls, append_only, fd, in_buf, in_size);
		if (!r) {
			fs_note_change(m, i);
			fs_attributes_changed(m, i); /* the ctime has changed */
		}
		if (r)
			fuse_reply_err(req, -r);
		else
			fuse_reply_ioctl(req, 0, NULL, 0);
	}
}
