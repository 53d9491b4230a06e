/* SPDX-License-Identifier: MIT */
/* Sends answers that have to wait for the disk, or for a lock held outside. No worker
 * thread waits for either. */
#include "log/wait.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/stamp.h"
#include "base/fuse.h"
#include "base/ident.h"
#include "base/syslog.h"
#include "file/file.h"
#include "log/follow.h"
#include "log/handle.h"
#include "log/openlog.h"
#include "record/writer.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "vault/account.h"
#include "vault/deferred.h"

/* A lock that was found held twice within this time counts as held all along. Also how
 * long an operation waits for a lock that has been held too long already. */
#define BLOCKED_GAP_MS	 1000
#define BLOCKED_GRACE_MS 40

/* ---- answers that come when the disk has answered ---- */

struct answer {
	struct jsonl_waiter waiter; /* first: cast back */
	fuse_req_t req;
	size_t written; /* of a WRITE; 0: reply with an error code or 0 */
	int rc; /* the answer if the sync succeeds: a failed one is reported once only */
	struct fs_log_handle *flushed; /* of a FLUSH; not freed before the answer */
};

void fs_log_answer(fuse_req_t req, size_t written, int rc)
{
	if (!rc && written)
		fuse_reply_write(req, written);
	else
		fuse_reply_err(req, -rc);
}

static void answer_done(struct jsonl_waiter *w, int rc)
{
	struct answer *a = (struct answer *)w;

	if (a->flushed)
		fs_follow_flush_ends(a->flushed);
	fs_log_answer(a->req, a->written, rc ? rc : a->rc);
	free(a);
}

/* Answers `rc` (and `written`), but not before what the handle has appended is durable.
 */
static void answer_durable(fuse_req_t req, struct fs_mount *m, struct fs_openlog *log,
			   struct jsonl_file_user *user, bool force, size_t written,
			   int rc, struct fs_log_handle *flushed)
{
	struct jsonl_file *file = fs_openlog_file(log);
	struct answer *a = malloc(sizeof(*a));
	int sync_rc;

	if (!a) {
		/* Without a waiter the disk is not asked: the next fsync has to. */
		sync_rc = force ? -ENOMEM : jsonl_file_sync(file, user);
		if (flushed)
			fs_follow_flush_ends(flushed);
		fs_log_answer(req, written, sync_rc ? sync_rc : rc);
		return;
	}
	*a = (struct answer){
	    .waiter.done = answer_done,
	    .req = req,
	    .written = written,
	    .rc = rc,
	    .flushed = flushed,
	};
	/* The handle may be freed once the request is answered, while we still lead the
	 * sync. */
	fs_openlog_ref(log);
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
	fs_openlog_put(m, log);
}

void fs_answer_durable(fuse_req_t req, struct fs_mount *m, struct fs_openlog *log,
		       struct jsonl_file_user *user, bool force, size_t written, int rc)
{
	answer_durable(req, m, log, user, force, written, rc, NULL);
}

void fs_log_answer_durable(fuse_req_t req, struct fs_log_handle *g, bool force,
			   size_t written, int rc)
{
	answer_durable(req, g->m, g->log, jsonl_writer_user(g->writer), force, written,
		       rc, NULL);
}

void fs_log_answer_flush(fuse_req_t req, struct fs_log_handle *g, int rc)
{
	answer_durable(req, g->m, g->log, jsonl_writer_user(g->writer), false, 0, rc, g);
}

/* ---- what has to wait for a lock that is held outside ---- */

/* Notes whether the lock was had. */
void fs_log_blocked(struct fs_log_handle *g, bool blocked)
{
	struct fs_openlog *s = g->log;
	int64_t now;

	if (!blocked) {
		if (s->blocked_since)
			s->blocked_since = 0;
		return;
	}
	now = jsonl_now_ms();
	if (!s->blocked_since || now - s->blocked_seen > BLOCKED_GAP_MS)
		s->blocked_since = now;
	s->blocked_seen = now;
}

/* Returns how long an operation may wait. The kernel sends the appends to one file one
 * after the other, so once an operation has waited for all of locktimeout, those behind
 * it do not wait as long again. */
static unsigned blocked_patience(struct fs_log_handle *g)
{
	int64_t timeout = (int64_t)g->settings->locktimeout_ms;

	if (timeout > BLOCKED_GRACE_MS &&
	    jsonl_now_ms() - g->log->blocked_since >= timeout)
		return BLOCKED_GRACE_MS;
	return (unsigned)timeout;
}

static void parked_free(struct fs_mount *m, struct fs_parked *p)
{
	/* Charging less cannot fail. */
	if (fs_account_charge(&m->vault, p->account, -(int64_t)p->len))
		errno = 0;
	fs_account_unref(&m->vault, p->account);
	free(p);
}

static int parked_run(struct fs_job *job, bool last)
{
	struct fs_parked *p = (struct fs_parked *)job;
	struct fs_log_handle *g = p->g;
	struct fs_mount *m = g->m;
	int rc;

	fs_follow_name(p->req, g, false, p->closes);
	rc = p->step(p, last);

	/* Once it has been answered the handle may be gone. */
	if (rc == -EAGAIN)
		fs_log_blocked(g, true);
	else
		parked_free(m, p);
	return rc;
}

void fs_log_tell_timeout(struct fs_log_handle *g, const char *operation)
{
	char path[PATH_MAX], holder[256];
	int fd = jsonl_file_fd(g->log->file);

	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	fs_ident_lock_holder(fd, holder, sizeof(holder));
	g->m->vault.stats.lock_timeouts++;
	FS_SYSLOG(LOG_WARNING, (uid_t)-1, "lock-timeout", FS_STR("operation", operation),
		  FS_STR("path", path), FS_INT("waited_ms", g->settings->locktimeout_ms),
		  FS_STR("holder", holder));
}

/* Parks an operation; without memory or a thread it is answered at once. */
bool fs_log_park(struct fs_log_handle *g, fuse_req_t req, const struct fs_parked *proto,
		 const char *data, size_t len)
{
	struct fs_parked *p;

	if (fs_account_charge(&g->m->vault, g->account, (int64_t)len))
		return false;
	p = malloc(sizeof(*p) + len);
	if (!p) {
		if (fs_account_charge(&g->m->vault, g->account, -(int64_t)len))
			errno = 0;
		return false;
	}
	fs_log_blocked(g, true);
	*p = *proto;
	p->g = g;
	p->account = fs_account_ref(g->account);
	p->req = req;
	p->job = (struct fs_job){.run = parked_run,
				 .timeout_ms = blocked_patience(g),
				 .uid = req ? fuse_req_ctx(req)->uid : g->opener.uid};
	p->len = len;
	if (len)
		memcpy(p->data, data, len);
	if (fs_defer(&g->m->vault, &p->job) == 0)
		return true;
	parked_free(g->m, p);
	return false;
}
