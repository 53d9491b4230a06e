/* After the daemon or the machine went down: commits that were cut off, and what was
 * staged and never committed. */
#include "transaction.h"
#include "textlog.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commit.h"

/* Until fn says true, which is then the answer. */
static bool recover_each(struct fs_mount *m, const char *prefix,
			 bool (*fn)(struct fs_mount *m, const char *name, void *ctx),
			 void *ctx)
{
	int fd = openat(m->transactions_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	bool found = false;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread so far */
	while (!found && (e = readdir(dir)))
		found = strncmp(e->d_name, prefix, strlen(prefix)) == 0 &&
			fn(m, e->d_name, ctx);
	closedir(dir);
	return found;
}

struct target {
	struct fs_mount *m;
	const char *path;
	struct jsonl_file *file;
};

static int target_set_aside(void *ctx, const char *event, int code,
			    const struct iovec *iov, int niov, off_t at, uint64_t offset)
{
	struct target *t = ctx;
	struct jsonl_quarantine_item item = {
	    .iov = iov,
	    .niov = niov,
	    .event = event,
	    .code = code,
	    .offset = offset,
	    .at = at,
	    .path = t->path,
	    .source_fd = jsonl_file_fd(t->file),
	    .reserved = true,
	    .durable = true,
	};
	int rc = jsonl_quarantine_put(t->m->quarantine, &item, NULL);

	if (!rc)
		t->m->stats.quarantined++;
	return rc;
}

static void target_report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
	struct target *t = ctx;

	FS_LOG(LOG_WARNING, (uid_t)-1, event, FS_STR("path", t->path),
	       FS_INT("offset", at), FS_INT("length", len),
	       FS_STR("reason", jsonl_error_text(code)));
}

static const struct jsonl_file_events target_events = {
    .set_aside = target_set_aside,
    .report = target_report,
};

/* Has the log been removed? Not when its directory is not there, or another device: that
 * may be mounted later. */
static bool target_gone(struct fs_mount *m, const char *path, dev_t dev)
{
	char dir_path[PATH_MAX];
	const char *slash = strrchr(path, '/');
	cleanup_close int fd = -1;
	struct stat st;

	snprintf(dir_path, sizeof(dir_path), "%.*s", slash ? (int)(slash - path) : 0,
		 path);
	fd = fs_open_beneath(m, dir_path, O_PATH | O_DIRECTORY);
	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == dev;
}

/* The log with this inode number: by its path, or beside it, where a rotation puts it. */
static int target_find(struct fs_mount *m, const char *path, ino_t ino, int flags)
{
	char dir_path[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd = fs_open_beneath(m, path, flags | O_NONBLOCK);
	struct dirent *e;
	struct stat st;
	DIR *dir;

	if (fd >= 0 && fstat(fd, &st) == 0 && (!ino || st.st_ino == ino))
		return fd;
	if (fd >= 0)
		close(fd);
	snprintf(dir_path, sizeof(dir_path), "%.*s", slash ? (int)(slash - path) : 0,
		 path);
	fd = ino ? fs_open_beneath(m, dir_path, O_RDONLY | O_DIRECTORY) : -ENOENT;
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return fd < 0 ? fd : -errno;
	fd = -ENOENT;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): our own stream */
	while (fd < 0 && (e = readdir(dir))) {
		if (e->d_ino == ino)
			fd = openat(dirfd(dir), e->d_name,
				    flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	}
	closedir(dir);
	return fd;
}

static int target_open(struct fs_mount *m, const char *path, ino_t ino, struct target *t)
{
	const struct jsonl_settings *settings = jsonl_policy_settings(m->policy, path);
	struct jsonl_file_options opt;
	int fd, append, rc;

	*t = (struct target){.m = m, .path = path};
	if (!settings)
		return -ENOMEM;
	opt = (struct jsonl_file_options){.maxrecord = settings->limits.maxrecord,
					  .maxdepth = settings->limits.maxdepth,
					  .retain = true};
	fd = target_find(m, path, ino, O_RDONLY);
	if (fd < 0)
		return fd;
	append = target_find(m, path, ino, O_RDWR | O_APPEND);
	rc = append < 0 ? append
			: jsonl_file_new(m->io, fd, &opt, &target_events, t, &t->file);
	if (rc) {
		close(fd);
		if (append >= 0)
			close(append);
		return rc;
	}
	jsonl_file_set_append_fd(t->file, append, true);
	return 0;
}

static void recovered_log(const char *path, enum jsonl_recovered what, int rc)
{
	static const char *const words[] = {
	    [JSONL_RECOVERED_NONE] = "not begun",
	    [JSONL_RECOVERED_WHOLE] = "complete",
	    [JSONL_RECOVERED_CUT] = "taken back",
	    [JSONL_RECOVERED_TORN] = "less than a record: cut before the next append",
	    [JSONL_RECOVERED_UNSURE] = "left alone: what stands there is not its own",
	};

	FS_LOG(rc ? LOG_ERR : LOG_NOTICE, (uid_t)-1, "transaction-recovered",
	       FS_STR("path", path), FS_STR("result", rc ? "" : words[what]),
	       FS_STR("error", rc ? jsonl_error_text(rc) : ""));
}

static bool recover_intent(struct fs_mount *m, const char *name, void *ctx)
{
	cleanup_close int fd =
	    openat(m->transactions_fd, name, O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	enum jsonl_recovered what = JSONL_RECOVERED_NONE;
	char stage[JSONL_STAGE_NAME];
	unsigned long long dev, ino;
	cleanup_free char *path = NULL;
	struct target t;
	int rc = fd < 0 ? -errno : 0;

	if (sscanf(name, "intent-%llx-%llx", &dev, &ino) != 2)
		return false;
	if (!rc)
		path = jsonl_commit_pending(m->io, fd, stage, &rc);
	if (path) {
		rc = target_open(m, path, (ino_t)ino, &t);
		if (!rc) {
			rc = jsonl_commit_recover(m->io, m->transactions_fd, fd, t.file,
						  &what);
			jsonl_file_free(t.file);
		}
		recovered_log(path, what, rc);
		/* Nothing can be brought in order any more; what was staged goes its way.
		 */
		if (rc == -ENOENT && target_gone(m, path, (dev_t)dev))
			rc = 0;
	}
	if (rc && !path)
		FS_LOG(LOG_ERR, (uid_t)-1, "intent-stays", FS_STR("intent", name),
		       FS_STR("error", jsonl_error_text(rc)));
	if (rc)
		m->intents_left = true;
	else
		unlinkat(m->transactions_fd, name, 0);
	return false;
}

int fs_transaction_recover_one(struct fs_mount *m, struct fs_shared *s)
{
	enum jsonl_recovered what;
	cleanup_close int fd = -1;
	char name[64], path[PATH_MAX];
	int rc;

	fs_transaction_intent_name(s->inode->dev, s->inode->ino, name);
	fd = openat(m->transactions_fd, name, O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	rc = jsonl_commit_recover(m->io, m->transactions_fd, fd, s->file, &what);
	fs_path_of(m, s->inode, path, sizeof(path));
	if (rc != -EAGAIN)
		recovered_log(path, what, rc);
	return rc;
}

/* ---- what was staged ---- */

static bool intent_names(struct fs_mount *m, const char *intent, void *ctx)
{
	cleanup_close int fd =
	    openat(m->transactions_fd, intent, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char stage[JSONL_STAGE_NAME] = "";
	int rc = fd < 0 ? -errno : 0;

	if (!rc)
		free(jsonl_commit_pending(m->io, fd, stage, &rc));
	/* One that cannot be read may name any. */
	return rc || strcmp(stage, ctx) == 0;
}

/* As the handle would have done at its close, under the log's own intent, so that a crash
 * in the middle is one of those that recovery knows. */
static int staged_commit(struct fs_mount *m, const char *path, struct jsonl_stage *stage)
{
	struct jsonl_intent intent = {.fd = -1};
	struct jsonl_transaction c = {
	    .io = m->io, .intent = &intent, .path = path, .durable = true};
	enum jsonl_recovered what;
	char name[64];
	struct stat st;
	struct target t;
	int rc = target_open(m, path, 0, &t);

	if (rc)
		return rc;
	rc = fstat(jsonl_file_fd(t.file), &st) < 0 ? -errno : 0;
	if (!rc) {
		fs_transaction_intent_name(st.st_dev, st.st_ino, name);
		rc = intent.fd = fs_transaction_intent_open(m, name);
	}
	if (rc >= 0) {
		/* Another block's may be in there still, with a part of it in the log. */
		rc = m->intents_left ? jsonl_commit_recover(m->io, m->transactions_fd,
							    intent.fd, t.file, &what)
				     : 0;
		if (!rc)
			rc = jsonl_commit_run(&c, t.file, stage, NULL);
		close(intent.fd);
		/* What a failure has left there is for the next time, as is what says
		 * that the block of a stage that stays is in the log. */
		if (intent.marked || intent.filled)
			m->intents_left = true;
		else if (!rc)
			unlinkat(m->transactions_fd, name, 0);
	}
	jsonl_file_free(t.file);
	return rc > 0 ? -jsonl_error_errno(rc) : rc;
}

static int staged_keep(struct fs_mount *m, const char *path, struct jsonl_stage *stage)
{
	struct iovec iov;
	struct jsonl_quarantine_item item = {.iov = &iov,
					     .niov = 1,
					     .event = "transaction",
					     .code = JSONL_INCOMPLETE,
					     .at = -1,
					     .path = path,
					     .source_fd = -1,
					     .reserved = true,
					     .durable = true};
	struct fs_stage_map map;
	int rc = fs_transaction_map(stage, &map, &iov);

	if (!rc)
		rc = jsonl_quarantine_put(m->quarantine, &item, NULL);
	if (!rc)
		m->stats.quarantined++;
	fs_transaction_unmap(&map);
	return rc;
}

/* Appends it, or keeps it elsewhere; the file stays until one of the two has succeeded.
 */
static int stage_settle(struct fs_mount *m, const char *name, const char *path,
			struct jsonl_stage *stage)
{
	const struct jsonl_settings *settings = jsonl_policy_settings(m->policy, path);
	const bool text = settings && settings->class == JSONL_CLASS_TEXT;
	int committed = -ECANCELED, rc = text ? jsonl_stage_take_all(stage) : 0;
	uint64_t len = jsonl_stage_length(stage);

	if (rc || !len)
		return rc;
	if (text)
		committed = fs_textlog_recover(m, path, stage);
	else if (settings && settings->killed == JSONL_KILLED_COMMIT)
		committed = staged_commit(m, path, stage);
	if (committed)
		rc = staged_keep(m, path, stage);
	m->stats.transactions += !committed;
	m->stats.transactions_dropped += committed && !rc;
	FS_LOG(rc ? LOG_ERR : LOG_WARNING, (uid_t)-1,
	       rc	   ? "transaction-stays"
	       : committed ? "transaction-dropped"
			   : "transaction-recovered",
	       FS_STR("path", path), FS_INT("length", len),
	       FS_STR("reason", "the mount ended before the file was closed"),
	       FS_STR("kept", rc	  ? name
			      : committed ? "quarantine"
					  : ""),
	       FS_STR("error", rc ? jsonl_error_text(rc)
			       : committed && committed != -ECANCELED
				   ? jsonl_error_text(committed)
				   : ""),
	       FS_STR("hint",
		      rc ? "it is tried again at the next mount: make room (jsonlfsctl "
			   "quarantine drop, quarantine_max), or remove the file from "
			   "the state directory's transactions/"
			 : ""));
	return rc;
}

static bool recover_stage(struct fs_mount *m, const char *name, void *ctx)
{
	struct jsonl_stage *stage;
	cleanup_free char *path = NULL;
	int rc;

	/* What is unclear still may have been appended. */
	if (m->intents_left && recover_each(m, "intent-", intent_names, (void *)name))
		return false;
	rc = jsonl_stage_open(m->io, m->transactions_fd, name, &stage, &path);
	if (rc) {
		FS_LOG(LOG_ERR, (uid_t)-1, "transaction-stays", FS_STR("kept", name),
		       FS_STR("error", jsonl_error_text(rc)));
		return false;
	}
	if (path)
		rc = stage_settle(m, name, path, stage);
	if (!rc)
		rc = jsonl_stage_discard(stage);
	jsonl_stage_free(stage);
	return false;
}

void fs_transaction_recover(struct fs_mount *m)
{
	if (m->transactions_fd < 0 || m->config.readonly)
		return;
	/* First what was begun: it may be in the way of what comes behind it. */
	recover_each(m, "intent-", recover_intent, NULL);
	recover_each(m, "stage-", recover_stage, NULL);
}
