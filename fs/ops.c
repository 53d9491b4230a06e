/* The table of operations, and the dispatch of what an open file does to its handle. */
#include "ops.h"
#include "reload.h"
#include "statefile.h"
#include "textlog.h"

#include <fcntl.h>

/* Requests that nobody waits for, RELEASE above all. The kernel's own limit of 12 lets no
 * more of them into the queue, so that with more programs than that at work closed
 * handles pile up, each with its descriptor. Without it the queue is first come, first
 * served. */
#define FS_BACKGROUND 65535

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs_mount *m = userdata;

	/* Modes of new files are the backing file system's matter: a default ACL takes
	 * the place of the umask. */
	conn->want |= conn->capable & FUSE_CAP_DONT_MASK;
	if (m->config.xattr)
		conn->want |= conn->capable & FUSE_CAP_POSIX_ACL;
	conn->want |= conn->capable & FUSE_CAP_CACHE_SYMLINKS;
	conn->max_background = FS_BACKGROUND;
	conn->congestion_threshold = FS_BACKGROUND;
	fs_plain_negotiate(m, conn);
}

/* Is the node still of the class that its file has? Called with the tree locked for
 * reading, so that no rename comes between the answer and the handle. */
static int open_plain(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
		      struct fuse_file_info *fi)
{
	bool stale;
	int fd, r;

	pthread_mutex_lock(&i->lock);
	stale = i->stale &&
		!(i->seized && (fi->flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY);
	pthread_mutex_unlock(&i->lock);
	if (stale)
		return -ESTALE;
	r = fs_reload_check(m, i);
	if (r)
		return r;
	if (i->class == JSONL_CLASS_GOVERNED)
		return 0;
	if (i->class == JSONL_CLASS_REPLACE)
		return fs_statefile_open(req, i, fi, false);
	fd = fs_inode_open(m, i, fi->flags);
	if (fd >= 0 && i->class == JSONL_CLASS_TEXT)
		return fs_textlog_open(req, i, fd, fi, NULL);
	return fd < 0 ? fd : fs_plain_open(req, i, fd, fi);
}

static int open_any(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
		    struct fuse_file_info *fi)
{
	int r;

	if (i->state && ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC))
		return -EPERM;
	if (i->virtual)
		return fs_state_open(req, i, fi);
	pthread_rwlock_rdlock(&m->tree_lock);
	r = open_plain(req, m, i, fi);
	pthread_rwlock_unlock(&m->tree_lock);
	if (!r && i->class == JSONL_CLASS_GOVERNED)
		r = fs_governed_open(req, i, fi, NULL);
	return r;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	int r = open_any(req, m, i, fi);

	if (r)
		fuse_reply_err(req, -r);
	else if (fuse_reply_open(req, fi))
		fs_handle_of(fi)->ops->abandon(fs_handle_of(fi));
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

/* Between plain files alone; from or to others the kernel copies by reads and writes. */
static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			       struct fuse_file_info *fi_in, fuse_ino_t ino_out,
			       off_t off_out, struct fuse_file_info *fi_out, size_t len,
			       int flags)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_caller saved;
	int from = fs_handle_fd(fi_in), to = fs_handle_fd(fi_out);
	ssize_t n;

	if (from < 0 || to < 0 || fs_inode_of(m, ino_in)->class == JSONL_CLASS_GOVERNED ||
	    fs_inode_of(m, ino_out)->class == JSONL_CLASS_GOVERNED) {
		fuse_reply_err(req, EXDEV);
		return;
	}
	n = is_sealed(fs_inode_of(m, ino_out)) ? -EPERM
					       : fs_caller_content(req, to, &saved);
	if (!n) {
		n = copy_file_range(from, &off_in, to, &off_out, len, (unsigned)flags);
		n = n < 0 ? -errno : n;
		fs_caller_restore(&saved);
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
