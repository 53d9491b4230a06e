/* SPDX-License-Identifier: MIT */
/* Opens the jsonl_file that all handles of a log share, and closes it after the last one.
 */
#include "log/openlog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "base/error.h"
#include "base/lease.h"
#include "base/lock.h"
#include "file/file.h"
#include "log/idle.h"
#include "log/intent.h"
#include "log/told.h"
#include "rules/config.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "vault/account.h"
#include "vault/deferred.h"
#include "vault/hosts.h"

#define IDLE_MS 2000

void fs_idle_drop(struct fs_mount *m, struct fs_inode *i)
{
	struct fs_openlog *s;

	while (m->idle && (s = fs_idle_take(m->idle, i, INT64_MAX)))
		fs_openlog_close(m, s);
}

struct idle_watch {
	struct fs_job job; /* first: cast back */
	struct fs_mount *m;
};

/* Closes logs that have been idle for long enough; runs again for the rest. */
static int idle_run(struct fs_job *job, bool last)
{
	struct fs_mount *m = ((struct idle_watch *)job)->m;
	struct fs_idle *l = m->idle;
	struct fs_openlog *s;
	int rc = -EAGAIN;

	while ((s = fs_idle_take(l, NULL, jsonl_now_ms() - IDLE_MS)))
		fs_openlog_close(m, s);
	pthread_mutex_lock(&l->lock);
	if (last || !l->first) {
		l->watched = false;
		rc = 0;
	} else {
		job->not_before = l->first->idle_since + IDLE_MS + 1;
	}
	pthread_mutex_unlock(&l->lock);
	if (!rc)
		free(job);
	return rc;
}

void fs_idle_watch(struct fs_mount *m)
{
	struct fs_idle *l = m->idle;
	struct idle_watch *w;
	bool needed;

	pthread_mutex_lock(&l->lock);
	needed = l->first && !l->watched;
	l->watched |= needed;
	pthread_mutex_unlock(&l->lock);
	if (!needed)
		return;
	w = calloc(1, sizeof(*w));
	if (w) {
		w->m = m;
		w->job.run = idle_run;
		w->job.timeout_ms = UINT32_MAX;
		w->job.not_before = jsonl_now_ms() + IDLE_MS;
		if (fs_defer(&m->vault, &w->job) == 0)
			return;
		free(w);
	}
	/* If no job could be started nothing is kept open. */
	pthread_mutex_lock(&l->lock);
	l->watched = false;
	pthread_mutex_unlock(&l->lock);
	fs_idle_drop(m, NULL);
}

/* ---- turns with other hosts ---- */

struct turn {
	struct fs_job job; /* first: cast back */
	struct fs_openlog *log;
};

static int turn_finish(struct fs_job *job, bool last)
{
	struct turn *t = (struct turn *)job;
	struct fs_openlog *s = t->log;

	if (!jsonl_file_tenure_finish(s->file) && !last) {
		job->not_before = jsonl_now_ms() + JSONL_TENURE_IDLE_MS;
		return -EAGAIN;
	}
	free(t);
	fs_openlog_close(s->m, s);
	return 0;
}

static bool turn_given_up(void *ctx)
{
	return ((struct fs_openlog *)ctx)->m->vault.draining;
}

static int turn_wait(struct fs_job *job, bool last)
{
	struct turn *t = (struct turn *)job;
	struct fs_openlog *s = t->log;
	int fd = last ? -1 : jsonl_file_turn_begin(s->file);

	if (fd >= 0)
		jsonl_file_turn_end(s->file, !fs_lock_turn(fd, turn_given_up, s));
	free(t);
	fs_openlog_close(s->m, s);
	return 0;
}

/* Lets the pool call `run` after `ms`. Called under the file's lock, so it cannot fail:
 * without memory or a thread the lock is released by the next append, or when the file
 * is closed. */
static void turn_defer(struct fs_openlog *s, int (*run)(struct fs_job *job, bool last),
		       unsigned ms)
{
	struct turn *t = calloc(1, sizeof(*t));

	if (!t)
		return;
	/* Charged to no user: a host that keeps a lock for long must hold up nothing
	 * else. */
	t->job = (struct fs_job){.run = run,
				 .uid = run == turn_wait ? (uid_t)-2 : (uid_t)-3,
				 .timeout_ms = UINT32_MAX,
				 .not_before = ms ? jsonl_now_ms() + ms : 0};
	t->log = fs_openlog_ref(s);
	if (fs_defer(&s->m->vault, &t->job) == 0)
		return;
	pthread_mutex_lock(&s->inode->lock);
	s->users--; /* not the last one: the caller is a user, too */
	pthread_mutex_unlock(&s->inode->lock);
	free(t);
}

static void log_tenure(void *ctx)
{
	turn_defer(ctx, turn_finish, JSONL_TENURE_IDLE_MS);
}

static void log_turn(void *ctx)
{
	turn_defer(ctx, turn_wait, 0);
}

static const struct jsonl_file_events log_events = {
    .set_aside = fs_told_set_aside,
    .report = fs_told_report,
    .tenure = log_tenure,
    .turn = log_turn,
};

/* ---- lifetime ---- */

/* Returns true when certainly no other program has the file open for writing. Else a torn
 * tail has to rest before it is repaired. */
static bool is_quiet(int fd)
{
	return fs_has_writers(fd) == 0;
}

static int log_new(struct fs_mount *m, struct fs_inode *i, struct fs_openlog **log)
{
	const struct jsonl_settings *settings = fs_settings_of(m, i);
	struct fs_openlog *s = calloc(1, sizeof(*s));
	struct jsonl_file_options opt;
	int fd = -1, rc = -ENOMEM;

	if (!s || !settings) {
		free(s);
		return rc;
	}
	opt = (struct jsonl_file_options){
	    .maxrecord = settings->limits.maxrecord,
	    .maxdepth = settings->limits.maxdepth,
	    .retain = settings->sync != JSONL_SYNC_NONE,
	    .shared = &m->vault.shared,
	    .remote = m->vault.remote,
	};
	s->m = m;
	s->inode = i;
	s->intent.fd = -1;
	pthread_mutex_init(&s->switching, NULL);
	fd = fs_inode_open(m, i, O_RDONLY);
	rc = fd < 0
		 ? fd
		 : jsonl_file_new(&m->vault.log_io.io, fd, &opt, &log_events, s, &s->file);
	if (rc) {
		if (fd >= 0)
			close(fd);
		pthread_mutex_destroy(&s->switching);
		free(s);
		return rc;
	}
	/* Its attributes may have been changed before, which is not known here: the
	 * first fsync makes all of them durable. */
	jsonl_file_note_change(s->file);
	fs_inode_ref(m, i);
	*log = s;
	return 0;
}

/* Recovers commits that a crash has left unfinished. If that fails the log cannot be
 * appended to; the next open retries. */
static int log_recover(struct fs_mount *m, struct fs_openlog *s)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int rc = 0;

	if (s->recovered)
		return 0;
	pthread_mutex_lock(&lock);
	if (!s->recovered && m->vault.intents_left)
		rc = fs_intent_recover_one(m, s);
	if (!rc)
		s->recovered = true;
	pthread_mutex_unlock(&lock);
	/* -EAGAIN is for a lease, whose end an open waits for. */
	return rc == -EAGAIN ? -ENOLCK : rc;
}

static int log_appendable(struct fs_mount *m, struct fs_openlog *s)
{
	bool quiet;
	int fd;

	if (jsonl_file_can_append(s->file))
		return log_recover(m, s);
	quiet = !fs_shared(&m->vault) && is_quiet(jsonl_file_fd(s->file));
	fd = fs_inode_open(m, s->inode, O_RDWR | O_APPEND);
	if (fd < 0)
		return fd;
	jsonl_file_set_append_fd(s->file, fd, quiet);
	return log_recover(m, s);
}

static int log_get(struct fs_mount *m, struct fs_inode *i, bool append,
		   struct fs_openlog **log)
{
	int rc = 0;

	*log = NULL;
	pthread_mutex_lock(&i->lock);
	if (!fs_log_node(i)->log)
		rc = log_new(m, i, &fs_log_node(i)->log);
	if (!rc) {
		*log = fs_log_node(i)->log;
		(*log)->users++;
	}
	pthread_mutex_unlock(&i->lock);
	/* Opened without the lock: an append may hold the file's as long as a disk
	 * takes. If two opens come here at once the second descriptor is closed
	 * again. */
	if (!rc && append)
		rc = log_appendable(m, *log);
	if (rc && *log) {
		fs_openlog_put(m, *log);
		*log = NULL;
	}
	return rc;
}

int fs_openlog_get(struct fs_mount *m, struct fs_inode *i, bool append,
		   struct fs_openlog **log)
{
	int rc = log_get(m, i, append, log);

	if (rc != -EMFILE && rc != -ENFILE)
		return rc;
	/* Logs that are only kept open give way. */
	fs_idle_drop(m, NULL);
	return log_get(m, i, append, log);
}

/* Brings the mount's counter of syncs up to what the file has done. */
static void count_syncs(struct fs_openlog *s, uint64_t syncs)
{
	uint64_t counted = s->counted_syncs;

	while (counted < syncs) {
		if (!atomic_compare_exchange_weak(&s->counted_syncs, &counted, syncs))
			continue;
		s->m->vault.stats.syncs += syncs - counted;
		break;
	}
}

/* Drops one user. With `keep` the last one leaves the file open, for a while. */
static void log_drop(struct fs_mount *m, struct fs_openlog *s, bool keep)
{
	struct fs_inode *i = s->inode;
	struct fs_openlog *victim = NULL;
	struct fs_account *payer = NULL;
	struct jsonl_file_state state;
	bool last;

	pthread_mutex_lock(&i->lock);
	jsonl_file_get_state(s->file, &state);
	count_syncs(s, state.syncs);
	last = --s->users == 0;
	/* A file that failed to sync is remembered, with the bytes that are not durable,
	 * until it is well again or the mount ends. */
	fs_log_node(i)->left = last && state.poisoned && !m->vault.draining;
	if (fs_log_node(i)->left)
		last = false;
	if (last && keep && !m->vault.draining) {
		s->users++;
		victim = fs_idle_add(m, s);
		last = false;
		payer = steal_ptr(&s->payer); /* while it is only kept open nobody pays */
	}
	if (last) {
		fs_log_node(i)->log = NULL;
		payer = s->payer;
	}
	pthread_mutex_unlock(&i->lock);
	if (payer)
		fs_account_file_close(&m->vault, payer);
	if (last) {
		jsonl_file_free(s->file);
		fs_intent_forget(m, s);
		pthread_mutex_destroy(&s->switching);
		free(s);
		fs_inode_unref(m, i);
	}
	if (victim)
		log_drop(m, victim, false);
}

void fs_openlog_put(struct fs_mount *m, struct fs_openlog *s)
{
	log_drop(m, s, true);
	fs_idle_watch(m);
}

void fs_openlog_close(struct fs_mount *m, struct fs_openlog *s)
{
	log_drop(m, s, false);
}

static bool is_left(const struct fs_inode *i)
{
	return i->class == JSONL_CLASS_GOVERNED && fs_log_node(i)->left;
}

/* Takes a log that failed to sync and that nobody has open, with a user for the caller.
 * NULL if a control request has opened it since; that request closes it. */
static struct fs_openlog *left_take(struct fs_inode *i)
{
	struct fs_log_node *n = fs_log_node(i);
	struct fs_openlog *s = NULL;

	pthread_mutex_lock(&i->lock);
	n->left = false;
	if (n->log && !n->log->users) {
		s = n->log;
		s->users++;
	}
	pthread_mutex_unlock(&i->lock);
	return s;
}

void fs_openlog_drain(struct fs_mount *m)
{
	struct fs_inode *i;

	while ((i = fs_inodes_find(m, is_left))) {
		struct fs_openlog *s = left_take(i);

		if (s)
			fs_openlog_close(m, s);
		fs_inode_unref(m, i);
	}
}

struct fs_openlog *fs_openlog_ref(struct fs_openlog *s)
{
	pthread_mutex_lock(&s->inode->lock);
	s->users++;
	pthread_mutex_unlock(&s->inode->lock);
	return s;
}

struct jsonl_file *fs_openlog_file(struct fs_openlog *s)
{
	return s->file;
}

unsigned fs_openlog_switches(struct fs_openlog *s)
{
	unsigned n = s->switches;

	if (n & 1) {
		pthread_mutex_lock(&s->switching);
		n = s->switches;
		pthread_mutex_unlock(&s->switching);
	}
	return n;
}

void fs_openlog_note_change(struct fs_inode *i)
{
	pthread_mutex_lock(&i->lock);
	if (fs_log_node(i)->log)
		jsonl_file_note_change(fs_log_node(i)->log->file);
	pthread_mutex_unlock(&i->lock);
}
