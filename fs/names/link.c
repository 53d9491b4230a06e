/* SPDX-License-Identifier: MIT */
#include "names/link.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/error.h"
#include "base/fuse.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/inode.h"
#include "tree/lookup.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "tree/recheck.h"
#include "tree/stat.h"
#include "vault/denied.h"

/* Checks that this node may get this name. For an O_TMPFILE, which has no name yet, the
 * content is judged; else both names must be of one class. */
static int link_allowed(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
			struct fs_inode *dir, const char *name)
{
	enum jsonl_class class = JSONL_CLASS_PLAIN;
	const struct fs_class_ops *to;
	char path[PATH_MAX];
	struct stat st;
	int rc;

	if (!S_ISREG(i->type))
		return 0;
	if (i->class == JSONL_CLASS_PLAIN &&
	    !jsonl_policy_may_govern(m->vault.policy, name))
		return 0;
	rc = fs_inode_path(m, dir, name, path, sizeof(path));
	if (rc)
		path[0] = '\0'; /* too long: plain */
	else
		class = jsonl_policy_classify(m->vault.policy, path);
	if (class == i->class)
		return 0;
	to = m->tree.classes[class];
	rc = fs_inode_stat(m, i, &st);
	if (rc)
		return rc;
	if (to->admit && st.st_nlink == 0) {
		/* The descriptor by which it was made is still open: it may write no
		 * more. */
		pthread_mutex_lock(&i->lock);
		i->sealed = true;
		pthread_mutex_unlock(&i->lock);
		rc = to->admit(req, m, i, path);
		if (rc) {
			pthread_mutex_lock(&i->lock);
			i->sealed = false;
			pthread_mutex_unlock(&i->lock);
		}
		return rc;
	}
	fs_denied(req, "link", path, "one file cannot be a log and a plain file");
	return -EPERM;
}

static int link_as_caller(fuse_req_t req, const char *from, int dir_fd, const char *name)
{
	const struct fs_ids ids = fs_caller_ids(req);
	struct fs_caller saved;
	int rc = fs_caller_pay(&ids, &saved);

	if (rc)
		return rc;
	if (linkat(AT_FDCWD, from, dir_fd, name, AT_SYMLINK_FOLLOW) < 0)
		rc = -errno;
	fs_caller_restore(&saved);
	return rc;
}

/* Removes the new name again when the call fails after all, so that a second attempt does
 * not find it. */
static void link_take_back(struct fs_inode *i, int dir_fd, const char *name)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == i->dev &&
	    st.st_ino == i->ino && st.st_nlink > 1)
		unlinkat(dir_fd, name, 0);
}

static int link_backing(fuse_req_t req, struct fs_inode *i, struct fs_inode *dir,
			const char *name, struct fs_inode **found, struct stat *st)
{
	struct fs_mount *m = fs_mount_of(req);
	char from[32];
	int fd = fs_inode_fd_get(m, i);
	int dir_fd, rc;

	if (fd < 0)
		return fd;
	dir_fd = fs_inode_fd_get(m, dir);
	if (dir_fd < 0) {
		fs_inode_fd_put(m, i, fd);
		return dir_fd;
	}
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	rc = link_as_caller(req, from, dir_fd, name);
	if (!rc) {
		rc = fs_inode_lookup(m, dir, name, found, st);
		if (rc)
			link_take_back(i, dir_fd, name);
	}
	fs_inode_fd_put(m, dir, dir_fd);
	fs_inode_fd_put(m, i, fd);
	return rc;
}

void fs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	struct fs_inode *dir = fs_inode_of(m, newparent);
	struct fuse_entry_param e;
	struct fs_inode *found;
	struct stat st;
	int rc;

	rc = i->state || i->virtual || fs_name_is_state(m, dir, newname) ? -EPERM : 0;
	if (!rc)
		rc = fs_recheck(m, i);
	if (!rc)
		rc = link_allowed(req, m, i, dir, newname);
	if (!rc)
		rc = link_backing(req, i, dir, newname, &found, &st);
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	fs_entry_fill(m, found, &st, &e);
	fs_inode_to_kernel(m, found);
	if (fuse_reply_entry(req, &e) == -ENOENT)
		fs_inode_forget(m, found, 1);
}
