/* SPDX-License-Identifier: MIT */
#include "text/textlog.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/cleanup.h"
#include "base/fuse.h"
#include "base/ident.h"
#include "base/process.h"
#include "base/reply.h"
#include "block/raw.h"
#include "block/stage.h"
#include "log/staged_block.h"
#include "plain/plain.h"
#include "rules/config.h"
#include "text/reader.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/handles.h"
#include "tree/hold.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/notify.h"
#include "tree/path.h"
#include "vault/deferred.h"
#include "vault/account.h"
#include "vault/named.h"
#include "vault/vault.h"

struct textlog {
	/* First: cast back. Its descriptor has no O_APPEND: each write has the flag. */
	struct fs_plain_handle plain;
	const struct jsonl_settings *settings;
	struct fs_account *account;
	int dir_fd; /* directory of a new file, until it is synced; or -1 */
	pthread_mutex_t lock;
	struct fs_transaction block; /* its stage under lock, as `idents` */
	struct fs_known known;	     /* the processes whose program is known */
	struct fs_ident_ring idents;
};

static struct textlog *textlog_of(struct fs_handle *h)
{
	return (struct textlog *)h;
}

/* ---- the block ---- */

/* Makes the name of a new file durable before its first block is reported to be. */
static int directory_sync(struct textlog *t)
{
	if (t->dir_fd < 0)
		return 0;
	if (fsync(t->dir_fd))
		return -errno;
	close(steal_fd(&t->dir_fd));
	return 0;
}

/* Appends the staged block, under t->lock and, in shared mode, flock. 0, or -errno with
 * the block staged still, unless it is in the file. */
static int commit_held(struct textlog *t)
{
	struct fs_inode *i = t->plain.base.inode;
	struct fs_mount *m = t->plain.m;
	struct fs_text_node *node = fs_text_node(i);
	struct fs_caller saved;
	struct stat st;
	bool stays;
	int rc;

	if (fstat(t->plain.fd, &st))
		return -errno;
	/* An editor has replaced the file: nobody would find the block. */
	if (!st.st_nlink)
		return -ESTALE;
	rc = directory_sync(t);
	if (rc)
		return rc;
	rc = fs_caller_pay(&t->block.ids, &saved);
	if (rc)
		return rc;
	pthread_mutex_lock(&node->appends);
	rc = jsonl_raw_append(m->vault.io, t->plain.fd, t->block.stage,
			      t->settings->sync != JSONL_SYNC_NONE, &node->readers,
			      &stays);
	pthread_mutex_unlock(&node->appends);
	fs_caller_restore(&saved);
	if (rc && stays) {
		/* Not tried again: it would be there twice. */
		(void)fs_transaction_set_aside(&t->block, i, t->plain.fd, rc, false);
		(void)!jsonl_stage_discard(t->block.stage);
	}
	if (rc)
		return rc;
	if (t->block.ids.uid != 0)
		(void)fs_caller_clear_privileges(t->plain.fd);
	m->vault.stats.transactions++;
	fs_ident_transactions(&t->idents, 1, 0);
	fs_attributes_changed(m, i);
	/* If that fails the next mount finds the stage, and that the file ends with
	 * it. */
	(void)!jsonl_stage_discard(t->block.stage);
	return 0;
}

/* Commits the block. Under t->lock. */
static int textlog_commit(struct textlog *t)
{
	struct fs_mount *m = t->plain.m;
	int rc;

	if (!jsonl_stage_length(t->block.stage))
		return 0;
	rc = fs_hold_fd(m, t->plain.fd);
	if (rc)
		return rc;
	rc = commit_held(t);
	fs_hold_end(m, t->plain.fd);
	return rc;
}

static int text_class_recover(struct fs_mount *m, const struct jsonl_settings *settings,
			      const char *path, struct jsonl_stage *stage)
{
	cleanup_close int fd = fs_open_beneath(&m->vault, path, O_RDWR | O_NONBLOCK);

	return fd < 0 ? fd : jsonl_raw_recover(m->vault.io, fd, stage);
}

/* ---- what a handle does ---- */

/* Counts for the writers report. Under t->lock, during a WRITE: then the program may be
 * asked for. */
static void note_writer(fuse_req_t req, struct textlog *t, size_t bytes)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fs_ident *who = fs_ident_find(&t->idents, ctx->pid);
	struct fs_mount *m = t->plain.m;
	char path[PATH_MAX];

	if (!who) {
		fs_path_of(m, t->plain.base.inode, path, sizeof(path));
		who = fs_ident_add(&t->idents, &m->vault.stats, ctx->pid, ctx->uid, path);
	}
	who->stats->bytes += bytes;
	m->vault.stats.bytes += bytes;
}

static void textlog_write_buf(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			      off_t off, struct fuse_file_info *fi)
{
	struct textlog *t = textlog_of(h);
	cleanup_free char *copy = NULL;
	const char *bytes;
	ssize_t n;

	if (!(fi->flags & O_APPEND)) {
		fs_plain_write_buf(req, h, in, off, fi);
		return;
	}
	if (fs_named_write(req, h, &t->known, in, off, fi, textlog_write_buf))
		return;
	n = fs_request_bytes(in, &bytes, &copy);
	if (n >= 0) {
		struct iovec iov = {.iov_base = (void *)bytes, .iov_len = (size_t)n};
		int rc;

		pthread_mutex_lock(&t->lock);
		rc = jsonl_stage_add(t->block.stage, &iov, 1);
		if (!rc)
			note_writer(req, t, iov.iov_len);
		pthread_mutex_unlock(&t->lock);
		n = rc ? rc : n;
	}
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

static bool is_staged(struct textlog *t)
{
	bool staged;

	pthread_mutex_lock(&t->lock);
	staged = jsonl_stage_length(t->block.stage) != 0;
	pthread_mutex_unlock(&t->lock);
	return staged;
}

static void flush_staged(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	struct textlog *t = textlog_of(h);
	bool ends;
	int rc = 0;

	(void)fi;
	if (is_staged(t)) {
		/* A program that is killed has written what it has written. */
		ends = fs_transaction_closing(&t->block, &t->plain.base,
					      fuse_req_ctx(req)) != FS_CLOSING_MORE;
		pthread_mutex_lock(&t->lock);
		if (ends)
			rc = textlog_commit(t);
		else if (t->settings->sync != JSONL_SYNC_NONE)
			rc = jsonl_stage_sync(t->block.stage);
		pthread_mutex_unlock(&t->lock);
	}
	fuse_reply_err(req, -rc);
}

static void textlog_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	if (is_staged(textlog_of(h)))
		fs_defer_request(&fs_mount_of(req)->vault, req, h, fi, flush_staged);
	else
		fuse_reply_err(req, 0);
}

static void textlog_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			  struct fuse_file_info *fi)
{
	struct textlog *t = textlog_of(h);
	int rc;

	(void)fi;
	pthread_mutex_lock(&t->lock);
	rc = jsonl_stage_sync(t->block.stage);
	pthread_mutex_unlock(&t->lock);
	if (!rc && (datasync ? fdatasync(t->plain.fd) : fsync(t->plain.fd)))
		rc = -errno;
	fuse_reply_err(req, -rc);
}

/* Appends first what was written before: it belongs to the content that is cut. */
static int textlog_truncate(fuse_req_t req, struct fs_handle *h, off_t size)
{
	struct textlog *t = textlog_of(h);
	int rc;

	(void)req;
	(void)size;
	pthread_mutex_lock(&t->lock);
	rc = textlog_commit(t);
	pthread_mutex_unlock(&t->lock);
	return rc ? rc : 1;
}

static void textlog_free(struct textlog *t)
{
	fs_transaction_end(&t->block);
	if (t->account)
		fs_account_close(&t->plain.m->vault, t->account);
	pthread_mutex_destroy(&t->lock);
	if (t->plain.fd >= 0)
		close(t->plain.fd);
	if (t->dir_fd >= 0)
		close(t->dir_fd);
	free(t);
}

static void textlog_abandon(struct fs_handle *h)
{
	struct textlog *t = textlog_of(h);
	int rc;

	pthread_mutex_lock(&t->lock);
	rc = textlog_commit(t);
	if (rc) {
		(void)fs_transaction_set_aside(&t->block, h->inode, t->plain.fd, rc,
					       true);
		(void)!jsonl_stage_discard(t->block.stage);
	}
	pthread_mutex_unlock(&t->lock);
	fs_handle_unlink(t->plain.m, h);
	textlog_free(t);
}

static void textlog_release(fuse_req_t req, struct fs_handle *h,
			    struct fuse_file_info *fi)
{
	(void)fi;
	textlog_abandon(h);
	fuse_reply_err(req, 0);
}

static const struct fs_handle_ops textlog_ops = {
    .read = fs_text_read,
    .write_buf = textlog_write_buf,
    .flush = textlog_flush,
    .release = textlog_release,
    .fsync = textlog_fsync,
    .fallocate = fs_plain_fallocate,
    .lseek = fs_plain_lseek,
    .fd = fs_plain_fd,
    .truncate = textlog_truncate,
    .abandon = textlog_abandon,
};

/* ---- open ---- */

int fs_text_open(fuse_req_t req, struct fs_inode *i, int fd, struct fuse_file_info *fi,
		 struct fs_inode *created_in)
{
	struct fs_mount *m = fs_mount_of(req);
	struct textlog *t;
	int rc;

	fi->direct_io = 1;
	fs_text_begin(i);
	if (!(fi->flags & O_APPEND) || (fi->flags & O_ACCMODE) == O_RDONLY)
		return fs_text_open_reader(req, i, fd, fi);
	t = calloc(1, sizeof(*t));
	if (!t) {
		close(fd);
		return -ENOMEM;
	}
	pthread_mutex_init(&t->lock, NULL);
	t->plain.base.ops = &textlog_ops;
	t->plain.base.flags = fi->flags;
	t->plain.m = m;
	t->plain.fd = fd;
	t->dir_fd = -1;
	t->settings = fs_settings_of(m, i);
	rc = fs_account_open(&m->vault, fuse_req_ctx(req)->uid, &t->account);
	if (!rc)
		rc = t->settings ? fs_transaction_begin(req, i, m->vault.io, t->account,
							&t->block)
				 : -ENOMEM;
	if (!rc && created_in && t->settings->sync != JSONL_SYNC_NONE) {
		t->dir_fd = fs_inode_open(m, created_in, O_RDONLY | O_DIRECTORY);
		rc = t->dir_fd < 0 ? t->dir_fd : 0;
	}
	/* A file that was just created has nothing to lose. */
	if (!rc && (fi->flags & (O_TRUNC | O_CREAT)) == O_TRUNC)
		rc = fs_plain_truncate(req, i, fd, fi->flags);
	if (rc) {
		textlog_free(t);
		return rc;
	}
	fs_plain_clear_flags(fd, fi->flags);
	fs_handle_link(m, &t->plain.base, i);
	fi->fh = (uintptr_t)&t->plain.base;
	return 0;
}

static bool text_fix_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st)
{
	bool written;

	pthread_mutex_lock(&i->lock);
	written = i->readers && i->writers;
	pthread_mutex_unlock(&i->lock);
	return written;
}

static int text_class_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi)
{
	int fd = fs_inode_open(fs_mount_of(req), i, fi->flags);

	return fd < 0 ? fd : fs_text_open(req, i, fd, fi, NULL);
}

static int text_class_created(fuse_req_t req, struct fs_inode *i, int fd,
			      struct fuse_file_info *fi, struct fs_inode *dir)
{
	return fs_text_open(req, i, fd, fi, dir);
}

const struct fs_class_ops fs_text_class = {
    .node_size = sizeof(struct fs_text_node),
    .open = text_class_open,
    .created = text_class_created,
    .begun = fs_plain_begun,
    .fix_stat = text_fix_stat,
    .saved_by_rename = true,
    .through_daemon = true,
    .recover = text_class_recover,
    .unframed = true,
    .inode_free = fs_plain_inode_free,
};
