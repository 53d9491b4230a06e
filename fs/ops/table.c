/* SPDX-License-Identifier: MIT */
/* Fills the table of operations, and passes operations of an open file on to its
 * handle. */
#include "ops/table.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/fuse.h"
#include "names/create.h"
#include "names/link.h"
#include "names/lookup.h"
#include "names/rename.h"
#include "names/unlink.h"
#include "ops/attr.h"
#include "ops/leased.h"
#include "ops/readdir.h"
#include "ops/xattr.h"
#include "plain/plain.h"
#include "rules/config.h"
#include "tree/classes.h"
#include "tree/edition.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/recheck.h"
#include "tree/stale.h"
#include "vault/account.h"
#include "vault/archive.h"
#include "virtual/virtual.h"

/* Bounds requests that no program waits for, RELEASE above all. The kernel's own limit
 * of 12 keeps the others out of the queue, so that when more programs than that are busy
 * closed handles pile up, each with its descriptor. Without the limit all requests are
 * served in their order. */
#define FS_BACKGROUND 65535

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs_mount *m = userdata;

	/* The backing file system decides the modes of new files: a default ACL takes
	 * the place of the umask. */
	conn->want |= conn->capable & FUSE_CAP_DONT_MASK;
	if (m->vault.config.xattr)
		conn->want |= conn->capable & FUSE_CAP_POSIX_ACL;
	/* If a directory with a link in it is moved, the link must be read again. */
	if (m->vault.config.links == JSONL_LINKS_ANY)
		conn->want |= conn->capable & FUSE_CAP_CACHE_SYMLINKS;
	conn->max_background = FS_BACKGROUND;
	conn->congestion_threshold = FS_BACKGROUND;
	fs_plain_negotiate(m, conn);
	fs_archive_expire(&m->vault);
}

/* Opens the file unless its node has lost its class. With tree_lock held for reading, so
 * that no rename comes between the look at the node and the handle. 1: the class opens it
 * without that lock, and asks again when it links the handle. */
static int open_locked(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
		       struct fuse_file_info *fi)
{
	int r;

	if (fs_inode_refuses(i, fi->flags))
		return -ESTALE;
	r = fs_recheck(m, i);
	if (r)
		return r;
	return fs_class_of(m, i)->links ? 1 : fs_class_of(m, i)->open(req, i, fi);
}

static int open_any(fuse_req_t req, struct fs_mount *m, fuse_ino_t ino,
		    struct fuse_file_info *fi)
{
	struct fs_inode *i = fs_inode_of(m, ino);
	int r;

	if (i->state && ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC))
		return -EPERM;
	if (i->virtual)
		return fs_virtual_open(req, i, fi);
	pthread_rwlock_rdlock(&m->tree.lock);
	r = open_locked(req, m, i, fi);
	pthread_rwlock_unlock(&m->tree.lock);
	if (r > 0)
		r = fs_class_of(m, i)->open(req, i, fi);
	if (r)
		return r;
	r = fs_handle_opened_as(fs_handle_of(fi), fs_inode_edition(ino));
	if (r)
		fs_handle_of(fi)->ops->abandon(fs_handle_of(fi));
	return r;
}

static int open_attempt(struct fs_leased *l)
{
	struct fs_mount *m = fs_mount_of(l->req);
	struct fs_inode *i = fs_inode_of(m, l->ino);
	struct fs_account *payer;
	int r = fs_handle_pay(l->req, i, &payer);

	if (r)
		return r;
	r = open_any(l->req, m, l->ino, &l->fi);
	if (r)
		fs_account_descriptor_close(payer);
	else
		fs_handle_of(&l->fi)->payer = payer;
	return r == -EMFILE ? -ENFILE
			    : r; /* the daemon has no descriptor left, not the caller */
}

static void open_answer(struct fs_leased *l, int r)
{
	if (r)
		fuse_reply_err(l->req, r == -ENOLCK ? EAGAIN : -r);
	else if (fuse_reply_open(l->req, &l->fi))
		fs_handle_of(&l->fi)->ops->abandon(fs_handle_of(&l->fi));
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_leased l = {.attempt = open_attempt,
			      .answer = open_answer,
			      .req = req,
			      .ino = ino,
			      .fi = *fi};
	int r = open_attempt(&l);

	if (r != -EWOULDBLOCK || fi->flags & O_NONBLOCK || !fs_leased_park(&l))
		open_answer(&l, r);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct fs_handle *h = fs_handle_of(fi);

	(void)ino;
	h->ops->read(req, h, size, off, fi);
}

static void op_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in,
			 off_t off, struct fuse_file_info *fi)
{
	struct fs_handle *h = fs_handle_of(fi);

	(void)ino;
	if (h->ops->write_buf)
		h->ops->write_buf(req, h, in, off, fi);
	else
		fuse_reply_err(req, EPERM);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_handle *h = fs_handle_of(fi);

	(void)ino;
	if (h->ops->flush)
		h->ops->flush(req, h, fi);
	else
		fuse_reply_err(req, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_handle *h = fs_handle_of(fi);

	(void)ino;
	h->ops->release(req, h, fi);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		     struct fuse_file_info *fi)
{
	struct fs_handle *h = fs_handle_of(fi);

	(void)ino;
	if (h->ops->fsync)
		h->ops->fsync(req, h, datasync, fi);
	else
		fuse_reply_err(req, 0);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	struct fs_handle *h = fs_handle_of(fi);

	(void)ino;
	if (h->ops->fallocate)
		h->ops->fallocate(req, h, mode, off, len, fi);
	else
		fuse_reply_err(req, EPERM);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	struct fs_handle *h = fs_handle_of(fi);

	(void)ino;
	if (h->ops->lseek)
		h->ops->lseek(req, h, off, whence, fi);
	else
		fuse_reply_err(req, EINVAL);
}

static bool is_sealed(struct fs_inode *i)
{
	bool sealed;

	pthread_mutex_lock(&i->lock);
	sealed = i->sealed;
	pthread_mutex_unlock(&i->lock);
	return sealed;
}

/* Copies between handles that lend their descriptor. For others the kernel copies by reads
 * and writes. */
static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			       struct fuse_file_info *fi_in, fuse_ino_t ino_out,
			       off_t off_out, struct fuse_file_info *fi_out, size_t len,
			       int flags)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_caller saved;
	int from = fs_handle_fd(fi_in), to = fs_handle_fd(fi_out);
	ssize_t n;

	if (from < 0 || to < 0) {
		fuse_reply_err(req, EXDEV);
		return;
	}
	n = is_sealed(fs_inode_of(m, ino_out)) ? -EPERM
					       : fs_caller_content(req, to, &saved);
	if (!n) {
		n = copy_file_range(from, &off_in, to, &off_out, len, (unsigned)flags);
		n = n < 0 ? -errno : n;
		fs_caller_restore(&saved);
		if (n > 0)
			fs_plain_changed(req, fs_inode_of(m, ino_out));
	}
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

const struct fuse_lowlevel_ops fs_ops = {
    .init = op_init,
    .lookup = fs_op_lookup,
    .forget = fs_op_forget,
    .forget_multi = fs_op_forget_multi,
    .getattr = fs_op_getattr,
    .setattr = fs_op_setattr,
    .readlink = fs_op_readlink,
    .mknod = fs_op_mknod,
    .mkdir = fs_op_mkdir,
    .symlink = fs_op_symlink,
    .unlink = fs_op_unlink,
    .rmdir = fs_op_rmdir,
    .rename = fs_op_rename,
    .link = fs_op_link,
    .create = fs_op_create,
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
    .tmpfile = fs_op_tmpfile,
#endif
    .open = op_open,
    .read = op_read,
    .write_buf = op_write_buf,
    .flush = op_flush,
    .release = op_release,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
    .lseek = op_lseek,
    .copy_file_range = op_copy_file_range,
    .opendir = fs_op_opendir,
    .readdir = fs_op_readdir,
    .readdirplus = fs_op_readdirplus,
    .releasedir = fs_op_releasedir,
    .fsyncdir = fs_op_fsyncdir,
    .statfs = fs_op_statfs,
    .setxattr = fs_op_setxattr,
    .getxattr = fs_op_getxattr,
    .listxattr = fs_op_listxattr,
    .removexattr = fs_op_removexattr,
    .ioctl = fs_op_ioctl,
};
