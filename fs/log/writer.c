/* SPDX-License-Identifier: MIT */
/* A handle that appends to a log record by record. The rules themselves are the library's
 * (lib/record/, lib/file/); this file turns requests into its calls. */
#include "log/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fuse.h"
#include "base/ident.h"
#include "base/payer.h"
#include "file/file.h"
#include "log/append.h"
#include "log/follow.h"
#include "log/handle.h"
#include "log/openlog.h"
#include "log/reader.h"
#include "log/rewriter.h"
#include "log/truncate.h"
#include "log/version.h"
#include "log/wait.h"
#include "record/writer.h"
#include "rules/config.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "vault/account.h"
#include "vault/denied.h"
#include "vault/staged.h"

/* ---- read ---- */

void fs_writer_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;
	struct fs_openlog *held, *log = fs_follow_hold(g, &held);
	struct fs_mount *m = g->m;

	/* A read from the beginning reads the present log. */
	if (!off)
		fs_reading_go_over(&g->reading);
	fs_log_read(req, log, g->settings, &g->reading, size, off);
	if (held)
		fs_openlog_put(m, held);
}

/* ---- flush and fsync ---- */

void fs_writer_flush_answer(fuse_req_t req, struct fs_log_handle *g, int rc)
{
	if (g->settings->sync != JSONL_SYNC_NONE) {
		fs_log_answer_flush(req, g, rc);
		return;
	}
	fs_follow_flush_ends(g);
	fuse_reply_err(req, -rc);
}

/* Notes the times before a close appends the end of a copy: programs that copy set the
 * times before they close. False: there is nothing to keep. */
static bool copy_begin(struct fs_log_handle *g, struct stat *before)
{
	return jsonl_writer_copies(g->writer) &&
	       fstat(jsonl_file_fd(fs_openlog_file(g->log)), before) == 0;
}

static void copy_end(struct fs_log_handle *g, const struct stat *before)
{
	const struct timespec times[2] = {before->st_atim, before->st_mtim};
	int fd = jsonl_file_fd(fs_openlog_file(g->log));
	struct stat st;

	if (fstat(fd, &st) == 0 && st.st_size != before->st_size)
		(void)!futimens(fd, times);
}

/* Flushes at the expense of the user that opened the file. */
int fs_writer_flush_paid(struct fs_log_handle *g, uint64_t owner, struct fuse_ctx *caller)
{
	struct stat before;
	bool copy = copy_begin(g, &before);
	int rc;

	fs_payer_set(&g->opener);
	rc = jsonl_writer_flush(g->writer, owner, caller);
	fs_payer_clear();
	if (copy)
		copy_end(g, &before);
	return rc;
}

static int flush_step(struct fs_parked *p, bool last)
{
	int rc = fs_writer_flush_paid(p->g, p->owner, &p->caller);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		fs_log_tell_timeout(p->g, "close");
	fs_writer_flush_answer(p->req, p->g, rc);
	return 0;
}

int fs_writer_settle_paid(struct fs_log_handle *g, struct fuse_ctx *caller)
{
	int rc;

	fs_payer_set(&g->opener);
	rc = jsonl_writer_settle(g->writer, caller);
	fs_payer_clear();
	return rc;
}

static void writer_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;
	struct fs_parked proto = {
	    .step = flush_step,
	    .owner = fi->lock_owner,
	    .closes = 1,
	    .caller = *fuse_req_ctx(req)};
	int rc;

	fs_follow_flush_begins(g);
	rc = fs_writer_flush_paid(g, fi->lock_owner, &proto.caller);
	if (g->appends)
		fs_log_node(g->base.inode)->one_each = g->appends == 1;
	if (rc != -EAGAIN || !fs_log_park(g, req, &proto, NULL, 0))
		fs_writer_flush_answer(req, g, rc);
}

static int fsync_step(struct fs_parked *p, bool last)
{
	int rc = fs_writer_settle_paid(p->g, &p->caller);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		fs_log_tell_timeout(p->g, "fsync");
	fs_log_answer_durable(p->req, p->g, true, 0, rc);
	return 0;
}

/* Ends an fsync. `rc`: the result of the steps before. */
void fs_writer_fsync_end(fuse_req_t req, struct fs_log_handle *g, int rc)
{
	struct fs_parked proto = {.step = fsync_step, .caller = *fuse_req_ctx(req)};

	if (rc != -EAGAIN || !fs_log_park(g, req, &proto, NULL, 0))
		fs_log_answer_durable(req, g, true, 0, rc);
}

static void writer_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			 struct fuse_file_info *fi)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;

	struct fuse_ctx caller = *fuse_req_ctx(req);

	g->synced = true;
	fs_writer_fsync_end(req, g, fs_writer_settle_paid(g, &caller));
}

/* ---- release ---- */

void fs_writer_free(struct fs_log_handle *g, bool linked)
{
	struct fs_mount *m = g->m;

	if (g->appended && !g->synced)
		fs_ident_closed_without_sync(&m->vault.stats, &g->idents);
	jsonl_writer_free(g->writer);
	fs_reading_go_over(&g->reading);
	fs_follow_free(g);
	if (g->kind->free)
		g->kind->free(g);
	if (linked)
		fs_handle_unlink(m, &g->base);
	fs_openlog_put(m, g->log);
	fs_account_close(&m->vault, g->account);
	free(g);
}

/* Releases the unfinished records of all owners. *committed: some of them have been
 * appended. */
int fs_writer_release_paid(struct fs_log_handle *g, bool last, bool *committed)
{
	struct stat before;
	bool copy = copy_begin(g, &before);
	int rc;

	fs_payer_set(&g->opener);
	rc = jsonl_writer_release(g->writer, last, committed);
	fs_payer_clear();
	if (copy)
		copy_end(g, &before);
	return rc;
}

/* Makes durable what RELEASE has committed: no program is left that could ask for it. */
void fs_writer_close_durably(struct fs_log_handle *g)
{
	/* A failure is logged by the file's own report. */
	if (g->settings->sync != JSONL_SYNC_NONE)
		(void)!jsonl_file_sync(fs_openlog_file(g->log),
				       jsonl_writer_user(g->writer));
}

static int writer_close(struct fs_log_handle *g, bool last)
{
	bool committed = false;
	int rc = fs_writer_release_paid(g, last, &committed);

	/* When the session ends no close will come to sync what is written. */
	if (!rc && (committed || last))
		fs_writer_close_durably(g);
	return rc;
}

static int close_any(struct fs_log_handle *g, bool last)
{
	int rc = g->kind->close(g, last);

	if (!rc)
		fs_writer_free(g, true);
	return rc;
}

static int release_step(struct fs_parked *p, bool last)
{
	return close_any(p->g, last);
}

void fs_writer_release(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;
	struct fs_parked proto = {.step = release_step};

	/* The kernel does not wait for the answer to a RELEASE, so it may come first. */
	fuse_reply_err(req, 0);
	if (close_any(g, false) == -EAGAIN && !fs_log_park(g, NULL, &proto, NULL, 0))
		close_any(g, true);
}

void fs_writer_abandon(struct fs_handle *h)
{
	close_any((struct fs_log_handle *)h, true);
}

/* ---- the rest ---- */

void fs_writer_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			 off_t len, struct fuse_file_info *fi)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;
	char path[PATH_MAX];
	off_t visible;

	if (mode == FALLOC_FL_KEEP_SIZE) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (!mode && !jsonl_file_visible(fs_openlog_file(g->log), &visible) &&
	    off + len <= visible) {
		fuse_reply_err(req, 0);
		return;
	}
	/* Not EOPNOTSUPP: glibc would emulate it with scattered one-byte writes. */
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	fs_denied(req, "fallocate", path, "a log grows by appending records only");
	fuse_reply_err(req, EPERM);
}

/* Truncates the file. Where a log may be written anew, this is how that begins. */
int fs_writer_truncate(fuse_req_t req, struct fs_handle *h, off_t size)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;
	off_t visible;
	int rc;

	if (jsonl_writer_ends_at(g->writer, size))
		return 0;
	if (fs_rewrite_mode(g) == JSONL_REWRITE_DENY)
		return 1;
	rc = jsonl_file_visible(fs_openlog_file(g->log), &visible);
	if (rc || size >= visible)
		return rc ? rc : 1;
	/* A copytruncate is allowed here, too. */
	rc = fs_log_truncate(req, h->inode, size, true);
	if (rc != -EPERM)
		return rc;
	rc = fs_rewrite_begin(g, fuse_req_ctx(req), size, true);
	/* The handle has the rewriter's table now. */
	return rc ? rc : fs_staged_truncate(req, &g->rewrite->staged, size);
}

void fs_writer_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;
	struct fs_openlog *held, *log = fs_follow_hold(g, &held);
	struct fs_mount *m = g->m;

	fs_log_lseek(req, log, &g->reading, off, whence);
	if (held)
		fs_openlog_put(m, held);
}

bool fs_writer_stay(struct fs_handle *h, void *version)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;

	return (h->flags & O_ACCMODE) == O_RDWR &&
	       fs_reading_stay(&g->reading, version, &g->m->vault, g->opener.uid);
}

bool fs_writer_join(struct fs_handle *h, struct fs_handle *other)
{
	return fs_reading_join(&((struct fs_log_handle *)h)->reading, other);
}

bool fs_writer_stat(struct fs_handle *h, struct stat *st)
{
	return fs_reading_stat(&((struct fs_log_handle *)h)->reading, st);
}

static const struct fs_handle_ops writer_ops = {
    .read = fs_writer_read,
    .write_buf = fs_log_append,
    .flush = writer_flush,
    .release = fs_writer_release,
    .fsync = writer_fsync,
    .fallocate = fs_writer_fallocate,
    .lseek = fs_writer_lseek,
    .truncate = fs_writer_truncate,
    .stay = fs_writer_stay,
    .join = fs_writer_join,
    .stat = fs_writer_stat,
    .abandon = fs_writer_abandon,
};

/* Returns true for a file without any byte, visible or hidden. */
static bool is_empty(struct jsonl_file *file)
{
	struct stat st;

	return fstat(jsonl_file_fd(file), &st) == 0 && !st.st_size;
}

/* A handle that writes an empty file from its beginning may write a copy. */
static int writer_open(fuse_req_t req, struct fs_inode *i, struct fs_log_handle *g,
		       struct jsonl_writer_options *opt)
{
	opt->copy = !(g->base.flags & O_APPEND) && is_empty(fs_openlog_file(g->log));
	return 0;
}

const struct fs_log_kind fs_writer_kind = {
    .ops = &writer_ops,
    .size = sizeof(struct fs_log_handle),
    .open = writer_open,
    .close = writer_close,
    .follows = true,
};
