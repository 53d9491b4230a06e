/* SPDX-License-Identifier: MIT */
/* Implements a rewriting handle, and rewrite=extend. */
#include "log/rewriter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/process.h"
#include "base/reply.h"
#include "base/stats.h"
#include "base/syslog.h"
#include "base/version.h"
#include "file/file.h"
#include "log/content.h"
#include "log/extend.h"
#include "log/handle.h"
#include "log/openlog.h"
#include "log/read_by.h"
#include "log/reader.h"
#include "log/replace.h"
#include "log/wait.h"
#include "quarantine/quarantine.h"
#include "record/writer.h"
#include "rules/config.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/notify.h"
#include "tree/path.h"
#include "tree/stat.h"
#include "vault/deferred.h"
#include "vault/named.h"
#include "vault/staged.h"

int fs_rewrite_mode(const struct fs_log_handle *g)
{
	return g->settings->rewrite;
}

/* ---- beginning and end ---- */

static const struct fs_log_kind rewriter_kind;

int fs_rewrite_begin(struct fs_log_handle *g, const struct fuse_ctx *caller, off_t at,
		     bool cut)
{
	struct jsonl_file *file = fs_openlog_file(g->log);
	struct fs_rewrite *w = calloc(1, sizeof(*w));
	off_t visible;
	int rc = w ? jsonl_file_visible(file, &visible) : -ENOMEM;

	if (!rc)
		rc = fs_staged_init(&g->m->vault, &w->staged, caller, jsonl_file_fd(file),
				    cut && at < visible ? at : visible);
	if (rc) {
		free(w);
		pthread_mutex_lock(&g->base.inode->lock);
		fs_staged_failed(&g->failed, at, cut, rc);
		pthread_mutex_unlock(&g->base.inode->lock);
		return rc;
	}
	w->outdated = fs_rewrite_base(g->log, caller->pid, visible, &w->base) == -ESTALE;
	w->ino = g->base.inode->ino;
	w->generation = fs_version_generation(jsonl_file_fd(file), "");
	w->done = -1;
	pthread_mutex_lock(&g->base.inode->lock);
	if (!g->rewrite) {
		w->staged.failed = g->failed;
		w->under = g->kind;
		g->rewrite = w;
		g->kind = &rewriter_kind;
		g->base.ops = rewriter_kind.ops;
		w = NULL;
	}
	pthread_mutex_unlock(&g->base.inode->lock);
	if (w) {
		fs_staged_deinit(&w->staged);
		free(w);
	}
	return 0;
}

static void rewriter_free(struct fs_log_handle *g)
{
	struct fs_rewrite *w = g->rewrite;

	if (w->under->free)
		w->under->free(g);
	fs_staged_deinit(&w->staged);
	free(w);
}

void fs_rewrite_write(fuse_req_t req, struct fs_log_handle *g, struct fuse_bufvec *in,
		      off_t off, struct fuse_file_info *fi)
{
	struct fs_rewrite *w = g->rewrite;
	ssize_t n = fs_staged_write(req, &w->staged, in, off, fi->flags & O_APPEND);

	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

/* ---- refusing ---- */

static const char *refusal_advice(int code, const char *why)
{
	if (why)
		return why;
	if (code == -ESTALE)
		return "the log was renamed, removed or replaced since this program read "
		       "it; read it anew";
	if (code == -EPERM)
		return "the new content does not begin with what is recorded; read the "
		       "log anew, append to it, or rotate it first";
	return "correct the new content and write it again";
}

/* Refuses the content, under staged.lock. `code`: a verdict, or -errno. Returns the
 * result of close. */
static int rewrite_refuse(struct fs_log_handle *g, int code, off_t at, const char *event,
			  const char *why)
{
	struct fs_rewrite *w = g->rewrite;
	struct fs_mount *m = g->m;
	char path[PATH_MAX], name[JSONL_QUARANTINE_NAME];
	char program[256];
	struct fs_writer_stats *who;
	pid_t pid = w->staged.writer;

	fs_path_of(m, g->base.inode, path, sizeof(path));
	fs_program_get(w->staged.program, program, sizeof(program));
	fs_staged_set_aside(&m->vault, &w->staged, event, code, at, path,
			    jsonl_file_fd(g->log->file), false, name);
	who = fs_stats_writer(&m->vault.stats, program, w->staged.uid, path);
	who->rewrites_refused++;
	m->vault.stats.rewrites_refused++;
	FS_SYSLOG(LOG_WARNING, w->staged.uid, event, FS_STR("path", path),
		  FS_INT("offset", at), FS_STR("reason", jsonl_error_text(code)),
		  FS_INT("pid", pid), FS_INT("uid", w->staged.uid),
		  FS_STR("program", program), FS_STR("quarantine", name),
		  FS_STR("next", refusal_advice(code, why)));
	fs_staged_settled(&w->staged);
	return code > 0 ? -jsonl_error_errno(code) : code;
}

static void rewrite_count(struct fs_log_handle *g)
{
	struct fs_rewrite *w = g->rewrite;
	char path[PATH_MAX], program[256];

	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	fs_program_get(w->staged.program, program, sizeof(program));
	fs_stats_writer(&g->m->vault.stats, program, w->staged.uid, path)->rewrites++;
	g->m->vault.stats.rewrites++;
	fs_content_note_end(g->m, program, path, w->staged.uid,
			    jsonl_file_fd(g->log->file));
}

/* ---- rewrite=archive ---- */

/* Commits with rewrite=archive, under staged.lock: content that extends the log is
 * appended, as with `extend`; else the log is replaced. */
static int rewrite_archive(struct fs_log_handle *g, off_t *at, const char **why)
{
	struct fs_rewrite *w = g->rewrite;
	struct fs_new_content c = {.fd = w->staged.fd,
				   .uid = w->staged.uid,
				   .ino = w->ino,
				   .generation = w->generation,
				   .base = w->base,
				   .attributes = jsonl_file_fd(g->log->file)};
	struct stat st;
	off_t end = -1;
	int rc = fs_rewrite_extend(g, at);

	if (rc != -EPERM)
		return rc;
	if (w->outdated)
		return -ESTALE;
	if (fstat(w->staged.fd, &st) < 0)
		return -errno;
	c.size = st.st_size;
	rc = fs_content_validate(g->m, &g->settings->limits, w->staged.fd, 0, c.size, at,
				 &c.unfinished);
	if (!rc)
		rc = fs_replace_log(g->m, g->base.inode, g->log, &c, &end, NULL, why);
	if (end >= 0) {
		/* The program knows what it has written, even when it gets an error;
		 * what it read before is not in this log any more. */
		w->base = end;
		w->done = -1;
		w->ino = g->base.inode->ino;
		w->generation = fs_version_generation(jsonl_file_fd(g->log->file), "");
		fs_rewrite_written(g->log, &w->staged.opener, w->staged.uid, end);
	}
	return rc;
}

/* ---- the close ---- */

/* Makes the staged content that of the log, if it can be. 0, the result of close, or
 * -EAGAIN with nothing done. `try_only`, for an fsync: nothing is given up, and content
 * that is unfinished is no error. Content that is refused now is refused at the close,
 * too, unless it has been corrected. */
static int rewrite_commit(struct fs_log_handle *g, bool try_only)
{
	struct fs_rewrite *w = g->rewrite;
	cleanup_unlock pthread_mutex_t *locked = &w->staged.lock;
	const char *why = NULL;
	off_t at = 0;
	int rc;

	pthread_mutex_lock(locked);
	if (!w->staged.dirty)
		return 0;
	if (w->staged.failed.code)
		rc = w->staged.failed.code;
	else if (fs_rewrite_mode(g) == JSONL_REWRITE_ARCHIVE)
		rc = rewrite_archive(g, &at, &why);
	else
		rc = fs_rewrite_extend(g, &at);
	if (rc == -EAGAIN && !w->staged.failed.code)
		return rc;
	if (rc > 0 || rc == -EPERM || rc == -ESTALE || (rc == -EDQUOT && why))
		return !try_only ? rewrite_refuse(g, rc, at, "rewrite-refused", why)
		       : fs_rewrite_may_go_on(g, rc, at, why) ? 0
		       : rc > 0			   ? -jsonl_error_errno(rc)
						   : rc;
	if (rc) /* an error of the disk: the content is kept */
		return try_only ? rc : rewrite_refuse(g, rc, at, "rewrite-failed", why);
	fs_staged_settled(&w->staged);
	g->appended = true;
	rewrite_count(g);
	fs_attributes_changed(g->m, g->base.inode);
	return 0;
}

/* Gives the content up and leaves the log unchanged: a process was killed or the mount
 * ends, so the content may be incomplete; or the lock could not be had. */
static void rewrite_abandon(struct fs_log_handle *g, int code)
{
	struct fs_rewrite *w = g->rewrite;

	pthread_mutex_lock(&w->staged.lock);
	if (w->staged.dirty)
		(void)rewrite_refuse(g, code, 0, "rewrite-abandoned", NULL);
	pthread_mutex_unlock(&w->staged.lock);
}

static int flush_step(struct fs_parked *p, bool last)
{
	struct fs_log_handle *g = p->g;
	int rc = rewrite_commit(g, false);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN) {
		fs_log_tell_timeout(g, "close");
		/* Content that close has refused must not be committed later. */
		rewrite_abandon(g, rc);
	}
	if (g->settings->sync == JSONL_SYNC_NONE)
		fuse_reply_err(p->req, -rc);
	else
		fs_log_answer_durable(p->req, g, false, 0, rc);
	return 0;
}

static void rewrite_flush(fuse_req_t req, struct fs_log_handle *g)
{
	struct fs_parked proto = {.step = flush_step, .g = g, .req = req};
	ino_t numbers[FS_CLOSING_NUMBERS];

	fs_handle_numbers(&g->base, numbers);
	if (!fs_staged_closes(&g->m->vault, &g->rewrite->staged, fuse_req_ctx(req),
			      numbers, g->base.flags)) {
		fs_log_answer_durable(req, g, false, 0, 0);
		return;
	}
	if (flush_step(&proto, false) == -EAGAIN && !fs_log_park(g, req, &proto, NULL, 0))
		flush_step(&proto, true);
}

static int fsync_step(struct fs_parked *p, bool last)
{
	int rc = rewrite_commit(p->g, true);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		fs_log_tell_timeout(p->g, "fsync");
	fs_log_answer_durable(p->req, p->g, true, 0, rc);
	return 0;
}

static void rewrite_fsync(fuse_req_t req, struct fs_log_handle *g)
{
	struct fs_parked proto = {.step = fsync_step, .g = g, .req = req};

	if (fsync_step(&proto, false) == -EAGAIN && !fs_log_park(g, req, &proto, NULL, 0))
		fsync_step(&proto, true);
}

static int rewrite_release(struct fs_log_handle *g, bool last)
{
	struct fs_rewrite *w = g->rewrite;
	bool killed;
	int rc;

	pthread_mutex_lock(&w->staged.lock);
	killed = w->staged.killed;
	pthread_mutex_unlock(&w->staged.lock);
	if (killed) {
		rewrite_abandon(g, -ECANCELED);
		return 0;
	}
	rc = rewrite_commit(g, false);
	if (rc == -EAGAIN && last)
		rewrite_abandon(g, rc);
	else if (rc == -EAGAIN)
		return rc;
	else if (!rc && g->settings->sync != JSONL_SYNC_NONE)
		/* A failure is logged by the file's own report. */
		(void)!jsonl_file_sync(g->log->file, jsonl_writer_user(g->writer));
	return 0;
}

/* ---- what a handle does ---- */

static void rewriter_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
			  struct fuse_file_info *fi)
{
	fs_reply_read(req, ((struct fs_log_handle *)h)->rewrite->staged.fd, size, off);
}

static void rewriter_write_buf(fuse_req_t req, struct fs_handle *h,
			       struct fuse_bufvec *in, off_t off,
			       struct fuse_file_info *fi)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;

	if (!fs_named_write(req, h, &g->known, in, off, fi, rewriter_write_buf))
		fs_rewrite_write(req, g, in, off, fi);
}

static void flush_deferred(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	rewrite_flush(req, (struct fs_log_handle *)h);
}

/* Runs in the pool, because it asks about the process that closes. */
static void rewriter_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	fs_defer_request(&fs_mount_of(req)->vault, req, h, fi, flush_deferred);
}

static void rewriter_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			   struct fuse_file_info *fi)
{
	struct fs_log_handle *g = (struct fs_log_handle *)h;

	g->synced = true;
	rewrite_fsync(req, g);
}

static int rewriter_close(struct fs_log_handle *g, bool last)
{
	int rc = rewrite_release(g, last);

	/* Closes what the handle appended before the rewrite. */
	return rc ? rc : g->rewrite->under->close(g, last);
}

static void rewriter_release(fuse_req_t req, struct fs_handle *h,
			     struct fuse_file_info *fi)
{
	((struct fs_log_handle *)h)->rewrite->under->ops->release(req, h, fi);
}

static void rewriter_abandon(struct fs_handle *h)
{
	struct fs_rewrite *w = ((struct fs_log_handle *)h)->rewrite;

	fs_staged_abandon(&w->staged);
	w->under->ops->abandon(h);
}

static void rewriter_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			       off_t len, struct fuse_file_info *fi)
{
	fuse_reply_err(req, EOPNOTSUPP);
}

static int rewriter_truncate(fuse_req_t req, struct fs_handle *h, off_t size)
{
	return fs_staged_truncate(req, &((struct fs_log_handle *)h)->rewrite->staged,
				  size);
}

static bool rewriter_size(struct fs_handle *h, off_t *size)
{
	*size = fs_staged_size(&((struct fs_log_handle *)h)->rewrite->staged);
	return true;
}

static void rewriter_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
			   struct fuse_file_info *fi)
{
	off_t size;

	(void)rewriter_size(h, &size);
	fs_log_seek(req, size, off, whence);
}

static const struct fs_handle_ops rewriter_ops = {
    .read = rewriter_read,
    .write_buf = rewriter_write_buf,
    .flush = rewriter_flush,
    .release = rewriter_release,
    .fsync = rewriter_fsync,
    .fallocate = rewriter_fallocate,
    .lseek = rewriter_lseek,
    .truncate = rewriter_truncate,
    .size = rewriter_size,
    .abandon = rewriter_abandon,
};

static const struct fs_log_kind rewriter_kind = {
    .ops = &rewriter_ops,
    .close = rewriter_close,
    .free = rewriter_free,
};
