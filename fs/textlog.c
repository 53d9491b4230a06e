#include "textlog.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "account.h"
#include "inode.h"
#include "ident.h"
#include "ops.h"
#include "transaction.h"

#define TEXTLOG_LOCKS 16
#define TEXTLOG_CHUNK (64u << 10) /* bytes compared at once */

struct textlog {
	struct fs_handle base; /* first: cast back */
	struct fs_mount *m;
	const struct jsonl_settings *settings;
	struct fs_account *account;
	int fd;	    /* without O_APPEND, which goes by each write */
	int dir_fd; /* of a file that was made just now, until it is synced; or -1 */
	pthread_mutex_t lock;
	struct fs_transaction block; /* its stage under lock, as the next two */
	size_t charged;		     /* of its memory, to the account */
	struct fs_ident_ring idents;
};

/* One block of a file at a time, so that a short one can be cut back. By inode number;
 * taken inside textlog->lock. */
static pthread_mutex_t block_locks[TEXTLOG_LOCKS] = {[0 ... TEXTLOG_LOCKS - 1] =
							 PTHREAD_MUTEX_INITIALIZER};

static struct textlog *textlog_of(struct fs_handle *h)
{
	return (struct textlog *)h;
}

/* ---- the block ---- */

/* By one write: nobody else's bytes get between those of one, whoever takes no lock.
 * `stays`: the block could not be made durable, and not be taken out of the file again
 * either. */
static int block_append(int fd, const struct iovec *block, bool durable, bool *stays)
{
	struct iovec iov = *block;
	struct stat before, after;
	ssize_t n;
	int rc;

	*stays = false;
	if (fstat(fd, &before))
		return -errno;
	do
		n = pwritev2(fd, &iov, 1, 0, RWF_APPEND);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if ((size_t)n < iov.iov_len)
		rc = -ENOSPC;
	else if (!durable || fdatasync(fd) == 0)
		return 0;
	else
		rc = -errno;
	/* All or nothing, unless somebody has come behind it. */
	if (fstat(fd, &after) || after.st_size != before.st_size + n ||
	    ftruncate(fd, before.st_size)) {
		*stays = (size_t)n == iov.iov_len;
		rc = *stays ? rc : -EIO;
	}
	return rc;
}

static int stage_append(int fd, ino_t ino, struct jsonl_stage *stage, bool durable,
			bool *stays)
{
	pthread_mutex_t *lock = &block_locks[ino % TEXTLOG_LOCKS];
	struct fs_stage_map map;
	struct iovec iov;
	int rc = fs_transaction_map(stage, &map, &iov);

	*stays = false;
	if (!rc) {
		pthread_mutex_lock(lock);
		rc = block_append(fd, &iov, durable, stays);
		pthread_mutex_unlock(lock);
	}
	fs_transaction_unmap(&map);
	return rc;
}

/* So that a block that is said to be safe has a name. */
static int directory_sync(struct textlog *t)
{
	if (t->dir_fd < 0)
		return 0;
	if (fsync(t->dir_fd))
		return -errno;
	close(steal_fd(&t->dir_fd));
	return 0;
}

/* Under t->lock. */
static int textlog_commit(struct textlog *t)
{
	struct fs_caller saved;
	struct stat st;
	bool stays;
	int rc;

	if (!jsonl_stage_length(t->block.stage))
		return 0;
	if (fstat(t->fd, &st))
		return -errno;
	/* An editor has put another file in its place: nobody would find the block. */
	if (!st.st_nlink)
		return -ESTALE;
	rc = directory_sync(t);
	if (rc)
		return rc;
	rc = fs_caller_pay(t->m, &t->block.ids, &saved);
	if (rc)
		return rc;
	rc = stage_append(t->fd, t->block.ino, t->block.stage,
			  t->settings->sync != JSONL_SYNC_NONE, &stays);
	fs_caller_restore(&saved);
	if (rc && stays) {
		/* Not once more: it would be there twice. */
		(void)fs_transaction_set_aside(&t->block, t->base.inode, t->fd, rc,
					       false);
		(void)!jsonl_stage_discard(t->block.stage);
	}
	if (rc)
		return rc;
	t->m->stats.transactions++;
	fs_ident_transactions(&t->idents, 1, 0);
	fs_attributes_changed(t->m, t->base.inode);
	/* If that fails the next mount finds it, and that the file ends with it. */
	(void)!jsonl_stage_discard(t->block.stage);
	return 0;
}

/* Does the file end with these bytes? 1, 0 or -errno. */
static int ends_with(const struct jsonl_io *io, int fd, const struct iovec *iov)
{
	cleanup_free char *buf = malloc(TEXTLOG_CHUNK);
	struct stat st;

	if (!buf || fstat(fd, &st))
		return buf ? -errno : -ENOMEM;
	if (st.st_size < (off_t)iov->iov_len)
		return 0;
	for (size_t off = 0; off < iov->iov_len; off += TEXTLOG_CHUNK) {
		size_t len = iov->iov_len - off;
		ssize_t got;

		if (len > TEXTLOG_CHUNK)
			len = TEXTLOG_CHUNK;
		got = jsonl_io_read_full(io, fd, buf, len,
					 st.st_size - (off_t)(iov->iov_len - off));
		if (got < 0)
			return (int)got;
		if ((size_t)got < len ||
		    memcmp(buf, (const char *)iov->iov_base + off, len) != 0)
			return 0;
	}
	return 1;
}

int fs_textlog_recover(struct fs_mount *m, const char *path, struct jsonl_stage *stage)
{
	cleanup_close int fd = fs_open_beneath(m, path, O_RDWR | O_NONBLOCK);
	struct fs_stage_map map;
	struct iovec iov;
	bool stays;
	int rc = fd < 0 ? fd : fs_transaction_map(stage, &map, &iov);

	if (fd < 0)
		return rc;
	if (!rc)
		rc = ends_with(m->io, fd, &iov);
	if (!rc)
		rc = block_append(fd, &iov, true, &stays);
	else if (rc > 0)
		rc = fdatasync(fd) ? -errno : 0; /* nobody may have waited for that */
	fs_transaction_unmap(&map);
	return rc;
}

/* ---- memory; under t->lock ---- */

/* Tells of what the stage has given back. */
static void memory_settle(struct textlog *t)
{
	size_t now = jsonl_stage_memory(t->block.stage);

	if (now < t->charged &&
	    fs_account_charge(t->m, t->account, (int64_t)now - (int64_t)t->charged) == 0)
		t->charged = now;
}

static int memory_add(struct textlog *t, const struct iovec *iov)
{
	int rc;

	/* Beyond that a file takes it. */
	if (jsonl_stage_length(t->block.stage) + iov->iov_len <= JSONL_STAGE_MEMORY) {
		rc = fs_account_charge(t->m, t->account, (int64_t)iov->iov_len);
		if (rc)
			return rc;
		t->charged += iov->iov_len;
	}
	rc = jsonl_stage_add(t->block.stage, iov, 1);
	memory_settle(t);
	return rc;
}

/* ---- what a handle does ---- */

static void textlog_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
			 struct fuse_file_info *fi)
{
	(void)fi;
	fs_reply_read(req, textlog_of(h)->fd, size, off);
}

/* A program that has switched O_APPEND off writes where it says. */
static int write_at(fuse_req_t req, struct textlog *t, const struct iovec *iov, off_t off)
{
	struct fs_caller saved;
	ssize_t n;
	int rc = fs_caller_content(req, t->fd, &saved);

	if (rc)
		return rc;
	n = pwritev(t->fd, iov, 1, off);
	rc = n < 0 ? -errno : (int)n;
	fs_caller_restore(&saved);
	return rc;
}

/* Counts for the writers report. Under t->lock; for a WRITE alone: its program may be
 * looked at. */
static void note_writer(fuse_req_t req, struct textlog *t, size_t bytes)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fs_ident *who = fs_ident_find(&t->idents, ctx->pid);
	char path[PATH_MAX];

	if (!who) {
		fs_path_of(t->m, t->base.inode, path, sizeof(path));
		who = fs_ident_add(&t->idents, &t->m->stats, ctx->pid, ctx->uid, path);
	}
	who->stats->bytes += bytes;
	t->m->stats.bytes += bytes;
}

static void textlog_write_buf(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			      off_t off, struct fuse_file_info *fi)
{
	struct textlog *t = textlog_of(h);
	struct fuse_bufvec flat = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	cleanup_free char *copy = NULL;
	struct iovec iov = {.iov_len = fuse_buf_size(in)};
	ssize_t n = (ssize_t)iov.iov_len;

	if (in->count == 1 && !(in->buf[0].flags & FUSE_BUF_IS_FD)) {
		iov.iov_base = in->buf[0].mem;
	} else {
		iov.iov_base = flat.buf[0].mem = copy = malloc(iov.iov_len);
		n = copy ? fuse_buf_copy(&flat, in, 0) : -ENOMEM;
	}
	if (n >= 0 && !(fi->flags & O_APPEND)) {
		n = write_at(req, t, &iov, off);
	} else if (n >= 0) {
		int rc;

		pthread_mutex_lock(&t->lock);
		rc = memory_add(t, &iov);
		if (!rc)
			note_writer(req, t, iov.iov_len);
		pthread_mutex_unlock(&t->lock);
		n = rc ? rc : (ssize_t)iov.iov_len;
	}
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

static void textlog_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	struct textlog *t = textlog_of(h);
	bool staged, ends;
	int rc = 0;

	(void)fi;
	pthread_mutex_lock(&t->lock);
	staged = jsonl_stage_length(t->block.stage) != 0;
	pthread_mutex_unlock(&t->lock);
	if (staged) {
		/* What a signal ends has written what it has written. */
		ends = fs_transaction_closing(&t->block, t->base.flags,
					      fuse_req_ctx(req)->pid) != FS_CLOSING_MORE;
		pthread_mutex_lock(&t->lock);
		if (ends)
			rc = textlog_commit(t);
		else if (t->settings->sync != JSONL_SYNC_NONE)
			rc = jsonl_stage_sync(t->block.stage);
		memory_settle(t);
		pthread_mutex_unlock(&t->lock);
	}
	fuse_reply_err(req, -rc);
}

static void textlog_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			  struct fuse_file_info *fi)
{
	struct textlog *t = textlog_of(h);
	int rc;

	(void)fi;
	pthread_mutex_lock(&t->lock);
	rc = jsonl_stage_sync(t->block.stage);
	memory_settle(t);
	pthread_mutex_unlock(&t->lock);
	if (!rc && (datasync ? fdatasync(t->fd) : fsync(t->fd)))
		rc = -errno;
	fuse_reply_err(req, -rc);
}

static void textlog_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			      off_t len, struct fuse_file_info *fi)
{
	struct textlog *t = textlog_of(h);
	struct fs_caller saved;
	int rc = fs_caller_content(req, t->fd, &saved);

	(void)fi;
	if (!rc) {
		rc = fallocate(t->fd, mode, off, len) ? -errno : 0;
		fs_caller_restore(&saved);
	}
	fuse_reply_err(req, -rc);
}

static void textlog_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
			  struct fuse_file_info *fi)
{
	off_t at = lseek(textlog_of(h)->fd, off, whence);

	(void)fi;
	if (at < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, at);
}

static int textlog_fd(struct fs_handle *h)
{
	return textlog_of(h)->fd;
}

/* What was written before belongs to what is cut. */
static int textlog_truncate(fuse_req_t req, struct fs_handle *h, off_t size)
{
	struct textlog *t = textlog_of(h);
	int rc;

	(void)req;
	(void)size;
	pthread_mutex_lock(&t->lock);
	rc = textlog_commit(t);
	memory_settle(t);
	pthread_mutex_unlock(&t->lock);
	return rc ? rc : 1;
}

static void textlog_free(struct textlog *t)
{
	jsonl_stage_free(t->block.stage);
	if (t->account) {
		(void)!fs_account_charge(t->m, t->account, -(int64_t)t->charged);
		fs_account_close(t->m, t->account);
	}
	pthread_mutex_destroy(&t->lock);
	if (t->fd >= 0)
		close(t->fd);
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
		(void)fs_transaction_set_aside(&t->block, t->base.inode, t->fd, rc, true);
		(void)!jsonl_stage_discard(t->block.stage);
	}
	pthread_mutex_unlock(&t->lock);
	fs_handle_unlink(t->m, h);
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
    .read = textlog_read,
    .write_buf = textlog_write_buf,
    .flush = textlog_flush,
    .release = textlog_release,
    .fsync = textlog_fsync,
    .fallocate = textlog_fallocate,
    .lseek = textlog_lseek,
    .fd = textlog_fd,
    .truncate = textlog_truncate,
    .abandon = textlog_abandon,
};

/* ---- open ---- */

int fs_textlog_open(fuse_req_t req, struct fs_inode *i, int fd, struct fuse_file_info *fi,
		    struct fs_inode *created_in)
{
	struct textlog *t;
	int rc;

	fi->direct_io = 1;
	if (!(fi->flags & O_APPEND) || (fi->flags & O_ACCMODE) == O_RDONLY)
		return fs_plain_open(req, i, fd, fi);
	t = calloc(1, sizeof(*t));
	if (!t) {
		close(fd);
		return -ENOMEM;
	}
	pthread_mutex_init(&t->lock, NULL);
	t->base.ops = &textlog_ops;
	t->base.flags = fi->flags;
	t->m = fs_mount_of(req);
	t->fd = fd;
	t->dir_fd = -1;
	t->settings = fs_settings_of(t->m, i);
	rc = fs_account_open(t->m, fuse_req_ctx(req)->uid, &t->account);
	if (!rc)
		rc = t->settings ? fs_transaction_begin(req, i, t->m->io, &t->block)
				 : -ENOMEM;
	if (!rc && created_in && t->settings->sync != JSONL_SYNC_NONE) {
		t->dir_fd = fs_inode_open(t->m, created_in, O_RDONLY | O_DIRECTORY);
		rc = t->dir_fd < 0 ? t->dir_fd : 0;
	}
	/* A file that was created just now has nothing to lose. */
	if (!rc && (fi->flags & (O_TRUNC | O_CREAT)) == O_TRUNC)
		rc = fs_plain_truncate(req, i, fd, fi->flags);
	if (rc) {
		textlog_free(t);
		return rc;
	}
	fs_plain_clear_flags(fd, fi->flags);
	fs_handle_link(t->m, &t->base, i);
	fi->fh = (uintptr_t)&t->base;
	return 0;
}
