/* SPDX-License-Identifier: MIT */
#include "document/editor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/fuse.h"
#include "base/reply.h"
#include "document/commit.h"
#include "document/reader.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/stat.h"
#include "vault/deferred.h"
#include "vault/staged.h"

static const struct fs_handle_ops staged_ops;

static struct fs_document_editor *editor_of(struct fs_handle *h)
{
	return (struct fs_document_editor *)h;
}

/* ---- nothing has been written yet ---- */

int fs_document_begin(struct fs_document_editor *e, const struct fuse_ctx *caller,
		      off_t at, bool cut)
{
	struct fs_document *d = &e->doc;
	pthread_mutex_t *lock = &d->base.inode->lock;
	off_t keep = cut && at < d->version.size ? at : d->version.size;
	struct fs_staged *staged = calloc(1, sizeof(*staged));
	int rc =
	    staged ? fs_staged_init(&d->m->vault, staged, caller, d->fd, keep) : -ENOMEM;

	pthread_mutex_lock(lock);
	if (rc) {
		fs_staged_failed(&e->failed, at, cut, rc);
	} else if (!e->staged) {
		staged->failed = e->failed;
		e->blind = !keep;
		e->staged = staged;
		d->base.ops = &staged_ops;
		staged = NULL;
	}
	pthread_mutex_unlock(lock);
	if (!rc && staged)
		fs_staged_deinit(staged);
	free(staged);
	return rc;
}

static void editor_write_buf(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			     off_t off, struct fuse_file_info *fi)
{
	int rc = fs_document_begin(editor_of(h), fuse_req_ctx(req), off, false);

	if (rc)
		fuse_reply_err(req, -rc);
	else
		h->ops->write_buf(req, h, in, off, fi);
}

static int editor_truncate(fuse_req_t req, struct fs_handle *h, off_t size)
{
	struct fs_document_editor *e = editor_of(h);
	int rc;

	if (size == e->doc.version.size)
		return 0;
	rc = fs_document_begin(e, fuse_req_ctx(req), size, true);
	return rc ? rc : h->ops->truncate(req, h, size);
}

static void no_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			 off_t len, struct fuse_file_info *fi)
{
	fuse_reply_err(req, EOPNOTSUPP);
}

const struct fs_handle_ops fs_document_editor_ops = {
    .read = fs_document_read,
    .write_buf = editor_write_buf,
    .release = fs_document_release,
    .fsync = fs_document_fsync,
    .fallocate = no_fallocate,
    .lseek = fs_document_lseek,
    .truncate = editor_truncate,
    .size = fs_document_size,
    .stay = fs_document_stay,
    .stat = fs_document_stat,
    .abandon = fs_document_abandon,
};

/* ---- something has ---- */

static void staged_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
			struct fuse_file_info *fi)
{
	fs_reply_read(req, editor_of(h)->staged->fd, size, off);
}

static void staged_write_buf(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			     off_t off, struct fuse_file_info *fi)
{
	ssize_t n =
	    fs_staged_write(req, editor_of(h)->staged, in, off, fi->flags & O_APPEND);

	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

static int staged_truncate(fuse_req_t req, struct fs_handle *h, off_t size)
{
	return fs_staged_truncate(req, editor_of(h)->staged, size);
}

static bool staged_size(struct fs_handle *h, off_t *size)
{
	*size = fs_staged_size(editor_of(h)->staged);
	return true;
}

static void staged_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
			 struct fuse_file_info *fi)
{
	fs_document_seek(req, fs_staged_size(editor_of(h)->staged), off, whence);
}

static void flush_deferred(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	struct fs_document_editor *e = editor_of(h);
	ino_t numbers[FS_CLOSING_NUMBERS];
	int rc = 0;

	fs_handle_numbers(h, numbers);
	if (fs_staged_closes(&e->doc.m->vault, e->staged, fuse_req_ctx(req), numbers,
			     h->flags)) {
		pthread_mutex_lock(&e->staged->lock);
		if (e->staged->dirty)
			rc = fs_document_commit(e, false);
		pthread_mutex_unlock(&e->staged->lock);
	}
	fuse_reply_err(req, -rc);
}

/* Runs in the pool, because it asks about the process that closes. */
static void staged_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	fs_defer_request(&editor_of(h)->doc.m->vault, req, h, fi, flush_deferred);
}

static void staged_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			 struct fuse_file_info *fi)
{
	struct fs_document_editor *e = editor_of(h);
	int rc = 0;

	pthread_mutex_lock(&e->staged->lock);
	if (e->staged->dirty)
		rc = fs_document_commit(e, true);
	pthread_mutex_unlock(&e->staged->lock);
	fuse_reply_err(req, -rc);
}

static void staged_end(struct fs_document_editor *e)
{
	struct fs_staged *staged = e->staged;

	pthread_mutex_lock(&staged->lock);
	/* If no program gets the error of this close, the log has it. */
	if (staged->dirty && staged->killed)
		(void)!fs_document_refuse(e, -ECANCELED, 0, "rewrite-abandoned",
					  "the file is as it was");
	else if (staged->dirty)
		(void)!fs_document_commit(e, false);
	pthread_mutex_unlock(&staged->lock);
	fs_staged_deinit(staged);
	free(staged);
	fs_document_free(&e->doc);
}

static void staged_release(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	staged_end(editor_of(h));
	fuse_reply_err(req, 0);
}

static void staged_abandon(struct fs_handle *h)
{
	struct fs_document_editor *e = editor_of(h);

	fs_staged_abandon(e->staged);
	staged_end(e);
}

static const struct fs_handle_ops staged_ops = {
    .read = staged_read,
    .write_buf = staged_write_buf,
    .flush = staged_flush,
    .release = staged_release,
    .fsync = staged_fsync,
    .fallocate = no_fallocate,
    .lseek = staged_lseek,
    .truncate = staged_truncate,
    .size = staged_size,
    .abandon = staged_abandon,
};
