/* What all handles of a governed file share: the jsonl_file, with the inode and the mount
 * behind it, and what the library tells about the file turned into log lines, counters
 * and quarantine entries. */
#include "shared.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ops.h"
#include "tail.h"
#include "transaction.h"

void fs_path_of(struct fs_mount *m, struct fs_inode *i, char *buf, size_t size)
{
	int rc = fs_inode_path(m, i, NULL, buf, size);

	if (rc)
		snprintf(buf, size, "(inode %llu: %s)", (unsigned long long)i->ino,
			 jsonl_error_text(rc));
}

const struct jsonl_settings *fs_settings_of(struct fs_mount *m, struct fs_inode *i)
{
	char path[PATH_MAX];

	fs_path_of(m, i, path, sizeof(path));
	return jsonl_policy_settings(m->policy, path);
}

int fs_open_beneath(struct fs_mount *m, const char *path, int flags)
{
	return fs_openat_beneath(m->root_fd, *path ? path : ".", flags);
}

static int freeze(int (*try)(struct jsonl_file *file, off_t *end),
		  struct jsonl_file *file, unsigned ms, off_t *end)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	int rc = try(file, end);

	for (unsigned waited = 0; rc == -EAGAIN && waited < ms; waited += 2) {
		nanosleep(&pause, NULL);
		rc = try(file, end);
	}
	return rc;
}

int fs_freeze(struct jsonl_file *file, unsigned ms, off_t *end)
{
	return freeze(jsonl_file_freeze, file, ms, end);
}

int fs_freeze_any(struct jsonl_file *file, unsigned ms, off_t *end)
{
	return freeze(jsonl_file_freeze_any, file, ms, end);
}

/* ---- what the library tells ---- */

static int shared_set_aside(void *ctx, const char *event, int code,
			    const struct iovec *iov, int niov, off_t at, uint64_t offset)
{
	struct fs_shared *s = ctx;
	char path[PATH_MAX], name[JSONL_QUARANTINE_NAME];
	int fd = jsonl_file_fd(s->file);
	struct jsonl_quarantine_item item = {
	    .iov = iov,
	    .niov = niov,
	    .event = event,
	    .code = code,
	    .offset = offset,
	    .at = at,
	    .path = path,
	    .source_fd = fd,
	    .reserved = true,
	    .durable = true,
	};
	size_t len = 0;
	int rc;

	for (int n = 0; n < niov; n++)
		len += iov[n].iov_len;
	fs_path_of(s->m, s->inode, path, sizeof(path));
	rc = jsonl_quarantine_put(s->m->quarantine, &item, name);
	if (rc) {
		FS_LOG(LOG_ERR, (uid_t)-1, event, FS_STR("path", path),
		       FS_INT("offset", at), FS_INT("length", len),
		       FS_STR("reason", jsonl_error_text(code)), FS_STR("kept", "no"),
		       FS_STR("error", jsonl_error_text(rc)),
		       FS_STR("next", "make room for the quarantine; the file takes no "
				      "record until then"));
		return rc;
	}
	s->m->stats.quarantined++;
	FS_LOG(LOG_WARNING, (uid_t)-1, event, FS_STR("path", path), FS_INT("offset", at),
	       FS_INT("length", len), FS_STR("reason", jsonl_error_text(code)),
	       FS_STR("quarantine", name));
	return 0;
}

static void shared_report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
	struct fs_shared *s = ctx;
	char path[PATH_MAX];

	fs_path_of(s->m, s->inode, path, sizeof(path));
	if (strcmp(event, "repaired") == 0 || strcmp(event, "newline-added") == 0) {
		s->m->stats.repairs++;
		s->m->stats.repaired_bytes += len;
	} else if (strcmp(event, "sync-failed") == 0) {
		s->m->stats.sync_failures++;
		/* A file can fail many times before it is well again once. */
		if (!atomic_exchange(&s->poisoned, true))
			s->m->stats.poisoned_files++;
	} else if (strcmp(event, "sync-verified") == 0) {
		if (atomic_exchange(&s->poisoned, false))
			s->m->stats.poisoned_files--;
	} else if (strcmp(event, "sync-lost") == 0) {
		s->m->stats.lost++;
		s->m->stats.lost_bytes += len;
	}
	FS_LOG(code < 0 ? LOG_ERR : LOG_WARNING, (uid_t)-1, event, FS_STR("path", path),
	       FS_INT("offset", at), FS_INT("length", len),
	       FS_STR("reason", code ? jsonl_error_text(code) : "repaired"));
}

static const struct jsonl_file_events shared_events = {
    .set_aside = shared_set_aside,
    .report = shared_report,
};

/* ---- lifetime ---- */

int fs_has_writers(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN ? 1 : -errno;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return 0;
}

/* Where it is not known, a torn tail has to rest before it is repaired. */
static bool is_quiet(int fd)
{
	return fs_has_writers(fd) == 0;
}

static int shared_new(struct fs_mount *m, struct fs_inode *i, struct fs_shared **shared)
{
	const struct jsonl_settings *settings = fs_settings_of(m, i);
	struct fs_shared *s = calloc(1, sizeof(*s));
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
	};
	s->m = m;
	s->inode = i;
	s->intent.fd = -1;
	fd = fs_inode_open(m, i, O_RDONLY);
	rc = fd < 0 ? fd
		    : jsonl_file_new(&m->log_io, fd, &opt, &shared_events, s, &s->file);
	if (rc) {
		if (fd >= 0)
			close(fd);
		free(s);
		return rc;
	}
	fs_inode_ref(m, i);
	*shared = s;
	return 0;
}

/* What recovery could not bring in order stands in the way of any append: whoever comes
 * next tries again. */
static int shared_recover(struct fs_mount *m, struct fs_shared *s)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int rc = 0;

	if (s->recovered)
		return 0;
	pthread_mutex_lock(&lock);
	if (!s->recovered && m->intents_left)
		rc = fs_transaction_recover_one(m, s);
	if (!rc)
		s->recovered = true;
	pthread_mutex_unlock(&lock);
	return rc;
}

static int shared_appendable(struct fs_mount *m, struct fs_shared *s)
{
	bool quiet;
	int fd;

	if (jsonl_file_can_append(s->file))
		return shared_recover(m, s);
	quiet = is_quiet(jsonl_file_fd(s->file));
	fd = fs_inode_open(m, s->inode, O_RDWR | O_APPEND);
	if (fd < 0)
		return fd;
	jsonl_file_set_append_fd(s->file, fd, quiet);
	return shared_recover(m, s);
}

static int shared_get(struct fs_mount *m, struct fs_inode *i, bool append,
		      struct fs_shared **shared)
{
	int rc = 0;

	*shared = NULL;
	pthread_mutex_lock(&i->lock);
	if (!i->shared)
		rc = shared_new(m, i, &i->shared);
	if (!rc) {
		*shared = i->shared;
		(*shared)->users++;
	}
	pthread_mutex_unlock(&i->lock);
	/* Without the lock: an append may hold the file's for as long as a disk takes.
	 * When two come at once, the second descriptor is closed again. */
	if (!rc && append)
		rc = shared_appendable(m, *shared);
	if (rc && *shared) {
		fs_shared_put(m, *shared);
		*shared = NULL;
	}
	return rc;
}

int fs_shared_get(struct fs_mount *m, struct fs_inode *i, bool append,
		  struct fs_shared **shared)
{
	int rc = shared_get(m, i, append, shared);

	if (rc != -EMFILE && rc != -ENFILE)
		return rc;
	/* Those that nobody uses give way. */
	fs_idle_drop(m, NULL);
	return shared_get(m, i, append, shared);
}

/* Brings the mount's counter of syncs up to what the file has done. */
static void count_syncs(struct fs_shared *s, uint64_t syncs)
{
	uint64_t counted = s->counted_syncs;

	while (counted < syncs) {
		if (!atomic_compare_exchange_weak(&s->counted_syncs, &counted, syncs))
			continue;
		s->m->stats.syncs += syncs - counted;
		break;
	}
}

/* Drops one user. With `keep` the last one leaves the file open, for a while. */
static void shared_drop(struct fs_mount *m, struct fs_shared *s, bool keep)
{
	struct fs_inode *i = s->inode;
	struct fs_shared *victim = NULL;
	struct fs_account *payer = NULL;
	struct jsonl_file_state state;
	bool last;

	pthread_mutex_lock(&i->lock);
	jsonl_file_get_state(s->file, &state);
	count_syncs(s, state.syncs);
	last = --s->users == 0;
	/* A file that failed to sync is remembered, with the bytes that are not durable,
	 * until it is well again or the mount ends. */
	if (last && state.poisoned && !m->draining)
		last = false;
	if (last && keep && !m->draining) {
		s->users++;
		victim = fs_idle_add(m, s);
		last = false;
		payer = steal_ptr(&s->payer); /* what is kept open is nobody's */
	}
	if (last) {
		i->shared = NULL;
		payer = s->payer;
	}
	pthread_mutex_unlock(&i->lock);
	if (payer)
		fs_account_file_close(m, payer);
	if (last) {
		jsonl_file_free(s->file);
		fs_transaction_forget(m, s);
		free(s);
		fs_inode_unref(m, i);
	}
	if (victim)
		shared_drop(m, victim, false);
}

void fs_shared_put(struct fs_mount *m, struct fs_shared *s)
{
	shared_drop(m, s, true);
	fs_idle_watch(m);
}

void fs_shared_close(struct fs_mount *m, struct fs_shared *s)
{
	shared_drop(m, s, false);
}

/* A file that failed to sync and that nobody has open any more, or NULL. */
static struct fs_shared *shared_left(struct fs_mount *m)
{
	struct fs_shared *found = NULL;

	pthread_mutex_lock(&m->inodes_lock);
	for (size_t k = 0; k < m->inodes_size && !found; k++)
		for (struct fs_inode *i = m->inodes[k]; i && !found; i = i->hash_next)
			if (i->shared && !i->shared->users)
				found = i->shared;
	pthread_mutex_unlock(&m->inodes_lock);
	return found;
}

void fs_shared_drain(struct fs_mount *m)
{
	struct fs_shared *s;

	while ((s = shared_left(m)))
		fs_shared_close(m, fs_shared_ref(s));
}

struct fs_shared *fs_shared_ref(struct fs_shared *s)
{
	pthread_mutex_lock(&s->inode->lock);
	s->users++;
	pthread_mutex_unlock(&s->inode->lock);
	return s;
}

struct jsonl_file *fs_shared_file(struct fs_shared *s)
{
	return s->file;
}

void fs_shared_note_change(struct fs_inode *i)
{
	pthread_mutex_lock(&i->lock);
	if (i->shared)
		jsonl_file_note_change(i->shared->file);
	pthread_mutex_unlock(&i->lock);
}

void fs_denied(fuse_req_t req, const char *operation, const char *path, const char *why)
{
	struct fs_mount *m = fs_mount_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	char program[256];

	m->stats.denied++;
	fs_program_name(ctx->pid, program, sizeof(program));
	FS_LOG(LOG_NOTICE, ctx->uid, "denied", FS_STR("operation", operation),
	       FS_STR("path", path), FS_STR("reason", why), FS_INT("pid", ctx->pid),
	       FS_INT("uid", ctx->uid), FS_STR("program", program));
}

/* ---- what readers see of it ---- */

static int visible_of_closed(struct fs_mount *m, struct fs_inode *i,
			     const struct stat *st, off_t *visible)
{
	const struct jsonl_settings *settings = fs_settings_of(m, i);
	cleanup_close int fd = fs_inode_open(m, i, O_RDONLY);
	struct jsonl_tail tail;
	int rc;

	if (fd < 0)
		return fd;
	if (!settings)
		return -ENOMEM;
	rc = jsonl_tail_inspect(m->io, fd, st->st_size, settings->limits.maxrecord,
				settings->limits.maxdepth, &tail);
	*visible = tail.visible;
	return rc;
}

/* Good while number, size, mtime and ctime are these. */
struct fs_visible {
	ino_t ino;
	off_t size, visible;
	struct timespec mtime, ctime;
};

static bool visible_is_good(const struct fs_visible *v, const struct stat *st)
{
	return v && v->ino == st->st_ino && v->size == st->st_size &&
	       fs_same_time(v->mtime, st->st_mtim) && fs_same_time(v->ctime, st->st_ctim);
}

static void visible_note(struct fs_inode *i, const struct stat *st, off_t visible)
{
	if (!i->visible)
		i->visible = malloc(sizeof(*i->visible));
	if (i->visible)
		*i->visible = (struct fs_visible){st->st_ino, st->st_size, visible,
						  st->st_mtim, st->st_ctim};
}

bool fs_governed_fix_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st)
{
	off_t visible = st->st_size;
	bool written = false;

	pthread_mutex_lock(&i->lock);
	if (i->shared) {
		written = i->readers && jsonl_file_can_append(fs_shared_file(i->shared));
		if (jsonl_file_visible(fs_shared_file(i->shared), &visible))
			visible = st->st_size;
	} else if (visible_is_good(i->visible, st)) {
		visible = i->visible->visible;
	} else if (!visible_of_closed(m, i, st, &visible)) {
		visible_note(i, st, visible);
	}
	pthread_mutex_unlock(&i->lock);
	st->st_size = visible;
	return written;
}
