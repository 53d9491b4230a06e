/* Handles of governed files: what open, read, write, flush, fsync and release mean there.
 * The rules themselves are the library's (writer.c, file.c); this file turns requests
 * into its calls. */
#include "governed.h"
#include "rewrite.h"
#include "transaction.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

/* What FUSE sends at most in one WRITE: a longer write(2) arrives in pieces of this size.
 */
#define GOVERNED_MAX_REQUEST (1u << 20)

static struct governed *governed_of(struct fs_handle *h)
{
	return (struct governed *)h;
}

/* ---- write ---- */

static void write_denied(fuse_req_t req, struct governed *g, int verdict)
{
	char path[PATH_MAX];

	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	fs_denied(req, "write", path, jsonl_error_text(verdict));
}

/* Content changed by an ordinary user carries no privilege any more, as chmod(2) and
 * capabilities(7) have it. The kernel leaves that to us with direct I/O. */
static void clear_privileges(int fd)
{
	struct stat st;
	mode_t mode;

	if (fstat(fd, &st) < 0)
		return;
	mode = st.st_mode & 07777;
	if (mode & S_ISUID)
		mode &= ~(mode_t)S_ISUID;
	if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
		mode &= ~(mode_t)S_ISGID;
	if (mode != (st.st_mode & 07777) && fchmod(fd, mode) < 0)
		FS_LOG(LOG_ERR, (uid_t)-1, "privileges-kept", FS_INT("inode", st.st_ino),
		       FS_STR("reason", jsonl_error_text(-errno)));
	if (mode & (S_IXUSR | S_IXGRP | S_IXOTH))
		fremovexattr(fd, "security.capability");
}

/* Open, append one record, close: is that how this file is written, and is nobody else
 * about to append whom the same sync could serve? Then it need not wait for the FLUSH. */
static bool closes_soon(struct governed *g)
{
	struct fs_inode *i = g->base.inode;
	bool alone;

	if (g->settings->sync != JSONL_SYNC_CLOSE || g->appends != 1 || !i->one_each)
		return false;
	pthread_mutex_lock(&i->lock);
	alone = i->writers == 1;
	pthread_mutex_unlock(&i->lock);
	return alone;
}

static void write_answer(fuse_req_t req, struct governed *g,
			 const struct fuse_ctx *caller, size_t len, int rc)
{
	struct jsonl_file *file = fs_shared_file(g->shared);
	struct fs_mount *m = g->m;
	bool durable = !rc && g->sync_each; /* that one sees to a sync by itself */
	/* Once this request is answered the handle may go, while we still lead. */
	struct fs_shared *lead = !durable && jsonl_file_wants_sync(file, closes_soon(g))
				     ? fs_shared_ref(g->shared)
				     : NULL;

	fs_governed_blocked(g, rc == -EAGAIN);
	if (rc == -EPERM)
		write_denied(req, g, JSONL_MISPLACED);
	else if (rc == -EUCLEAN)
		write_denied(req, g, JSONL_UNKNOWN_TAIL);
	if (!rc && caller->uid != 0)
		clear_privileges(jsonl_file_fd(file));
	if (durable)
		fs_governed_answer_durable(req, g, false, len, 0);
	else
		fs_governed_answer(req, len, rc);
	if (lead) {
		jsonl_file_lead(file);
		fs_shared_put(m, lead);
	}
}

/* jsonl_writer_write at the expense of whoever writes. */
static int write_paid(struct governed *g, uint64_t owner, struct fuse_ctx *caller,
		      bool append, off_t off, const char *data, size_t len)
{
	const struct fs_ids ids = {caller->uid, caller->gid};
	int rc;

	fs_payer_set(g->m, &ids);
	rc = jsonl_writer_write(g->writer, owner, caller, append, off, data, len);
	fs_payer_clear();
	return rc;
}

static int write_step(struct fs_parked *p, bool last)
{
	int rc =
	    write_paid(p->g, p->owner, &p->caller, p->append, p->off, p->data, p->len);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		fs_governed_log_timeout(p->g, "write");
	write_answer(p->req, p->g, &p->caller, p->len, rc);
	return 0;
}

static void rewrite_from(fuse_req_t req, struct governed *g, const char *data, size_t len,
			 off_t off, struct fuse_file_info *fi)
{
	struct fuse_bufvec in = FUSE_BUFVEC_INIT(len);
	int rc = fs_rewrite_begin(g, fuse_req_ctx(req), off, false);

	in.buf[0].mem = (void *)data;
	if (rc)
		fuse_reply_err(req, -rc);
	else
		fs_rewrite_write(req, g, &in, off, fi);
}

static void write_bytes(fuse_req_t req, struct governed *g, const char *data, size_t len,
			off_t off, struct fuse_file_info *fi)
{
	struct fuse_ctx caller = *fuse_req_ctx(req);
	bool append = fi->flags & O_APPEND;
	int rc;

	if (append)
		fs_follow_name(req, g);
	rc = write_paid(g, fi->lock_owner, &caller, append, off, data, len);
	if (rc == -EPERM && !append && fs_rewrite_mode(g) == JSONL_REWRITE_ARCHIVE) {
		/* Into the middle: that is a new content, too. */
		rewrite_from(req, g, data, len, off, fi);
		return;
	}
	if (rc == -EAGAIN) {
		struct fs_parked proto = {.step = write_step,
					  .caller = caller,
					  .owner = fi->lock_owner,
					  .append = append,
					  .off = off};

		if (fs_governed_park(g, req, &proto, data, len))
			return;
	}
	write_answer(req, g, &caller, len, rc);
}

static void governed_write_buf(fuse_req_t req, struct fs_handle *h,
			       struct fuse_bufvec *in, off_t off,
			       struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	size_t len = fuse_buf_size(in);
	struct fuse_bufvec flat = FUSE_BUFVEC_INIT(len);
	cleanup_free char *copy = NULL;
	ssize_t got;

	if (!g->writer) {
		fuse_reply_err(req, EBADF);
		return;
	}
	if (g->rewrite) {
		fs_rewrite_write(req, g, in, off, fi);
		return;
	}
	if (in->count == 1 && !(in->buf[0].flags & FUSE_BUF_IS_FD)) {
		write_bytes(req, g, in->buf[0].mem, len, off, fi);
		return;
	}
	copy = malloc(len ? len : 1);
	if (!copy) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	flat.buf[0].mem = copy;
	got = fuse_buf_copy(&flat, in, 0);
	if (got < 0)
		fuse_reply_err(req, (int)-got);
	else
		write_bytes(req, g, copy, (size_t)got, off, fi);
}

/* ---- read ---- */

static void governed_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
			  struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	struct fs_mount *m = g->m;
	struct fs_shared *shared, *held;
	struct jsonl_file *file;
	off_t visible;
	int rc;

	if (g->rewrite) {
		fs_reply_read(req, g->rewrite->staged.fd, size, off);
		return;
	}
	shared = fs_follow_hold(g, &held);
	file = fs_shared_file(shared);
	rc = jsonl_file_visible(file, &visible);
	if (!rc && off + (off_t)size >= visible &&
	    fs_rewrite_mode(g) != JSONL_REWRITE_DENY)
		fs_rewrite_seen(g, shared, fuse_req_ctx(req)->pid, visible);
	if (!rc && off < visible && (uint64_t)(visible - off) < size)
		size = (size_t)(visible - off);
	if (rc)
		fuse_reply_err(req, -rc);
	else if (off >= visible)
		fuse_reply_buf(req, NULL, 0);
	else
		fs_reply_read(req, jsonl_file_fd(file), size, off);
	if (held)
		fs_shared_put(m, held);
}

/* ---- flush and fsync ---- */

static void flush_answer(fuse_req_t req, struct governed *g, int rc)
{
	if (g->settings->sync != JSONL_SYNC_NONE) {
		fs_governed_answer_flush(req, g, rc);
		return;
	}
	fs_follow_flush_ends(g);
	fuse_reply_err(req, -rc);
}

/* The close that ends a transaction: what it reports is the commit's error first. */
static int commit_step(struct fs_parked *p, bool last)
{
	int rc = fs_transaction_commit(p->g);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		fs_governed_log_timeout(p->g, "close");
	flush_answer(p->req, p->g, rc ? rc : p->off ? -EBADMSG : 0);
	return 0;
}

/* `rc`: of the writer's flush. */
static void flush_transaction(fuse_req_t req, struct governed *g, int rc)
{
	struct fs_parked proto = {.step = commit_step, .off = rc == -EBADMSG};
	int failed = 0;

	if (fs_transaction_ends(g, fuse_req_ctx(req)->pid, &rc))
		failed = fs_transaction_commit(g);
	if (failed != -EAGAIN || !fs_governed_park(g, req, &proto, NULL, 0))
		flush_answer(req, g, failed ? failed : rc);
}

/* What an owner left unfinished belongs to the one who opened the file. */
static int flush_paid(struct governed *g, uint64_t owner)
{
	int rc;

	fs_payer_set(g->m, &g->opener);
	rc = jsonl_writer_flush(g->writer, owner);
	fs_payer_clear();
	return rc;
}

static int flush_step(struct fs_parked *p, bool last)
{
	int rc = flush_paid(p->g, p->owner);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		fs_governed_log_timeout(p->g, "close");
	flush_answer(p->req, p->g, rc);
	return 0;
}

static void governed_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	struct fs_parked proto = {.step = flush_step, .owner = fi->lock_owner};
	int rc = 0;

	if (!g->writer) {
		fuse_reply_err(req, 0);
		return;
	}
	if (g->rewrite) {
		fs_rewrite_flush(req, g);
		return;
	}
	fs_follow_flush_begins(g);
	rc = flush_paid(g, fi->lock_owner);
	if (g->transaction) {
		flush_transaction(req, g, rc);
		return;
	}
	if (g->appends)
		g->base.inode->one_each = g->appends == 1;
	if (rc != -EAGAIN || !fs_governed_park(g, req, &proto, NULL, 0))
		flush_answer(req, g, rc);
}

static int settle_paid(struct governed *g)
{
	int rc;

	fs_payer_set(g->m, &g->opener);
	rc = jsonl_writer_settle(g->writer);
	fs_payer_clear();
	return rc;
}

static int fsync_step(struct fs_parked *p, bool last)
{
	int rc = settle_paid(p->g);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		fs_governed_log_timeout(p->g, "fsync");
	fs_governed_answer_durable(p->req, p->g, true, 0, rc);
	return 0;
}

static void governed_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			   struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	struct fs_parked proto = {.step = fsync_step};
	int rc = 0;

	g->synced = true;
	if (g->rewrite) {
		fs_rewrite_fsync(req, g);
		return;
	}
	if (g->writer)
		rc = settle_paid(g);
	if (g->transaction && !rc)
		rc = jsonl_writer_stage_sync(g->writer);
	if (rc != -EAGAIN || !fs_governed_park(g, req, &proto, NULL, 0))
		fs_governed_answer_durable(req, g, true, 0, rc);
}

/* ---- release ---- */

static void governed_free(struct governed *g)
{
	struct fs_mount *m = g->m;

	if (g->writer && g->appended && !g->synced)
		fs_ident_closed_without_sync(&m->stats, &g->idents);
	jsonl_writer_free(g->writer);
	fs_follow_free(g);
	fs_transaction_close(g);
	fs_rewrite_end(g);
	fs_handle_unlink(m, &g->base);
	fs_shared_put(m, g->shared);
	fs_account_close(m, g->account);
	free(g);
}

/* What RELEASE commits has nobody left who could ask for it to be made durable. */
static int governed_close(struct governed *g, bool last)
{
	bool committed = false;
	int rc = g->rewrite ? fs_rewrite_release(g, last) : 0;

	if (!rc && g->writer) {
		fs_payer_set(g->m, &g->opener);
		rc = jsonl_writer_release(g->writer, last, &committed);
		fs_payer_clear();
	}
	if (!rc && g->transaction)
		rc = fs_transaction_release(g, last);
	if (rc)
		return rc;
	/* A session that ends has no close for what is written and not synced yet. */
	if ((committed || g->transaction || (last && g->writer)) &&
	    g->settings->sync != JSONL_SYNC_NONE) {
		/* A failure is logged by the file's own report. */
		rc = jsonl_file_sync(fs_shared_file(g->shared),
				     jsonl_writer_user(g->writer));
		(void)rc;
	}
	governed_free(g);
	return 0;
}

static int release_step(struct fs_parked *p, bool last)
{
	return governed_close(p->g, last);
}

static void governed_release(fuse_req_t req, struct fs_handle *h,
			     struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	struct fs_parked proto = {.step = release_step};

	/* Nobody waits for the answer of a RELEASE: it may come first. */
	fuse_reply_err(req, 0);
	if (governed_close(g, false) == -EAGAIN &&
	    !fs_governed_park(g, NULL, &proto, NULL, 0))
		governed_close(g, true);
}

static void governed_abandon(struct fs_handle *h)
{
	struct governed *g = governed_of(h);

	if (g->rewrite)
		fs_staged_abandon(&g->rewrite->staged);
	if (g->transaction)
		fs_transaction_abandon(g);
	governed_close(g, true);
}

/* ---- the rest ---- */

static void governed_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			       off_t len, struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	char path[PATH_MAX];
	off_t visible;

	if (mode == FALLOC_FL_KEEP_SIZE || g->rewrite) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (!mode && !jsonl_file_visible(fs_shared_file(g->shared), &visible) &&
	    off + len <= visible) {
		fuse_reply_err(req, 0);
		return;
	}
	/* Not EOPNOTSUPP: glibc would emulate it with scattered one-byte writes. */
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	fs_denied(req, "fallocate", path, "a log grows by appending records only");
	fuse_reply_err(req, EPERM);
}

/* ftruncate: where the log may be written anew, that is how it begins. */
static int governed_truncate(fuse_req_t req, struct fs_handle *h, off_t size)
{
	struct governed *g = governed_of(h);
	off_t visible;
	int rc;

	rc = g->transaction && !g->rewrite ? fs_transaction_truncate(g, size) : 1;
	if (rc <= 0)
		return rc;
	if (!g->rewrite) {
		if (!g->writer || fs_rewrite_mode(g) == JSONL_REWRITE_DENY)
			return 1;
		rc = jsonl_file_visible(fs_shared_file(g->shared), &visible);
		if (rc || size >= visible)
			return rc ? rc : 1;
		/* A copytruncate is one here, too. */
		rc = fs_governed_truncate(req, h->inode, size, true);
		if (rc != -EPERM)
			return rc;
		rc = fs_rewrite_begin(g, fuse_req_ctx(req), size, true);
		if (rc)
			return rc;
	}
	return fs_staged_truncate(req, &g->rewrite->staged, size);
}

static bool governed_size(struct fs_handle *h, off_t *size)
{
	struct governed *g = governed_of(h);

	if (!g->rewrite)
		return false;
	*size = fs_staged_size(&g->rewrite->staged);
	return true;
}

/* A log has no holes that a reader should know of. */
static void governed_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
			   struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	struct fs_shared *held;
	off_t visible;
	int rc = 0;

	if (!governed_size(h, &visible)) {
		rc = jsonl_file_visible(fs_shared_file(fs_follow_hold(g, &held)),
					&visible);
		if (held)
			fs_shared_put(g->m, held);
	}
	if (rc || off < 0 || off >= visible)
		fuse_reply_err(req, rc ? -rc : ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? off : visible);
}

static int governed_fd(struct fs_handle *h)
{
	return -1;
}

static const struct fs_handle_ops governed_ops = {
    .read = governed_read,
    .write_buf = governed_write_buf,
    .flush = governed_flush,
    .release = governed_release,
    .fsync = governed_fsync,
    .fallocate = governed_fallocate,
    .lseek = governed_lseek,
    .fd = governed_fd,
    .truncate = governed_truncate,
    .size = governed_size,
    .abandon = governed_abandon,
};

/* ---- open ---- */

static int open_allowed(fuse_req_t req, const struct jsonl_settings *settings,
			const char *path, int flags, off_t visible)
{
	if ((flags & O_TRUNC) && visible > 0 &&
	    ((flags & O_ACCMODE) == O_RDONLY ||
	     settings->rewrite == JSONL_REWRITE_DENY)) {
		fs_denied(
		    req, "open with O_TRUNC", path,
		    "it would throw recorded lines away; append (>>), or rotate the "
		    "file by renaming it");
		return -EPERM;
	}
	if (settings->append == JSONL_APPEND_STRICT && (flags & O_ACCMODE) != O_RDONLY &&
	    !(flags & O_APPEND)) {
		fs_denied(req, "open without O_APPEND", path, "append=strict");
		return -EPERM;
	}
	return 0;
}

static int open_writer(struct governed *g, off_t visible)
{
	const struct jsonl_settings *s = g->settings;
	struct jsonl_writer_options opt = {
	    .limits = s->limits,
	    .onbad = s->onbad,
	    .max_request = GOVERNED_MAX_REQUEST,
	    .stage = g->transaction ? g->transaction->stage : NULL,
	};

	g->sync_each =
	    s->sync == JSONL_SYNC_WRITE || (g->base.flags & (O_DSYNC | O_SYNC));
	opt.settle_each = g->sync_each;
	return jsonl_writer_new(fs_shared_file(g->shared), &opt, &fs_governed_events, g,
				visible, &g->writer);
}

static int open_directory(struct fs_mount *m, struct governed *g, struct fs_inode *dir)
{
	int fd = fs_inode_open(m, dir, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return fd;
	jsonl_file_set_directory(fs_shared_file(g->shared), fd,
				 jsonl_writer_user(g->writer));
	return 0;
}

/* The name of a log without a record may be as new as if we had made it: whose open has
 * made it may have failed behind that. */
static int open_directory_of(struct fs_mount *m, struct governed *g, struct fs_inode *i)
{
	cleanup_free char *name = NULL;
	struct jsonl_file_state state;
	struct fs_inode *dir;
	int rc;

	jsonl_file_get_state(fs_shared_file(g->shared), &state);
	if (state.poisoned)
		return 0; /* by that sync: it is tried again before the first record */
	rc = fs_inode_place(m, i, &dir, &name);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	rc = open_directory(m, g, dir);
	fs_inode_unref(m, dir);
	return rc;
}

int fs_governed_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi,
		     struct fs_inode *created_in)
{
	struct fs_mount *m = fs_mount_of(req);
	bool write = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct governed *g = calloc(1, sizeof(*g));
	char path[PATH_MAX];
	off_t visible;
	int rc;

	if (!g)
		return -ENOMEM;
	fs_path_of(m, i, path, sizeof(path));
	g->settings = jsonl_policy_settings(m->policy, path);
	if (!g->settings) {
		free(g);
		return -ENOMEM;
	}
	g->m = m;
	g->opener = fs_caller_ids(req);
	g->base.ops = &governed_ops;
	g->base.flags = fi->flags;
	rc = fs_account_open(m, fuse_req_ctx(req)->uid, &g->account);
	if (!rc)
		rc = fs_shared_get(m, i, write, &g->shared);
	if (rc) {
		fs_account_close(m, g->account);
		free(g);
		return rc;
	}
	rc = fs_account_file(m, g->account, &g->shared->payer);
	if (!rc)
		rc = jsonl_file_visible(fs_shared_file(g->shared), &visible);
	if (!rc)
		rc = open_allowed(req, g->settings, path, fi->flags, visible);
	if (!rc && write && g->settings->commit == JSONL_COMMIT_CLOSE)
		rc = fs_transaction_open(req, g, i);
	if (!rc && write)
		rc = open_writer(g, visible);
	if (!rc && write && g->settings->sync != JSONL_SYNC_NONE) {
		if (created_in)
			rc = open_directory(m, g, created_in);
		else if (!visible)
			rc = open_directory_of(m, g, i);
	}
	if (!rc)
		g->base.inode = i; /* for its path; fs_handle_link makes it right */
	if (!rc && (fi->flags & O_TRUNC) && visible > 0)
		rc = fs_rewrite_begin(g, fuse_req_ctx(req), 0, true);
	if (rc) {
		jsonl_writer_free(g->writer);
		fs_transaction_close(g);
		fs_shared_put(m, g->shared);
		fs_account_close(m, g->account);
		free(g);
		return rc;
	}
	fs_handle_link(m, &g->base, i);
	/* A transaction belongs to the file that it was begun on. */
	if (write && (fi->flags & O_APPEND) && !g->transaction &&
	    g->settings->follow == JSONL_FOLLOW_PATH)
		rc = fs_follow_new(g);
	if (rc) {
		governed_free(g);
		return rc;
	}
	fi->fh = (uintptr_t)&g->base;
	/* Readers too: beside a direct writer, cached readers see NULs and half records.
	 */
	fi->direct_io = 1;
	return 0;
}
