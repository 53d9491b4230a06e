/* SPDX-License-Identifier: MIT */
#include "log/block.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/fuse.h"
#include "base/ident.h"
#include "base/payer.h"
#include "base/process.h"
#include "base/syslog.h"
#include "block/commit.h"
#include "file/file.h"
#include "log/append.h"
#include "log/follow.h"
#include "log/handle.h"
#include "log/intent.h"
#include "log/openlog.h"
#include "log/staged_block.h"
#include "log/wait.h"
#include "log/writer.h"
#include "record/writer.h"
#include "rules/config.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/notify.h"
#include "tree/path.h"
#include "vault/deferred.h"

struct block {
	struct fs_log_handle base; /* first: cast back */
	struct fs_transaction transaction;
};

static struct fs_transaction *transaction_of(struct fs_log_handle *g)
{
	return &((struct block *)g)->transaction;
}

/* ---- beginning and end ---- */

static int block_open(fuse_req_t req, struct fs_inode *i, struct fs_log_handle *g,
		      struct jsonl_writer_options *opt)
{
	struct fs_transaction *t = transaction_of(g);
	int rc = fs_transaction_begin(req, i, &g->m->vault.log_io.io, g->account, t);

	if (!rc)
		opt->stage = t->stage;
	return rc;
}

static void block_free(struct fs_log_handle *g)
{
	struct fs_transaction *t = transaction_of(g);

	fs_ident_transactions(&g->idents, t->done, t->dropped);
	fs_transaction_end(t);
}

/* Calls jsonl_writer_commit at the expense of the user that opened the log. */
static int commit_paid(struct fs_log_handle *g, struct jsonl_transaction *c)
{
	int rc;

	fs_payer_set(&g->opener);
	rc = jsonl_writer_commit(g->writer, c);
	fs_payer_clear();
	return rc;
}

/* Refuses a block in which a line is bad: moves it to the quarantine and returns -errno.
 * 0 if there is none. */
static int transaction_spoiled(struct fs_log_handle *g)
{
	int code = jsonl_writer_spoiled(g->writer);
	uint64_t records, bytes;
	off_t visible;

	if (!code)
		return 0;
	jsonl_writer_staged(g->writer, &records, &bytes);
	if (bytes)
		(void)fs_transaction_set_aside(transaction_of(g), g->base.inode,
					       jsonl_file_fd(fs_openlog_file(g->log)),
					       code, false);
	if (jsonl_file_visible(fs_openlog_file(g->log), &visible))
		visible = 0;
	(void)!jsonl_writer_rollback(g->writer, visible);
	g->m->vault.stats.transactions_dropped++;
	transaction_of(g)->dropped++;
	return -jsonl_error_errno(code);
}

static int transaction_commit(struct fs_log_handle *g)
{
	struct jsonl_transaction c = {.io = g->m->vault.io,
				      .intent = &g->log->intent,
				      .durable = g->settings->sync != JSONL_SYNC_NONE};
	uint64_t records, bytes;
	char path[PATH_MAX];
	int rc;

	rc = transaction_spoiled(g);
	if (rc)
		return rc;
	jsonl_writer_staged(g->writer, &records, &bytes);
	if (!bytes)
		return 0;
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	c.path = path;
	c.ordered =
	    __atomic_load_n(&g->log->intent.fd, __ATOMIC_ACQUIRE) >= 0 && g->log->ordered;
	rc = commit_paid(g, &c);
	if (rc == -EBADF) {
		rc = fs_intent_make(g->m, g->log);
		c.ordered = g->log->ordered;
		if (!rc)
			rc = commit_paid(g, &c);
	}
	if (!rc) {
		g->m->vault.stats.transactions++;
		transaction_of(g)->done++;
		fs_attributes_changed(g->m, g->base.inode);
	}
	return rc;
}

/* Drops the block's records, which is logged and counted. 0 or -errno: after a crash
 * they may be back. */
static int transaction_drop(struct fs_log_handle *g, const char *reason)
{
	uint64_t records, bytes;
	char path[PATH_MAX];
	off_t visible = 0;
	int rc;

	jsonl_writer_staged(g->writer, &records, &bytes);
	if (jsonl_file_visible(fs_openlog_file(g->log), &visible))
		visible = 0;
	rc = jsonl_writer_rollback(g->writer, visible);
	if (!records)
		return rc;
	g->m->vault.stats.transactions_dropped++;
	transaction_of(g)->dropped++;
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	FS_SYSLOG(rc ? LOG_ERR : LOG_NOTICE, transaction_of(g)->ids.uid,
		  "transaction-dropped", FS_STR("path", path), FS_INT("records", records),
		  FS_INT("length", bytes), FS_INT("pid", transaction_of(g)->opener),
		  FS_STR("reason", reason),
		  FS_STR("error", rc ? jsonl_error_text(rc) : ""));
	return rc;
}

static bool transaction_ends(struct fs_log_handle *g, const struct fuse_ctx *caller,
			     int *rc)
{
	struct fs_transaction *t = transaction_of(g);
	enum fs_closing how = fs_transaction_closing(t, &g->base, caller);
	int failed;

	if (how == FS_CLOSING_KILLED && g->settings->killed == JSONL_KILLED_DROP) {
		t->killed = true;
		(void)!transaction_drop(g, "the program was killed");
		return false;
	}
	if (how != FS_CLOSING_MORE)
		return true;
	if (g->settings->sync == JSONL_SYNC_NONE)
		return false;
	failed = jsonl_writer_stage_sync(g->writer);
	if (failed)
		*rc = failed;
	return false;
}

static bool block_set_aside(struct fs_log_handle *g, int code)
{
	return fs_transaction_set_aside(transaction_of(g), g->base.inode,
					jsonl_file_fd(fs_openlog_file(g->log)), code,
					true);
}

static int transaction_release(struct fs_log_handle *g, bool last)
{
	uint64_t records, bytes;
	int rc;

	if (transaction_of(g)->killed && g->settings->killed == JSONL_KILLED_DROP) {
		(void)!transaction_drop(g, "the program was killed");
		return 0;
	}
	rc = transaction_commit(g);
	if (!rc || (rc == -EAGAIN && !last))
		return rc;
	jsonl_writer_staged(g->writer, &records, &bytes);
	if (bytes)
		(void)block_set_aside(g, rc);
	(void)!jsonl_writer_rollback(g->writer, 0);
	return 0;
}

static void transaction_abandon(struct fs_log_handle *g)
{
	uint64_t records, bytes;

	if (g->settings->killed == JSONL_KILLED_COMMIT)
		return;
	jsonl_writer_staged(g->writer, &records, &bytes);
	if (bytes && block_set_aside(g, JSONL_INCOMPLETE))
		(void)!jsonl_writer_rollback(g->writer, 0);
	else
		(void)!transaction_drop(g, "the mount ended before the file was closed");
}

static int transaction_truncate(struct fs_log_handle *g, off_t size)
{
	if (!jsonl_writer_is_begin(g->writer, size))
		return 1;
	return transaction_drop(g, "the program took it back");
}

/* ---- what a handle does ---- */

/* Ends a transaction at its close, which reports an error of the commit first. */
static int commit_step(struct fs_parked *p, bool last)
{
	int rc = transaction_commit(p->g);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		fs_log_tell_timeout(p->g, "close");
	fs_writer_flush_answer(p->req, p->g, rc ? rc : p->off ? -EBADMSG : 0);
	return 0;
}

/* Ends a FLUSH; `rc` is the result of the writer's. */
static void flush_transaction(fuse_req_t req, struct fs_log_handle *g, int rc)
{
	struct fs_parked proto = {
	    .step = commit_step, .off = rc == -EBADMSG, .closes = 1};
	int failed = 0;

	if (transaction_ends(g, fuse_req_ctx(req), &rc))
		failed = transaction_commit(g);
	if (failed != -EAGAIN || !fs_log_park(g, req, &proto, NULL, 0))
		fs_writer_flush_answer(req, g, failed ? failed : rc);
}

static const struct fs_handle_ops block_ops;

static void flush_deferred(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;
	struct fuse_ctx caller = *fuse_req_ctx(req);

	/* It may have become a rewriter meanwhile. */
	if (h->ops != &block_ops) {
		h->ops->flush(req, h, fi);
		return;
	}
	fs_follow_flush_begins(g);
	flush_transaction(req, g, fs_writer_flush_paid(g, fi->lock_owner, &caller));
}

/* Runs in the pool, because it asks about the process that closes. */
static void block_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	fs_defer_request(&fs_mount_of(req)->vault, req, h, fi, flush_deferred);
}

static void block_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			struct fuse_file_info *fi)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;
	struct fuse_ctx caller = *fuse_req_ctx(req);
	int rc;

	g->synced = true;
	rc = fs_writer_settle_paid(g, &caller);
	if (!rc)
		rc = -jsonl_error_errno(jsonl_writer_spoiled(g->writer));
	if (!rc)
		rc = jsonl_writer_stage_sync(g->writer);
	fs_writer_fsync_end(req, g, rc);
}

static int block_close(struct fs_log_handle *g, bool last)
{
	bool committed = false;
	int rc = fs_writer_release_paid(g, last, &committed);

	if (!rc)
		rc = transaction_release(g, last);
	if (!rc)
		fs_writer_close_durably(g);
	return rc;
}

static void block_abandon(struct fs_handle *h)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;

	transaction_abandon(g);
	fs_writer_abandon(h);
}

static int block_truncate(fuse_req_t req, struct fs_handle *h, off_t size)
{
	int rc = transaction_truncate((struct fs_log_handle *)h, size);

	return rc > 0 ? fs_writer_truncate(req, h, size) : rc;
}

static const struct fs_handle_ops block_ops = {
    .read = fs_writer_read,
    .write_buf = fs_log_append,
    .flush = block_flush,
    .release = fs_writer_release,
    .fsync = block_fsync,
    .fallocate = fs_writer_fallocate,
    .lseek = fs_writer_lseek,
    .truncate = block_truncate,
    .stay = fs_writer_stay,
    .join = fs_writer_join,
    .stat = fs_writer_stat,
    .abandon = block_abandon,
};

const struct fs_log_kind fs_block_kind = {
    .ops = &block_ops,
    .size = sizeof(struct block),
    .open = block_open,
    .close = block_close,
    .free = block_free,
};
