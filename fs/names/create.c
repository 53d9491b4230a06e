/* SPDX-License-Identifier: MIT */
/* Makes names. A new file is the caller's from the first moment: owner, group, and mode
 * by umask or default ACL, as the backing file system gives them to the caller's ids. */
#include "names/create.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "plain/plain.h"
#include "names/generation.h"
#include "rules/config.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/lookup.h"
#include "tree/mount.h"
#include "tree/stat.h"
#include "vault/account.h"
#include "vault/statedir.h"

/* Checks that a file of this name may be made or removed. */
static int name_allowed(const struct fs_mount *m, const struct fs_inode *parent,
			const char *name)
{
	if (parent->state)
		return -EPERM;
	if (parent == &m->tree.root && strcmp(name, FS_STATE_NAME) == 0)
		return -EPERM;
	return 0;
}

/* Removes the new name again when the call fails after all, so that a second attempt does
 * not find it. The kernel has locked the directory: nobody else knows the name. `made`:
 * the file, if it is known; else the name must be of this type. */
static void take_back(int dir, const char *name, mode_t type, const struct stat *made)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) ||
	    (st.st_mode & S_IFMT) != type || (type == S_IFREG && st.st_size))
		return;
	if (!made || (st.st_dev == made->st_dev && st.st_ino == made->st_ino))
		unlinkat(dir, name, type == S_IFDIR ? AT_REMOVEDIR : 0);
}

static void reply_made(fuse_req_t req, struct fs_inode *i, const struct stat *st)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fuse_entry_param e;

	fs_entry_fill(m, i, st, &e);
	fs_inode_to_kernel(m, i);
	if (fuse_reply_entry(req, &e))
		fs_inode_forget(m, i, 1);
}

enum make { MAKE_NODE, MAKE_DIR, MAKE_SYMLINK };

static int make_as_caller(fuse_req_t req, int dir, enum make what, const char *name,
			  mode_t mode, dev_t rdev, const char *target)
{
	struct fs_caller saved;
	int r = fs_caller_become(req, &saved);

	if (r)
		return r;
	if (what == MAKE_NODE)
		r = mknodat(dir, name, mode, rdev);
	else if (what == MAKE_DIR)
		r = mkdirat(dir, name, mode);
	else
		r = symlinkat(target, dir, name);
	if (r)
		r = -errno;
	fs_caller_restore(&saved);
	return r;
}

static void make(fuse_req_t req, fuse_ino_t ino, enum make what, const char *name,
		 mode_t mode, dev_t rdev, const char *target)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *parent = fs_inode_of(m, ino);
	int r = name_allowed(m, parent, name);
	int dir = r ? r : fs_inode_fd_get(m, parent);
	const mode_t type = what == MAKE_DIR	? S_IFDIR
			    : what == MAKE_NODE ? mode & S_IFMT
						: S_IFLNK;
	struct fs_inode *i;
	struct stat st;

	r = dir < 0 ? dir : make_as_caller(req, dir, what, name, mode, rdev, target);
	fs_tell_special_bits(req, what == MAKE_DIR ? "mkdir" : "mknod", parent, name,
			     mode, r);
	if (!r) {
		r = fs_inode_lookup(m, parent, name, &i, &st);
		if (r)
			take_back(dir, name, type ? type : S_IFREG, NULL);
	}
	fs_inode_fd_put(m, parent, dir);
	if (r)
		fuse_reply_err(req, -r);
	else
		reply_made(req, i, &st);
}

void fs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		 dev_t rdev)
{
	make(req, parent, MAKE_NODE, name, mode, rdev, NULL);
}

void fs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, MAKE_DIR, name, mode, 0, NULL);
}

void fs_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		   const char *name)
{
	make(req, parent, MAKE_SYMLINK, name, 0, 0, target);
}

/* Removes a directory. A process may still stand in it, so it must stay reachable
 * without a name: its descriptor is kept. Only after it was removed, or each directory
 * that is not empty would take a descriptor for good. */
static int remove_directory(struct fs_mount *m, int dir, const char *name)
{
	struct fs_inode *i = NULL;
	int fd = -1, r = 0;
	struct stat st;

	if (!fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
		i = fs_inode_find(m, st.st_dev, st.st_ino, JSONL_CLASS_PLAIN);
	if (i)
		fd = fs_inode_fd_get(m, i);
	if (unlinkat(dir, name, AT_REMOVEDIR))
		r = errno;
	if (fd >= 0) {
		if (!r)
			fs_descriptor_keep(m, i);
		fs_inode_fd_put(m, i, fd);
	}
	fs_inode_unref(m, i);
	return r;
}

void fs_op_rmdir(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *parent = fs_inode_of(m, ino);
	int r = name_allowed(m, parent, name);
	int dir = r ? r : fs_inode_fd_get(m, parent);

	if (dir < 0) {
		fuse_reply_err(req, -dir);
		return;
	}
	r = remove_directory(m, dir, name);
	fs_inode_fd_put(m, parent, dir);
	fuse_reply_err(req, r);
}

/* ---- create ---- */

/* Creates a file. Its descriptor, open as asked, or -errno. Always with O_EXCL: the
 * kernel found no such file, and so has checked no permissions of one. */
static int create_as_caller(fuse_req_t req, int dir, const char *name, int flags,
			    mode_t mode)
{
	struct fs_caller saved;
	int fd = fs_caller_become(req, &saved);

	if (!fd) {
		fd = fs_descriptor_openat(fs_mount_of(req), dir, name, flags, mode);
		fs_caller_restore(&saved);
	}
	return fd;
}

/* Makes the node of a file that was just created, from its descriptor. */
static int adopt_new(struct fs_mount *m, struct fs_inode *parent, const char *name,
		     int fd, struct fs_inode **i, struct stat *st)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = fs_descriptor_openat(m, AT_FDCWD, path, O_PATH, 0);
	return again < 0 ? again : fs_inode_adopt(m, parent, name, again, i, st);
}

static void reply_created(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
			  const struct stat *st, const struct fuse_file_info *fi)
{
	struct fs_handle *h = fs_handle_of(fi);
	struct fuse_entry_param e;

	fs_entry_fill(m, i, st, &e);
	fs_inode_to_kernel(m, i);
	if (fuse_reply_create(req, &e, fi)) {
		/* The caller was interrupted: no RELEASE and no FORGET will come. */
		h->ops->abandon(h);
		fs_inode_forget(m, i, 1);
	}
}

/* Opens the new file as one of its class. Logs and state files are opened a second time,
 * which the daemon of an ordinary user may not be allowed to: a creator may write to the
 * file by his first descriptor, whatever its mode. */
static int open_new(fuse_req_t req, struct fs_inode *parent, struct fs_inode *i, int fd,
		    const struct stat *st, struct fuse_file_info *fi)
{
	const struct fs_class_ops *ops = fs_class_of(fs_mount_of(req), i);
	cleanup_close int own = fd;
	const mode_t mode = st->st_mode & 07777;
	const bool narrow = fs_mount_of(req)->vault.uid != 0 && (mode & 0600) != 0600;
	int r;

	if (!ops->anew)
		return ops->created(req, i, steal_fd(&own), fi, parent);
	if (!narrow)
		close(steal_fd(&own));
	else if (fchmod(fd, mode | 0600))
		return -errno;
	r = ops->created(req, i, -1, fi, parent);
	if (narrow)
		(void)!fchmod(fd, mode);
	return r;
}

static int open_paid(fuse_req_t req, struct fs_inode *parent, struct fs_inode *i, int fd,
		     const struct stat *st, struct fuse_file_info *fi)
{
	struct fs_account *payer;
	int r = fs_handle_pay(req, i, &payer);

	if (r) {
		close(fd);
		return r;
	}
	r = open_new(req, parent, i, fd, st, fi);
	if (r)
		fs_account_descriptor_close(payer);
	else
		fs_handle_of(fi)->payer = payer;
	return r;
}

static int create(fuse_req_t req, struct fs_inode *parent, int dir, const char *name,
		  mode_t mode, struct fuse_file_info *fi, struct fs_inode **i,
		  struct stat *st)
{
	struct fs_mount *m = fs_mount_of(req);
	cleanup_close int fd = create_as_caller(
	    req, dir, name, (fi->flags & ~O_TRUNC) | O_CREAT | O_EXCL, mode);
	/* Another program has created the file: the kernel is to look again and open
	 * that. */
	int r = fd == -EEXIST && !(fi->flags & O_EXCL) ? -ESTALE : fd < 0 ? fd : 0;
	struct stat made;
	bool known;

	fs_tell_special_bits(req, "create", parent, name, mode, r);
	if (r)
		return r;
	known = !fstat(fd, &made);
	r = adopt_new(m, parent, name, fd, i, st);
	if (!r) {
		r = open_paid(req, parent, *i, steal_fd(&fd), st, fi);
		if (r)
			fs_inode_unref(m, *i);
	}
	if (r)
		take_back(dir, name, S_IFREG, known ? &made : NULL);
	return r;
}

void fs_op_create(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode,
		  struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *parent = fs_inode_of(m, ino);
	struct fs_inode *i;
	struct stat st;
	int flags = fi->flags, r = name_allowed(m, parent, name);
	int dir = r ? r : fs_inode_fd_get(m, parent);

	r = dir < 0 ? dir : create(req, parent, dir, name, mode, fi, &i, &st);
	fs_inode_fd_put(m, parent, dir);
	if (!r)
		fs_generation_created(req, parent, name, flags);
	if (r)
		fuse_reply_err(req, -r);
	else
		reply_created(req, m, i, &st, fi);
}

static int open_tmpfile(fuse_req_t req, struct fs_inode *i, int fd,
			struct fuse_file_info *fi)
{
	struct fs_account *payer;
	int r = fs_handle_pay(req, i, &payer);

	if (r) {
		close(fd);
		return r;
	}
	r = fs_plain_open(req, i, fd, fi, &fs_plain_ops);
	if (r)
		fs_account_descriptor_close(payer);
	else
		fs_handle_of(fi)->payer = payer;
	return r;
}

/* Makes an O_TMPFILE, which is plain; fs_op_link judges it when it gets a name. */
void fs_op_tmpfile(fuse_req_t req, fuse_ino_t ino, mode_t mode, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *parent = fs_inode_of(m, ino);
	cleanup_close int fd = -1;
	struct fs_inode *i;
	struct stat st;
	int dir = parent->state ? -EPERM : fs_inode_fd_get(m, parent);
	int r;

	fd = dir < 0 ? dir : create_as_caller(req, dir, ".", fi->flags | O_TMPFILE, mode);
	fs_inode_fd_put(m, parent, dir);
	r = fd < 0 ? fd : 0;
	if (!r)
		r = adopt_new(m, parent, "", fd, &i, &st);
	if (!r) {
		r = open_tmpfile(req, i, steal_fd(&fd), fi);
		if (r)
			fs_inode_unref(m, i);
	}
	if (r)
		fuse_reply_err(req, -r);
	else
		reply_created(req, m, i, &st, fi);
}
