/* SPDX-License-Identifier: MIT */
/* Turns a WRITE to a log into records (lib/record/). The answer comes when they are in
 * the file, or when the wait for a lock held outside has ended. */
#include "log/append.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/caller.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/payer.h"
#include "base/reply.h"
#include "file/file.h"
#include "log/follow.h"
#include "log/handle.h"
#include "log/openlog.h"
#include "log/rewriter.h"
#include "log/version.h"
#include "log/wait.h"
#include "record/writer.h"
#include "rules/config.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/notify.h"
#include "tree/path.h"
#include "vault/denied.h"
#include "vault/named.h"

static void write_denied(fuse_req_t req, struct fs_log_handle *g, int verdict)
{
	char path[PATH_MAX];

	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	fs_denied(req, "write", path, jsonl_error_text(verdict));
}

/* Returns true when programs use this file by opening it, appending one record and
 * closing it, and no other program is about to append whose record the same sync could
 * make durable. Then the sync need not wait for the FLUSH. */
static bool closes_soon(struct fs_log_handle *g)
{
	struct fs_inode *i = g->base.inode;
	bool alone;

	if (g->settings->sync != JSONL_SYNC_CLOSE || g->appends != 1 ||
	    !fs_log_node(i)->one_each)
		return false;
	pthread_mutex_lock(&i->lock);
	alone = i->writers == 1;
	pthread_mutex_unlock(&i->lock);
	return alone;
}

static void write_answer(fuse_req_t req, struct fs_log_handle *g,
			 const struct fuse_ctx *caller, size_t len, int rc)
{
	struct jsonl_file *file = fs_openlog_file(g->log);
	struct fs_mount *m = g->m;
	bool durable = !rc && g->sync_each; /* answered after a sync of its own */
	/* The handle may be freed once the request is answered, while we still lead the
	 * sync. */
	struct fs_openlog *lead = !durable && jsonl_file_wants_sync(file, closes_soon(g))
				      ? fs_openlog_ref(g->log)
				      : NULL;

	fs_log_blocked(g, rc == -EAGAIN);
	if (rc == -EPERM)
		write_denied(req, g, JSONL_MISPLACED);
	else if (rc == -EUCLEAN)
		write_denied(req, g, JSONL_UNKNOWN_TAIL);
	if (!rc && caller->uid != 0 && fs_caller_clear_privileges(jsonl_file_fd(file)))
		fs_attributes_changed(m, g->base.inode);
	if (durable)
		fs_log_answer_durable(req, g, false, len, 0);
	else
		fs_log_answer(req, len, rc);
	if (lead) {
		jsonl_file_lead(file);
		fs_openlog_put(m, lead);
	}
}

/* Calls jsonl_writer_write at the expense of the caller. */
static int write_paid(struct fs_log_handle *g, uint64_t owner, struct fuse_ctx *caller,
		      bool append, off_t off, const char *data, size_t len)
{
	const struct fs_ids ids = {caller->uid, caller->gid};
	int rc;

	fs_payer_set(&ids);
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
		fs_log_tell_timeout(p->g, "write");
	write_answer(p->req, p->g, &p->caller, p->len, rc);
	return 0;
}

static void rewrite_from(fuse_req_t req, struct fs_log_handle *g, const char *data,
			 size_t len, off_t off, struct fuse_file_info *fi)
{
	struct fuse_bufvec in = FUSE_BUFVEC_INIT(len);
	int rc = fs_rewrite_begin(g, fuse_req_ctx(req), off, false);

	in.buf[0].mem = (void *)data;
	if (rc)
		fuse_reply_err(req, -rc);
	else
		fs_rewrite_write(req, g, &in, off, fi);
}

static void write_bytes(fuse_req_t req, struct fs_log_handle *g, const char *data,
			size_t len, off_t off, struct fuse_file_info *fi)
{
	struct fuse_ctx caller = *fuse_req_ctx(req);
	bool append = fi->flags & O_APPEND;
	int rc;

	/* A handle must not append to a log of which it reads an earlier version. */
	fs_reading_go_over(&g->reading);
	fs_follow_name(req, g, append, 0);
	rc = write_paid(g, fi->lock_owner, &caller, append, off, data, len);
	if (rc == -EPERM && !append && fs_rewrite_mode(g) == JSONL_REWRITE_ARCHIVE) {
		/* A write into the middle makes new content. */
		rewrite_from(req, g, data, len, off, fi);
		return;
	}
	if (rc == -EAGAIN) {
		struct fs_parked proto = {.step = write_step,
					  .caller = caller,
					  .owner = fi->lock_owner,
					  .append = append,
					  .off = off};

		if (fs_log_park(g, req, &proto, data, len))
			return;
	}
	write_answer(req, g, &caller, len, rc);
}

/* Writes by the operation that the handle's table has now. */
static void write_again(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			off_t off, struct fuse_file_info *fi)
{
	h->ops->write_buf(req, h, in, off, fi);
}

void fs_log_append(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in, off_t off,
		   struct fuse_file_info *fi)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;
	cleanup_free char *copy = NULL;
	const char *data;
	ssize_t got;

	if (fs_named_write(req, h, &g->known, in, off, fi, write_again))
		return;
	got = fs_request_bytes(in, &data, &copy);
	if (got < 0)
		fuse_reply_err(req, (int)-got);
	else
		write_bytes(req, g, data, (size_t)got, off, fi);
}
