/* Handles of governed files: what open, read, write, flush, fsync and release mean there.
 * The rules themselves are the library's (writer.c, file.c); this file turns requests
 * into its calls, answers when the disk has answered, and parks what must wait for a lock
 * that somebody outside holds. */
#include "fs.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ident.h"
#include "shared.h"
#include "tail.h"
#include "writer.h"

/* What FUSE sends at most in one WRITE: a longer write(2) arrives in pieces of this size.
 */
#define GOVERNED_MAX_REQUEST (1u << 20)
/* A lock outside that was found held twice within this time counts as held all along; and
 * how long an operation waits for one that has been held for too long already. */
#define BLOCKED_GAP_MS	 1000
#define BLOCKED_GRACE_MS 40

struct governed {
	struct fs_handle base; /* first: cast back */
	struct fs_mount *m;
	struct fs_shared *shared;
	struct jsonl_writer *writer; /* NULL: opened for reading */
	struct jsonl_file_user reader;
	struct fs_ident_ring idents;   /* under the writer's mutex */
	bool sync_each;		       /* answer a write when it is durable */
	_Atomic bool appended, synced; /* did it append, did the program fsync itself */
};

static struct governed *governed_of(struct fs_handle *h)
{
	return (struct governed *)h;
}

/* ---- answers that come when the disk has answered ---- */

struct answer {
	struct jsonl_waiter waiter; /* first: cast back */
	fuse_req_t req;
	size_t written; /* of a WRITE; 0: reply with an error code or 0 */
	int rc;		/* what is said if the sync is well */
};

static void answer_send(fuse_req_t req, size_t written, int rc)
{
	if (!rc && written)
		fuse_reply_write(req, written);
	else
		fuse_reply_err(req, -rc);
}

static void answer_done(struct jsonl_waiter *w, int rc)
{
	struct answer *a = (struct answer *)w;

	answer_send(a->req, a->written, a->rc ? a->rc : rc);
	free(a);
}

/* Answers `rc` (and `written`), but not before what the handle has appended is durable.
 */
static void answer_when_durable(fuse_req_t req, struct governed *g, bool force,
				size_t written, int rc)
{
	struct jsonl_file *file = fs_shared_file(g->shared);
	struct jsonl_file_user *user =
	    g->writer ? jsonl_writer_user(g->writer) : &g->reader;
	struct answer *a = malloc(sizeof(*a));
	struct fs_mount *m = g->m;
	struct fs_shared *shared;
	int sync_rc;

	if (!a) {
		sync_rc = jsonl_file_sync(file, user);
		answer_send(req, written, rc ? rc : sync_rc);
		return;
	}
	*a = (struct answer){
	    .waiter.done = answer_done, .req = req, .written = written, .rc = rc};
	/* Once this request is answered the handle may go, while we still lead. */
	shared = fs_shared_ref(g->shared);
	switch (jsonl_file_wait(file, user, force, &a->waiter, &sync_rc)) {
	case JSONL_WAIT_DONE:
		answer_done(&a->waiter, sync_rc);
		break;
	case JSONL_WAIT_LEAD:
		jsonl_file_lead(file);
		break;
	case JSONL_WAIT_QUEUED:
		break;
	}
	fs_shared_put(m, shared);
}

/* ---- what the library tells of a handle ---- */

static void *governed_identify(void *ctx, void *caller)
{
	struct governed *g = ctx;
	char path[PATH_MAX];
	const struct fuse_ctx *who = caller;
	struct fs_ident *ident = fs_ident_find(&g->idents, who->pid);

	if (ident)
		return ident;
	fs_path_of_fd(g->m, jsonl_file_fd(g->shared->file), path, sizeof(path));
	ident = fs_ident_add(&g->idents, &g->m->stats, who->pid, who->uid, path);
	ident->stats->opens++;
	g->m->stats.opens++;
	if (!(g->base.flags & O_APPEND)) {
		ident->stats->opens_without_append++;
		g->m->stats.opens_without_append++;
	}
	return ident;
}

static void log_set_aside(struct governed *g, const struct jsonl_set_aside *what,
			  const struct fs_ident *ident, const char *path,
			  const char *name, int rc)
{
	size_t len = 0;

	for (int i = 0; i < what->niov; i++)
		len += what->iov[i].iov_len;
	FS_LOG(rc ? LOG_ERR : LOG_WARNING, ident ? ident->uid : (uid_t)-1, what->event,
	       FS_STR("path", path), FS_INT("offset", what->at), FS_INT("length", len),
	       FS_STR("reason", jsonl_error_text(what->code)),
	       FS_INT("byte", what->offset), FS_INT("pid", ident ? ident->pid : 0),
	       FS_INT("uid", ident ? ident->uid : 0),
	       FS_STR("comm", ident ? ident->stats->program : "(unknown)"),
	       FS_STR("quarantine", rc ? "" : name),
	       FS_STR("error", rc ? jsonl_error_text(rc) : ""));
}

static void governed_set_aside(void *ctx, const struct jsonl_set_aside *what,
			       char name[JSONL_QUARANTINE_NAME])
{
	struct governed *g = ctx;
	struct fs_ident *ident = what->who;
	struct fs_stats *stats = &g->m->stats;
	char path[PATH_MAX];
	int fd = jsonl_file_fd(g->shared->file);
	bool fragment = strcmp(what->event, "fragment") == 0;
	struct jsonl_quarantine_item item = {
	    .iov = what->iov,
	    .niov = what->niov,
	    .event = what->event,
	    .code = what->code,
	    .offset = what->offset,
	    .at = what->at,
	    .path = path,
	    .program = ident ? ident->stats->program : NULL,
	    .pid = ident ? ident->pid : 0,
	    .uid = ident ? ident->uid : 0,
	    .source_fd = fd,
	    .reserved = fragment,
	    .durable = fragment,
	};
	int rc;

	fs_path_of_fd(g->m, fd, path, sizeof(path));
	rc = jsonl_quarantine_put(g->m->quarantine, &item, name);
	if (fragment) {
		stats->fragments++;
		if (ident)
			ident->stats->fragments++;
	} else {
		stats->refused++;
		if (ident)
			ident->stats->refused++;
	}
	if (!rc) {
		stats->quarantined++;
	} else {
		name[0] = '\0';
		stats->quarantine_full++;
		if (fragment)
			fs_ident_lost(stats, path, what->iov, what->niov);
	}
	log_set_aside(g, what, ident, path, name, rc);
}

static void governed_join(void *ctx, const char *name, const struct iovec *iov, int niov,
			  void *who)
{
	struct governed *g = ctx;
	char path[PATH_MAX];
	int rc = jsonl_quarantine_join(g->m->quarantine, name, iov, niov, false);

	if (!rc)
		return;
	fs_path_of_fd(g->m, jsonl_file_fd(g->shared->file), path, sizeof(path));
	fs_ident_lost(&g->m->stats, path, iov, niov);
}

static int governed_charge(void *ctx, int64_t bytes)
{
	struct governed *g = ctx;
	uint64_t now =
	    atomic_fetch_add(&g->m->pending_bytes, (uint64_t)bytes) + (uint64_t)bytes;

	if (bytes <= 0 || now <= g->m->config.pending_max)
		return 0;
	atomic_fetch_sub(&g->m->pending_bytes, (uint64_t)bytes);
	return -ENOBUFS;
}

static void governed_note(void *ctx, const struct jsonl_writer_note *note, void *who)
{
	struct governed *g = ctx;
	struct fs_ident *ident = who;
	bool warn;

	if (note->records)
		g->appended = true;
	if (!ident)
		return;
	warn = fs_ident_note(&g->m->stats, ident->stats, note);
	if (warn && g->m->config.oversize == JSONL_OVERSIZE_WARN)
		FS_LOG(LOG_WARNING, ident->uid, "oversize",
		       FS_STR("path", ident->stats->path),
		       FS_INT("length", note->largest),
		       FS_INT("limit", g->m->config.pipebuf), FS_INT("pid", ident->pid),
		       FS_STR("comm", ident->stats->program),
		       FS_STR("note", "outside the mount this program cannot write such "
				      "records safely"));
}

static const struct jsonl_writer_events governed_events = {
    .identify = governed_identify,
    .set_aside = governed_set_aside,
    .join = governed_join,
    .charge = governed_charge,
    .note = governed_note,
};

/* ---- what has to wait for a lock that is held outside ---- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Takes note of whether the lock was had. */
static void blocked_note(struct governed *g, bool blocked)
{
	struct fs_shared *s = g->shared;
	int64_t now;

	if (!blocked) {
		if (s->blocked_since)
			s->blocked_since = 0;
		return;
	}
	now = now_ms();
	if (!s->blocked_since || now - s->blocked_seen > BLOCKED_GAP_MS)
		s->blocked_since = now;
	s->blocked_seen = now;
}

/* How long an operation may wait. The kernel sends the appends to one file one after the
 * other, so when somebody has waited for all of locktimeout, those behind do not wait as
 * long once more, one by one. */
static unsigned blocked_patience(struct governed *g)
{
	int64_t timeout = (int64_t)g->m->config.locktimeout_ms;

	if (timeout > BLOCKED_GRACE_MS && now_ms() - g->shared->blocked_since >= timeout)
		return BLOCKED_GRACE_MS;
	return (unsigned)timeout;
}

struct parked {
	struct fs_job job; /* first: cast back */
	int (*step)(struct parked *p, bool last);
	struct governed *g;
	fuse_req_t req;
	struct fuse_ctx caller;
	uint64_t owner;
	bool append;
	off_t off;
	size_t len;
	char data[];
};

static int parked_run(struct fs_mount *m, struct fs_job *job, bool last)
{
	struct parked *p = (struct parked *)job;
	struct governed *g = p->g;
	int rc = p->step(p, last);

	/* When it has been answered the handle may be gone. */
	if (rc == -EAGAIN)
		blocked_note(g, true);
	else
		free(p);
	return rc;
}

static void log_lock_timeout(struct governed *g, const char *operation)
{
	char path[PATH_MAX], holder[256];
	int fd = jsonl_file_fd(g->shared->file);

	fs_path_of_fd(g->m, fd, path, sizeof(path));
	fs_ident_lock_holder(fd, holder, sizeof(holder));
	g->m->stats.lock_timeouts++;
	FS_LOG(LOG_WARNING, (uid_t)-1, "lock-timeout", FS_STR("operation", operation),
	       FS_STR("path", path), FS_INT("waited_ms", g->m->config.locktimeout_ms),
	       FS_STR("holder", holder));
}

/* Parks an operation; without memory or a thread it is answered at once. */
static bool park(struct governed *g, fuse_req_t req, const struct parked *proto,
		 const char *data, size_t len)
{
	struct parked *p = malloc(sizeof(*p) + len);

	if (!p)
		return false;
	blocked_note(g, true);
	*p = *proto;
	p->g = g;
	p->req = req;
	p->job = (struct fs_job){.run = parked_run,
				 .timeout_ms = blocked_patience(g)};
	p->len = len;
	if (len)
		memcpy(p->data, data, len);
	if (fs_defer(g->m, &p->job) == 0)
		return true;
	free(p);
	return false;
}

/* ---- write ---- */

static void write_denied(fuse_req_t req, struct governed *g, int verdict)
{
	char path[PATH_MAX];

	fs_path_of_fd(g->m, jsonl_file_fd(fs_shared_file(g->shared)), path, sizeof(path));
	fs_denied(req, "write", path, jsonl_error_text(verdict));
}

static void write_answer(fuse_req_t req, struct governed *g, size_t len, int rc)
{
	struct jsonl_file *file = fs_shared_file(g->shared);
	struct fs_mount *m = g->m;
	/* Once this request is answered the handle may go, while we still lead. */
	struct fs_shared *lead =
	    jsonl_file_wants_sync(file) ? fs_shared_ref(g->shared) : NULL;

	blocked_note(g, rc == -EAGAIN);
	if (rc == -EPERM)
		write_denied(req, g, JSONL_MISPLACED);
	else if (rc == -EUCLEAN)
		write_denied(req, g, JSONL_UNKNOWN_TAIL);
	if (!rc && g->sync_each)
		answer_when_durable(req, g, false, len, 0);
	else
		answer_send(req, len, rc);
	if (lead) {
		jsonl_file_lead(file);
		fs_shared_put(m, lead);
	}
}

static int write_step(struct parked *p, bool last)
{
	int rc = jsonl_writer_write(p->g->writer, p->owner, &p->caller, p->append, p->off,
				    p->data, p->len);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		log_lock_timeout(p->g, "write");
	write_answer(p->req, p->g, p->len, rc);
	return 0;
}

static void write_bytes(fuse_req_t req, struct governed *g, const char *data, size_t len,
			off_t off, const struct fuse_file_info *fi)
{
	struct fuse_ctx caller = *fuse_req_ctx(req);
	bool append = fi->flags & O_APPEND;
	int rc = jsonl_writer_write(g->writer, fi->lock_owner, &caller, append, off, data,
				    len);

	if (rc == -EAGAIN) {
		struct parked proto = {.step = write_step,
				       .caller = caller,
				       .owner = fi->lock_owner,
				       .append = append,
				       .off = off};

		if (park(g, req, &proto, data, len))
			return;
	}
	write_answer(req, g, len, rc);
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
	struct jsonl_file *file = fs_shared_file(g->shared);
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(0);
	off_t visible;
	int rc = jsonl_file_visible(file, &visible);

	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	if (off >= visible) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	if ((uint64_t)(visible - off) < size)
		size = (size_t)(visible - off);
	out.buf[0] = (struct fuse_buf){
	    .flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY,
	    .fd = jsonl_file_fd(file),
	    .pos = off,
	    .size = size,
	};
	fuse_reply_data(req, &out, FUSE_BUF_SPLICE_MOVE);
}

/* ---- flush and fsync ---- */

static void flush_answer(fuse_req_t req, struct governed *g, int rc)
{
	if (g->m->config.sync == JSONL_SYNC_NONE)
		fuse_reply_err(req, -rc);
	else
		answer_when_durable(req, g, false, 0, rc);
}

static int flush_step(struct parked *p, bool last)
{
	int rc = jsonl_writer_flush(p->g->writer, p->owner);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		log_lock_timeout(p->g, "close");
	flush_answer(p->req, p->g, rc);
	return 0;
}

static void governed_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	struct parked proto = {.step = flush_step, .owner = fi->lock_owner};
	int rc = 0;

	if (!g->writer) {
		fuse_reply_err(req, 0);
		return;
	}
	rc = jsonl_writer_flush(g->writer, fi->lock_owner);
	if (rc != -EAGAIN || !park(g, req, &proto, NULL, 0))
		flush_answer(req, g, rc);
}

static int fsync_step(struct parked *p, bool last)
{
	int rc = jsonl_writer_settle(p->g->writer);

	if (rc == -EAGAIN && !last)
		return rc;
	if (rc == -EAGAIN)
		log_lock_timeout(p->g, "fsync");
	answer_when_durable(p->req, p->g, true, 0, rc);
	return 0;
}

static void governed_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			   struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	struct parked proto = {.step = fsync_step};
	int rc = 0;

	g->synced = true;
	if (g->writer)
		rc = jsonl_writer_settle(g->writer);
	if (rc != -EAGAIN || !park(g, req, &proto, NULL, 0))
		answer_when_durable(req, g, true, 0, rc);
}

/* ---- release ---- */

static void governed_free(struct governed *g)
{
	struct fs_mount *m = g->m;

	if (g->writer && g->appended && !g->synced)
		fs_ident_closed_without_sync(&m->stats, &g->idents);
	jsonl_writer_free(g->writer);
	fs_handle_unlink(m, &g->base);
	fs_shared_put(m, g->shared);
	free(g);
}

/* What RELEASE commits has nobody left who could ask for it to be made durable. */
static int governed_close(struct governed *g, bool last)
{
	bool committed = false;
	int rc = g->writer ? jsonl_writer_release(g->writer, last, &committed) : 0;

	if (rc)
		return rc;
	if (committed && g->m->config.sync != JSONL_SYNC_NONE) {
		/* A failure is logged by the file's own report. */
		rc = jsonl_file_sync(fs_shared_file(g->shared),
				     jsonl_writer_user(g->writer));
		(void)rc;
	}
	governed_free(g);
	return 0;
}

static int release_step(struct parked *p, bool last)
{
	return governed_close(p->g, last);
}

static void governed_release(fuse_req_t req, struct fs_handle *h,
			     struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	struct parked proto = {.step = release_step};

	/* Nobody waits for the answer of a RELEASE: it may come first. */
	fuse_reply_err(req, 0);
	if (governed_close(g, false) == -EAGAIN && !park(g, NULL, &proto, NULL, 0))
		governed_close(g, true);
}

static void governed_abandon(struct fs_handle *h)
{
	governed_close(governed_of(h), true);
}

/* ---- the rest ---- */

static void governed_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			       off_t len, struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	char path[PATH_MAX];
	off_t visible;

	if (mode == FALLOC_FL_KEEP_SIZE) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (!mode && !jsonl_file_visible(fs_shared_file(g->shared), &visible) &&
	    off + len <= visible) {
		fuse_reply_err(req, 0);
		return;
	}
	/* Not EOPNOTSUPP: glibc would emulate it with scattered one-byte writes. */
	fs_path_of_fd(g->m, jsonl_file_fd(g->shared->file), path, sizeof(path));
	fs_denied(req, "fallocate", path, "a log grows by appending records only");
	fuse_reply_err(req, EPERM);
}

/* A log has no holes that a reader should know of. */
static void governed_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
			   struct fuse_file_info *fi)
{
	struct governed *g = governed_of(h);
	off_t visible;
	int rc = jsonl_file_visible(fs_shared_file(g->shared), &visible);

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
    .abandon = governed_abandon,
};

/* ---- open ---- */

static int open_allowed(fuse_req_t req, struct fs_mount *m, struct jsonl_file *file,
			int flags, off_t visible)
{
	char path[PATH_MAX];

	fs_path_of_fd(m, jsonl_file_fd(file), path, sizeof(path));
	if ((flags & O_TRUNC) && visible > 0) {
		fs_denied(
		    req, "open with O_TRUNC", path,
		    "it would throw recorded lines away; append (>>), or rotate the "
		    "file by renaming it");
		return -EPERM;
	}
	if (m->config.append == JSONL_APPEND_STRICT && (flags & O_ACCMODE) != O_RDONLY &&
	    !(flags & O_APPEND)) {
		fs_denied(req, "open without O_APPEND", path, "append=strict");
		return -EPERM;
	}
	return 0;
}

static int open_writer(struct governed *g, off_t visible)
{
	const struct jsonl_config *c = &g->m->config;
	struct jsonl_writer_options opt = {
	    .limits = {.maxdepth = c->maxdepth,
		       .maxrecord = c->maxrecord,
		       .pipebuf = c->pipebuf,
		       .value = c->value,
		       .blank = c->blank,
		       .oversize = c->oversize},
	    .onbad = c->onbad,
	    .max_request = GOVERNED_MAX_REQUEST,
	};

	g->sync_each =
	    c->sync == JSONL_SYNC_WRITE || (g->base.flags & (O_DSYNC | O_SYNC));
	opt.settle_each = g->sync_each;
	return jsonl_writer_new(fs_shared_file(g->shared), &opt, &governed_events, g,
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

int fs_governed_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi,
		     struct fs_inode *created_in)
{
	struct fs_mount *m = fs_mount_of(req);
	bool write = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct governed *g = calloc(1, sizeof(*g));
	off_t visible;
	int rc;

	if (!g)
		return -ENOMEM;
	g->m = m;
	g->base.ops = &governed_ops;
	g->base.flags = fi->flags;
	rc = fs_shared_get(m, i, write, &g->shared);
	if (rc) {
		free(g);
		return rc;
	}
	rc = jsonl_file_visible(fs_shared_file(g->shared), &visible);
	if (!rc)
		rc = open_allowed(req, m, fs_shared_file(g->shared), fi->flags, visible);
	if (!rc && write)
		rc = open_writer(g, visible);
	if (!rc && write && created_in && m->config.sync != JSONL_SYNC_NONE)
		rc = open_directory(m, g, created_in);
	if (rc) {
		jsonl_writer_free(g->writer);
		fs_shared_put(m, g->shared);
		free(g);
		return rc;
	}
	fs_handle_link(m, &g->base, i);
	fi->fh = (uintptr_t)&g->base;
	/* Readers too: beside a direct writer, cached readers see NULs and half records.
	 */
	fi->direct_io = 1;
	return 0;
}

/* ---- attributes and truncation ---- */

static int visible_of_closed(struct fs_mount *m, struct fs_inode *i,
			     const struct stat *st, off_t *visible)
{
	cleanup_close int fd = fs_inode_open(m, i, O_RDONLY);
	struct jsonl_tail tail;
	int rc;

	if (fd < 0)
		return fd;
	rc = jsonl_tail_inspect(m->io, fd, st->st_size, m->config.maxrecord,
				m->config.maxdepth, &tail);
	*visible = tail.visible;
	return rc;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

void fs_governed_fix_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st)
{
	off_t visible = st->st_size;

	pthread_mutex_lock(&i->lock);
	if (i->shared) {
		if (jsonl_file_visible(fs_shared_file(i->shared), &visible))
			visible = st->st_size;
	} else if (i->seen.known && i->seen.size == st->st_size &&
		   same_time(&i->seen.mtime, &st->st_mtim) &&
		   same_time(&i->seen.ctime, &st->st_ctim)) {
		visible = i->seen.visible;
	} else if (!visible_of_closed(m, i, st, &visible)) {
		i->seen.known = true;
		i->seen.size = st->st_size;
		i->seen.visible = visible;
		i->seen.mtime = st->st_mtim;
		i->seen.ctime = st->st_ctim;
	}
	pthread_mutex_unlock(&i->lock);
	st->st_size = visible;
}
