/* SPDX-License-Identifier: MIT */
/* Serves open plain files, where the kernel does not read and write the backing file by
 * itself (opens.h). */
#include "plain/plain.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/kind.h"
#include "base/reply.h"
#include "plain/opens.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/listing.h"
#include "tree/mount.h"
#include "tree/notify.h"

static struct fs_plain_handle *plain_of(struct fs_handle *h)
{
	return (struct fs_plain_handle *)h;
}

/* ---- what a handle does ---- */

void fs_plain_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		   struct fuse_file_info *fi)
{
	(void)fi;
	fs_reply_read(req, plain_of(h)->fd, size, off);
}

static ssize_t write_all(int fd, struct fuse_bufvec *in, off_t off, bool append)
{
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	struct iovec iov;
	ssize_t n;

	/* Pages written back from a mapping have an offset even if the handle appends.
	 * So the flag of the request decides, and the descriptor has no O_APPEND. */
	if (append && in->count == 1 && !(in->buf[0].flags & FUSE_BUF_IS_FD)) {
		iov = (struct iovec){in->buf[0].mem, in->buf[0].size};
		n = pwritev2(fd, &iov, 1, 0, RWF_APPEND);
		return n < 0 ? -errno : n;
	}
	out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	out.buf[0].fd = fd;
	out.buf[0].pos = off;
	return fuse_buf_copy(&out, in, 0);
}

/* Returns true for an O_TMPFILE that was linked to the name of a log: its content has
 * been judged, and the descriptor that made it must not change it any more. */
static bool is_sealed(struct fs_handle *h)
{
	bool sealed;

	pthread_mutex_lock(&h->inode->lock);
	sealed = h->inode->sealed;
	pthread_mutex_unlock(&h->inode->lock);
	return sealed;
}

/* Takes on the ids for pages of a mapping, which the kernel writes back at any time with
 * nobody's ids. They clear no suid, but blocks for holes are charged. */
static int pay_for_pages(struct fs_handle *h, struct fs_caller *saved)
{
	struct fs_ids mapper = fs_plain_mapper(h->inode);

	return fs_caller_pay(&mapper, saved);
}

void fs_plain_changed(fuse_req_t req, struct fs_inode *i)
{
	struct fs_plain_node *node = fs_plain_node(i);

	if (fuse_req_ctx(req)->uid != 0 && atomic_load(&node->special) &&
	    atomic_exchange(&node->special, false))
		fs_attributes_changed(fs_mount_of(req), i);
}

void fs_plain_write_buf(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			off_t off, struct fuse_file_info *fi)
{
	struct fs_caller saved;
	ssize_t n = is_sealed(h)    ? -EPERM
		    : fi->writepage ? pay_for_pages(h, &saved)
				    : fs_caller_content(req, plain_of(h)->fd, &saved);

	if (!n) {
		n = write_all(plain_of(h)->fd, in, off,
			      !fi->writepage && fi->flags & O_APPEND);
		fs_caller_restore(&saved);
		fs_plain_changed(req, h->inode);
	}
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

void fs_plain_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	int copy = dup(plain_of(h)->fd);

	(void)fi;
	/* Some file systems report failed writes when a descriptor is closed. */
	fuse_reply_err(req, copy < 0 || close(copy) == 0 ? 0 : errno);
}

void fs_plain_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
		    struct fuse_file_info *fi)
{
	(void)fi;
	fs_reply_sync(req, plain_of(h)->fd, datasync);
}

void fs_plain_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			off_t len, struct fuse_file_info *fi)
{
	struct fs_caller saved;
	int r = is_sealed(h) ? EPERM : -fs_caller_content(req, plain_of(h)->fd, &saved);

	(void)fi;
	if (!r) {
		r = fallocate(plain_of(h)->fd, mode, off, len) ? errno : 0;
		fs_caller_restore(&saved);
		fs_plain_changed(req, h->inode);
	}
	fuse_reply_err(req, r);
}

void fs_plain_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
		    struct fuse_file_info *fi)
{
	off_t at = lseek(plain_of(h)->fd, off, whence);

	(void)fi;
	if (at < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, at);
}

int fs_plain_fd(struct fs_handle *h)
{
	return plain_of(h)->fd;
}

static void plain_end(fuse_req_t req, struct fs_plain_handle *p)
{
	fs_plain_leave(req, p->base.inode, &p->place);
	fs_handle_unlink(p->m, &p->base);
	close(p->fd);
	free(p);
}

void fs_plain_release(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	(void)fi;
	plain_end(req, plain_of(h));
	fuse_reply_err(req, 0);
}

void fs_plain_abandon(struct fs_handle *h)
{
	plain_end(NULL, plain_of(h));
}

const struct fs_handle_ops fs_plain_ops = {.read = fs_plain_read, FS_PLAIN_OPS_BUT_READ};

/* ---- open ---- */

/* Truncates as the caller would: suid and sgid go, quotas count. O_TRUNC works without
 * O_WRONLY, too. */
int fs_plain_truncate(fuse_req_t req, struct fs_inode *i, int fd, int flags)
{
	cleanup_close int writable = -1;
	struct fs_caller saved;
	struct stat st;
	int r;

	if ((flags & O_ACCMODE) == O_RDONLY) {
		fd = writable = fs_inode_open(fs_mount_of(req), i, O_WRONLY);
		if (fd < 0)
			return fd;
	}
	r = fs_caller_content(req, fd, &saved);
	if (r)
		return r;
	if (ftruncate(fd, 0))
		r = -errno;
	fs_caller_restore(&saved);
	/* Uses the file's own time: our clock differs from that of files by up to a
	 * tick, so that earlier changes would seem to be later. */
	if (!r && !fstat(fd, &st))
		fs_plain_node(i)->begun =
		    (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
	return r;
}

/* Clears O_DIRECT, because what is served from here comes in pieces of any length; and
 * O_APPEND, because a program can switch it off: each write has the flag. A file that
 * may only be appended to keeps it. */
void fs_plain_clear_flags(int fd, int flags)
{
	if (flags & (O_DIRECT | O_APPEND))
		fcntl(fd, F_SETFL, flags & ~(O_DIRECT | O_APPEND));
}

/* Returns true when closing this file reports nothing. On network file systems close may
 * report failed writes, and make bytes visible to others. */
static bool closes_silently(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs_kind_of(&fs)->local;
}

int fs_plain_open(fuse_req_t req, struct fs_inode *i, int fd, struct fuse_file_info *fi,
		  const struct fs_handle_ops *ops)
{
	cleanup_close int own = fd;
	cleanup_free struct fs_plain_handle *p = calloc(1, sizeof(*p));
	struct stat st;
	int r = p ? 0 : -ENOMEM;

	/* A file that was just created has nothing to lose. */
	if (!r && (fi->flags & (O_TRUNC | O_CREAT)) == O_TRUNC)
		r = fs_plain_truncate(req, i, fd, fi->flags);
	if (!r && fstat(fd, &st))
		r = -errno;
	if (r)
		return r;
	if (st.st_mode & (S_ISUID | S_ISGID))
		atomic_store(&fs_plain_node(i)->special, true);
	p->base.ops = ops;
	p->base.flags = fi->flags;
	p->m = fs_mount_of(req);
	p->fd = fd;
	r = fs_plain_join(req, i, fd, &st, fi, &p->place);
	if (r)
		return r;
	if (p->place.mappable) /* from here on it is not kept */
		fs_attributes_changed(p->m, i);
	fs_plain_clear_flags(fd, fi->flags);
	/* Pages of a mapping may still hold what was written through us. */
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY ||
		      (p->place.through && closes_silently(fd));
	fs_handle_link(p->m, &p->base, i);
	if ((fi->flags & O_ACCMODE) != O_WRONLY && !fi->keep_cache)
		fs_listing_opened(p->m, i);
	fi->fh = (uintptr_t)&p->base;
	steal_fd(&own);
	steal_ptr(&p);
	return 0;
}

int64_t fs_plain_begun(const struct fs_inode *i)
{
	return fs_plain_node(i)->begun;
}

void fs_plain_inode_free(struct fs_inode *i)
{
	free(fs_plain_node(i)->state);
}

void fs_plain_note_change(struct fs_inode *i)
{
	atomic_store(&fs_plain_node(i)->special, true);
}

/* Returns true for a file that may be mapped: a store to a mapping of the backing file
 * changes its times without a request. */
static bool plain_fix_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st)
{
	return m->tree.passthrough && i->type == S_IFREG && fs_plain_is_mapped(i);
}

static int plain_class_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi)
{
	int fd = fs_inode_open(fs_mount_of(req), i, fi->flags);

	return fd < 0 ? fd : fs_plain_open(req, i, fd, fi, &fs_plain_ops);
}

static int plain_class_created(fuse_req_t req, struct fs_inode *i, int fd,
			       struct fuse_file_info *fi, struct fs_inode *dir)
{
	return fs_plain_open(req, i, fd, fi, &fs_plain_ops);
}

const struct fs_class_ops fs_plain_class = {
    .node_size = sizeof(struct fs_plain_node),
    .open = plain_class_open,
    .created = plain_class_created,
    .note_change = fs_plain_note_change,
    .begun = fs_plain_begun,
    .fix_stat = plain_fix_stat,
    .inode_free = fs_plain_inode_free,
};
