/* The life of a rewriting handle, and rewrite=extend. */
#include "rewrite.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cross.h"
#include "ops.h"
#include "seen.h"
#include "statefile.h"

int fs_rewrite_mode(const struct governed *g)
{
	return g->settings->rewrite;
}

/* ---- what its program has seen ---- */

static struct fs_version version_of(const struct fs_shared *s, off_t size)
{
	return (struct fs_version){
	    .dev = s->inode->dev,
	    .ino = s->inode->ino,
	    .size = size,
	    .generation = fs_version_generation(jsonl_file_fd(s->file), "")};
}

void fs_rewrite_seen(struct governed *g, const struct fs_shared *s, pid_t pid, off_t end)
{
	struct fs_version v;
	char path[PATH_MAX];
	struct fs_process p;

	/* Followers ask again and again where nothing has come. */
	if (g->seen_pid == pid && g->seen_end == end)
		return;
	if (!fs_process_identify(pid, &p))
		return;
	fs_path_of(g->m, s->inode, path, sizeof(path));
	v = version_of(s, end);
	fs_seen_note(g->m, path, &p, &v);
	g->seen_pid = pid;
	g->seen_end = end;
}

void fs_rewrite_appends(struct governed *g, pid_t pid)
{
	char path[PATH_MAX];
	struct fs_process p;

	if (fs_rewrite_mode(g) == JSONL_REWRITE_DENY || !fs_process_identify(pid, &p))
		return;
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	fs_seen_forget(g->m, path, &p);
}

int fs_rewrite_base(struct fs_shared *s, pid_t pid, off_t visible, off_t *base)
{
	char path[PATH_MAX];
	struct fs_process p;
	struct fs_version v, now;

	*base = visible;
	fs_path_of(s->m, s->inode, path, sizeof(path));
	if (!fs_process_identify(pid, &p) || !fs_seen_find(s->m, path, &p, &v))
		return 0;
	now = version_of(s, v.size);
	if (!fs_version_same(&v, &now) || v.size > visible)
		return -ESTALE;
	*base = v.size;
	return 1;
}

void fs_rewrite_written(struct fs_shared *s, const struct fs_process *p, off_t end)
{
	struct fs_version v = version_of(s, end);
	char path[PATH_MAX];

	if (!p->tgid)
		return;
	fs_path_of(s->m, s->inode, path, sizeof(path));
	fs_seen_note(s->m, path, p, &v);
}

/* ---- beginning and end ---- */

int fs_rewrite_begin(struct governed *g, const struct fuse_ctx *caller, off_t at, bool cut)
{
	struct jsonl_file *file = fs_shared_file(g->shared);
	struct fs_rewrite *w = calloc(1, sizeof(*w));
	off_t visible;
	int rc = w ? jsonl_file_visible(file, &visible) : -ENOMEM;

	if (!rc)
		rc = fs_staged_init(g->m, &w->staged, caller, jsonl_file_fd(file),
				    cut && at < visible ? at : visible);
	if (rc) {
		free(w);
		pthread_mutex_lock(&g->base.inode->lock);
		fs_staged_failed(&g->failed, at, cut, rc);
		pthread_mutex_unlock(&g->base.inode->lock);
		return rc;
	}
	w->outdated = fs_rewrite_base(g->shared, caller->pid, visible, &w->base) == -ESTALE;
	w->ino = g->base.inode->ino;
	w->generation = fs_version_generation(jsonl_file_fd(file), "");
	w->done = -1;
	pthread_mutex_lock(&g->base.inode->lock);
	if (!g->rewrite) {
		w->staged.failed = g->failed;
		g->rewrite = w;
		w = NULL;
	}
	pthread_mutex_unlock(&g->base.inode->lock);
	if (w) {
		fs_staged_deinit(&w->staged);
		free(w);
	}
	return 0;
}

void fs_rewrite_end(struct governed *g)
{
	struct fs_rewrite *w = g->rewrite;

	if (!w)
		return;
	fs_staged_deinit(&w->staged);
	free(w);
	g->rewrite = NULL;
}

void fs_rewrite_write(fuse_req_t req, struct governed *g, struct fuse_bufvec *in,
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
	return "mend the new content and write it again";
}

/* Under staged.lock. The content cannot become that of the log: `code` is a verdict, or
 * -errno. Returns what close says. */
static int rewrite_refuse(struct governed *g, int code, off_t at, const char *event,
			  const char *why)
{
	struct fs_rewrite *w = g->rewrite;
	struct fs_mount *m = g->m;
	char path[PATH_MAX], name[JSONL_QUARANTINE_NAME];
	const char *program = w->staged.program;
	struct fs_writer_stats *who;
	pid_t pid = w->staged.writer;

	fs_path_of(m, g->base.inode, path, sizeof(path));
	fs_staged_set_aside(m, &w->staged, event, code, at, path,
			    jsonl_file_fd(g->shared->file), false, name);
	who = fs_stats_writer(&m->stats, program, w->staged.uid, path);
	who->rewrites_refused++;
	m->stats.rewrites_refused++;
	FS_LOG(LOG_WARNING, w->staged.uid, event, FS_STR("path", path),
	       FS_INT("offset", at), FS_STR("reason", jsonl_error_text(code)),
	       FS_INT("pid", pid), FS_INT("uid", w->staged.uid), FS_STR("comm", program),
	       FS_STR("quarantine", name), FS_STR("next", refusal_advice(code, why)));
	fs_staged_settled(&w->staged);
	return code > 0 ? -jsonl_error_errno(code) : code;
}

static void rewrite_count(struct governed *g)
{
	struct fs_rewrite *w = g->rewrite;
	char path[PATH_MAX];

	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	fs_stats_writer(&g->m->stats, w->staged.program, w->staged.uid, path)->rewrites++;
	g->m->stats.rewrites++;
}

/* ---- rewrite=extend ---- */

/* Frozen, the log `end` bytes long: where in the staged content does that begin which is
 * to be appended? What others have appended since is behind what the program has seen; if
 * its content goes on with exactly that, it has seen it, too. Position or -errno. */
static off_t extend_from(struct governed *g, off_t size, off_t end)
{
	struct fs_rewrite *w = g->rewrite;
	int rc;

	if (end < w->base)
		return -EPERM;
	if (size < end)
		return w->base;
	rc = fs_cross_compare(g->m, g->shared->file, w->staged.fd, w->base, end);
	return !rc ? end : rc == -EPERM ? w->base : rc;
}

/* The same when part of the content is in the log already: only what comes behind it. */
static off_t extend_again(const struct fs_rewrite *w, off_t size)
{
	char next;

	if (w->staged.low < w->done || size < w->done)
		return -EPERM;
	if (w->newline && size > w->done && pread(w->staged.fd, &next, 1, w->done) == 1 &&
	    next == '\n')
		return w->done + 1;
	return w->done;
}

static int extend_frozen(struct governed *g, off_t size, bool unfinished, off_t end)
{
	struct fs_rewrite *w = g->rewrite;
	off_t from = w->done < 0 ? extend_from(g, size, end) : extend_again(w, size);
	int rc;

	if (from < 0)
		return (int)from;
	rc = fs_cross_append_rest(g->m, g->shared->file, w->staged.fd, from, size,
				  unfinished, jsonl_writer_user(g->writer));
	if (!rc) {
		w->done = size;
		w->newline = unfinished && from < size;
	}
	return rc;
}

/* Under staged.lock. *at: where the content is wrong. */
static int rewrite_extend(struct governed *g, off_t *at)
{
	struct fs_rewrite *w = g->rewrite;
	struct jsonl_file *file = g->shared->file;
	bool unfinished = false;
	struct stat st;
	off_t end;
	int rc = fstat(w->staged.fd, &st) < 0 ? -errno : 0;

	*at = 0;
	/* First without the lock, as far as the log was when it began. */
	if (!rc && w->done < 0)
		rc = st.st_size < w->base
			 ? -EPERM
			 : fs_cross_compare(g->m, file, w->staged.fd, 0, w->base);
	if (!rc)
		rc = fs_cross_validate(g->m, &g->settings->limits, w->staged.fd, 0,
				       st.st_size, at, &unfinished);
	if (!rc)
		rc = jsonl_file_freeze(file, &end);
	if (rc)
		return rc;
	rc = extend_frozen(g, st.st_size, unfinished, end);
	jsonl_file_unfreeze(file);
	return rc;
}

/* ---- rewrite=archive ---- */

/* Under staged.lock. What extends the log is an append, as with `extend`; else the log is
 * replaced. */
static int rewrite_archive(struct governed *g, off_t *at, const char **why)
{
	struct fs_rewrite *w = g->rewrite;
	struct fs_new_content c = {.fd = w->staged.fd,
				   .ino = w->ino,
				   .generation = w->generation,
				   .base = w->base,
				   .attributes = jsonl_file_fd(g->shared->file)};
	struct stat st;
	off_t end = -1;
	int rc = rewrite_extend(g, at);

	if (rc != -EPERM)
		return rc;
	if (w->outdated)
		return -ESTALE;
	if (fstat(w->staged.fd, &st) < 0)
		return -errno;
	c.size = st.st_size;
	rc = fs_cross_validate(g->m, &g->settings->limits, w->staged.fd, 0, c.size, at,
			       &c.unfinished);
	if (!rc)
		rc = fs_rewrite_replace(g->m, g->base.inode, g->shared, &c, &end, NULL, why);
	if (end >= 0) {
		/* Its program knows what it has written, also when it is told of an error:
		 * what it has seen before is not in this log any more. */
		w->base = end;
		w->done = -1;
		w->ino = g->base.inode->ino;
		w->generation =
		    fs_version_generation(jsonl_file_fd(g->shared->file), "");
		fs_rewrite_written(g->shared, &w->staged.opener, end);
	}
	return rc;
}

/* ---- the close ---- */

/* Makes the staged content that of the log, if it is to be. 0, what close says, or
 * -EAGAIN with nothing done. `try_only`: what is not fit yet may still become so. */
static int rewrite_commit(struct governed *g, bool try_only)
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
		rc = rewrite_extend(g, &at);
	if (rc == -EAGAIN && !w->staged.failed.code)
		return rc;
	if (rc > 0 || rc == -EPERM || rc == -ESTALE)
		return try_only ? 0 : rewrite_refuse(g, rc, at, "rewrite-refused", why);
	if (rc) /* the disk's matter: the content is kept all the same */
		return try_only ? rc : rewrite_refuse(g, rc, at, "rewrite-failed", why);
	fs_staged_settled(&w->staged);
	g->appended = true;
	rewrite_count(g);
	fs_attributes_changed(g->m, g->base.inode);
	return 0;
}

/* The log stays as it is: a process was killed or the mount ends, and what was written is
 * not known to be complete; or the lock could not be had. */
static void rewrite_abandon(struct governed *g, int code)
{
	struct fs_rewrite *w = g->rewrite;

	pthread_mutex_lock(&w->staged.lock);
	if (w->staged.dirty)
		(void)rewrite_refuse(g, code, 0, "rewrite-abandoned", NULL);
	pthread_mutex_unlock(&w->staged.lock);
}

static int flush_step(struct fs_parked *p, bool last)
{
	struct governed *g = p->g;
	int rc = rewrite_commit(g, false);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN) {
		fs_governed_log_timeout(g, "close");
		/* What close has refused must not come about later. */
		rewrite_abandon(g, rc);
	}
	if (g->settings->sync == JSONL_SYNC_NONE)
		fuse_reply_err(p->req, -rc);
	else
		fs_governed_answer_durable(p->req, g, false, 0, rc);
	return 0;
}

void fs_rewrite_flush(fuse_req_t req, struct governed *g)
{
	struct fs_parked proto = {.step = flush_step, .g = g, .req = req};
	struct stat st;

	if (fs_inode_stat(g->m, g->base.inode, &st)) {
		st.st_ino = g->base.inode->ino;
	}
	fs_stat_public(g->base.inode, &st);
	if (!fs_staged_closes(g->m, &g->rewrite->staged, fuse_req_ctx(req)->pid,
			      st.st_ino, g->base.flags)) {
		fs_governed_answer_durable(req, g, false, 0, 0);
		return;
	}
	if (flush_step(&proto, false) == -EAGAIN &&
	    !fs_governed_park(g, req, &proto, NULL, 0))
		flush_step(&proto, true);
}

static int fsync_step(struct fs_parked *p, bool last)
{
	int rc = rewrite_commit(p->g, true);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		fs_governed_log_timeout(p->g, "fsync");
	fs_governed_answer_durable(p->req, p->g, true, 0, rc);
	return 0;
}

void fs_rewrite_fsync(fuse_req_t req, struct governed *g)
{
	struct fs_parked proto = {.step = fsync_step, .g = g, .req = req};

	if (fsync_step(&proto, false) == -EAGAIN &&
	    !fs_governed_park(g, req, &proto, NULL, 0))
		fsync_step(&proto, true);
}

int fs_rewrite_release(struct governed *g, bool last)
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
		(void)!jsonl_file_sync(g->shared->file, jsonl_writer_user(g->writer));
	return 0;
}
