#include "transaction.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "ops.h"

/* ---- the intent of a log ---- */

void fs_transaction_intent_name(dev_t dev, ino_t ino, char buf[64])
{
	snprintf(buf, 64, "intent-%llx-%llx", (unsigned long long)dev,
		 (unsigned long long)ino);
}

int fs_transaction_intent_open(struct fs_mount *m, const char *name)
{
	int fd = openat(m->transactions_fd, name,
			O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int rc = fd < 0 || fsync(m->transactions_fd) < 0 ? -errno : 0;

	if (rc && fd >= 0)
		close(fd);
	return rc ? rc : fd;
}

void fs_transaction_stage_name(const struct fs_mount *m, char name[JSONL_STAGE_NAME])
{
	static _Atomic unsigned number;

	snprintf(name, JSONL_STAGE_NAME, "stage-%llx.%09lx-%x",
		 (unsigned long long)m->started.tv_sec, m->started.tv_nsec, ++number);
}

/* ext2, and ext4 without a journal, have the number of ext4, too. */
static bool has_journal(dev_t dev)
{
	char link[64], device[PATH_MAX], path[PATH_MAX + 64], task[16] = "";
	cleanup_close int fd = -1;
	const char *name;
	ssize_t n;

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	n = readlink(link, device, sizeof(device) - 1);
	if (n < 0)
		return false;
	device[n] = '\0';
	name = strrchr(device, '/');
	snprintf(path, sizeof(path), "/sys/fs/ext4/%s/journal_task",
		 name ? name + 1 : device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	/* The number of its thread, or "<none>". */
	return fd >= 0 && read(fd, task, sizeof(task) - 1) > 0 && *task >= '0' &&
	       *task <= '9';
}

/* Does what is changed of the files' metadata reach the disk in that order? With a
 * journal as ext4 and XFS have it; of others it is not known. */
static bool is_ordered(int fd)
{
	struct statfs fs;
	struct stat st;

	if (fstatfs(fd, &fs) || fstat(fd, &st))
		return false;
	return fs.f_type == XFS_SUPER_MAGIC ||
	       (fs.f_type == EXT4_SUPER_MAGIC && has_journal(st.st_dev));
}

/* The log's own, made when it is missing. 0 or -errno. */
static int transaction_intent(struct fs_mount *m, struct fs_shared *s)
{
	char name[64];
	int fd;

	pthread_mutex_lock(&s->inode->lock);
	fd = s->intent.fd;
	if (fd < 0) {
		fs_transaction_intent_name(s->inode->dev, s->inode->ino, name);
		fd = fs_transaction_intent_open(m, name);
		s->ordered = is_ordered(jsonl_file_fd(s->file));
		if (fd >= 0)
			__atomic_store_n(&s->intent.fd, fd, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&s->inode->lock);
	return fd < 0 ? fd : 0;
}

void fs_transaction_moved(struct fs_mount *m, struct fs_shared *s, ino_t from)
{
	char old[64], new[64];

	pthread_mutex_lock(&s->inode->lock);
	if (s->intent.fd >= 0) {
		fs_transaction_intent_name(s->inode->dev, from, old);
		fs_transaction_intent_name(s->inode->dev, s->inode->ino, new);
		/* Under its old name it is not found after a crash, nor removed: then the
		 * next block gets another. */
		if (renameat(m->transactions_fd, old, m->transactions_fd, new) < 0 ||
		    fsync(m->transactions_fd) < 0) {
			FS_LOG(LOG_WARNING, (uid_t)-1, "intent-stays",
			       FS_STR("intent", old),
			       FS_STR("error", jsonl_error_text(-errno)));
			close(s->intent.fd);
			s->intent.head = 0;
			s->intent.marked = s->intent.filled = false;
			__atomic_store_n(&s->intent.fd, -1, __ATOMIC_RELEASE);
		}
	}
	pthread_mutex_unlock(&s->inode->lock);
}

void fs_transaction_forget(struct fs_mount *m, struct fs_shared *s)
{
	char name[64];

	if (s->intent.fd < 0)
		return;
	fs_transaction_intent_name(s->inode->dev, s->inode->ino, name);
	/* One that holds something is for recovery, by whoever opens the log next. */
	if (!s->intent.marked && !s->intent.filled)
		unlinkat(m->transactions_fd, name, 0);
	else
		m->intents_left = true;
	close(s->intent.fd);
	s->intent.fd = -1;
}

/* ---- beginning and end ---- */

/* The staging file belongs to the caller, so that quotas count. */
static int stage_made(void *ctx, int fd)
{
	const struct fs_transaction *t = ctx;

	return t->m->uid == 0 && fchown(fd, t->ids.uid, t->ids.gid) < 0 ? -errno : 0;
}

int fs_transaction_begin(fuse_req_t req, struct fs_inode *i, const struct jsonl_io *io,
			 struct fs_transaction *t)
{
	struct fs_mount *m = fs_mount_of(req);
	char path[PATH_MAX], name[JSONL_STAGE_NAME];
	struct stat st;
	int rc = fs_inode_stat(m, i, &st);

	if (rc)
		return rc;
	fs_stat_public(i, &st);
	t->m = m;
	t->ino = st.st_ino;
	t->ids = fs_caller_ids(req);
	t->opener =
	    fuse_req_ctx(req)->pid > 0 ? fs_process_of(fuse_req_ctx(req)->pid) : -1;
	fs_path_of(m, i, path, sizeof(path));
	fs_transaction_stage_name(m, name);
	return jsonl_stage_new(io, m->transactions_fd, name, path, stage_made, t,
			       &t->stage);
}

int fs_transaction_open(fuse_req_t req, struct governed *g, struct fs_inode *i)
{
	struct fs_transaction *t = calloc(1, sizeof(*t));
	int rc = t ? fs_transaction_begin(req, i, &g->m->log_io, t) : -ENOMEM;

	if (rc)
		free(t);
	else
		g->transaction = t;
	return rc;
}

void fs_transaction_close(struct governed *g)
{
	if (!g->transaction)
		return;
	fs_ident_transactions(&g->idents, g->transaction->done, g->transaction->dropped);
	jsonl_stage_free(g->transaction->stage);
	free(g->transaction);
}

/* jsonl_writer_commit at the expense of whoever opened the log. */
static int commit_paid(struct governed *g, struct jsonl_transaction *c)
{
	int rc;

	fs_payer_set(g->m, &g->opener);
	rc = jsonl_writer_commit(g->writer, c);
	fs_payer_clear();
	return rc;
}

int fs_transaction_commit(struct governed *g)
{
	struct jsonl_transaction c = {.io = g->m->io,
				      .intent = &g->shared->intent,
				      .durable = g->settings->sync != JSONL_SYNC_NONE};
	uint64_t records, bytes;
	char path[PATH_MAX];
	int rc;

	jsonl_writer_staged(g->writer, &records, &bytes);
	if (!bytes)
		return 0;
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	c.path = path;
	c.ordered = __atomic_load_n(&g->shared->intent.fd, __ATOMIC_ACQUIRE) >= 0 &&
		    g->shared->ordered;
	rc = commit_paid(g, &c);
	if (rc == -EBADF) {
		rc = transaction_intent(g->m, g->shared);
		c.ordered = g->shared->ordered;
		if (!rc)
			rc = commit_paid(g, &c);
	}
	if (!rc) {
		g->m->stats.transactions++;
		g->transaction->done++;
		fs_attributes_changed(g->m, g->base.inode);
	}
	return rc;
}

/* Logs and counts; the records go nowhere. 0, or -errno: after a crash they may be back.
 */
static int transaction_drop(struct governed *g, const char *reason)
{
	uint64_t records, bytes;
	char path[PATH_MAX];
	off_t visible = 0;
	int rc;

	jsonl_writer_staged(g->writer, &records, &bytes);
	if (jsonl_file_visible(fs_shared_file(g->shared), &visible))
		visible = 0;
	rc = jsonl_writer_rollback(g->writer, visible);
	if (!records)
		return rc;
	g->m->stats.transactions_dropped++;
	g->transaction->dropped++;
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	FS_LOG(rc ? LOG_ERR : LOG_NOTICE, g->transaction->ids.uid, "transaction-dropped",
	       FS_STR("path", path), FS_INT("records", records), FS_INT("length", bytes),
	       FS_INT("pid", g->transaction->opener), FS_STR("reason", reason),
	       FS_STR("error", rc ? jsonl_error_text(rc) : ""));
	return rc;
}

enum fs_closing fs_transaction_closing(const struct fs_transaction *t, int flags,
				       pid_t pid)
{
	struct fs_closing_question q = {.thread = pid,
					.pid =
					    pid == t->opener ? pid : fs_process_of(pid),
					.ino = t->ino,
					.flags = flags,
					.backing = t->m->backing_mount};
	enum fs_closing how;

	/* A child that inherits the descriptor closes it, too, when it ends or executes
	 * something: that is no end of what its parent has begun. */
	if (q.pid != t->opener)
		return FS_CLOSING_MORE;
	/* Rather too late, by the release, than in the middle of a transaction. */
	how = fs_process_closing(&q);
	return how == FS_CLOSING_HIDDEN ? FS_CLOSING_MORE : how;
}

bool fs_transaction_ends(struct governed *g, pid_t pid, int *rc)
{
	struct fs_transaction *t = g->transaction;
	enum fs_closing how = fs_transaction_closing(t, g->base.flags, pid);
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

int fs_transaction_map(struct jsonl_stage *stage, struct fs_stage_map *map,
		       struct iovec *iov)
{
	const char *bytes;
	off_t at;
	int fd = jsonl_stage_place(stage, &at, &bytes);

	*map = (struct fs_stage_map){0};
	iov->iov_len = (size_t)jsonl_stage_length(stage);
	iov->iov_base = (void *)bytes;
	if (fd < 0)
		return 0;
	map->len = (size_t)at + iov->iov_len;
	map->at = mmap(NULL, map->len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map->at == MAP_FAILED) {
		map->at = NULL;
		return -errno;
	}
	iov->iov_base = (char *)map->at + at;
	return 0;
}

void fs_transaction_unmap(struct fs_stage_map *map)
{
	if (map->at)
		munmap(map->at, map->len);
}

/* Neither the log nor the quarantine takes it: its file is for the next mount. False:
 * there is none. */
static bool transaction_leave(struct fs_transaction *t, const char *path, int error)
{
	uint64_t len = jsonl_stage_length(t->stage);
	const char *file;

	(void)!jsonl_stage_sync(t->stage);
	file = jsonl_stage_file(t->stage);
	if (!file)
		return false;
	FS_LOG(LOG_ERR, t->ids.uid, "transaction-stays", FS_STR("path", path),
	       FS_INT("length", len), FS_STR("kept", file),
	       FS_STR("error", jsonl_error_text(error)),
	       FS_STR("hint",
		      "it is tried again at the next mount: make room (jsonlfsctl "
		      "quarantine drop, quarantine_max)"));
	jsonl_stage_leave(t->stage);
	return true;
}

/* What cannot be committed is kept, as what is refused is. */
bool fs_transaction_set_aside(struct fs_transaction *t, struct fs_inode *i, int file_fd,
			      int code, bool leave)
{
	struct fs_mount *m = t->m;
	struct fs_stage_map map;
	struct iovec iov;
	char path[PATH_MAX], name[JSONL_QUARANTINE_NAME] = "";
	struct jsonl_quarantine_item item = {
	    .iov = &iov,
	    .niov = 1,
	    .event = "transaction",
	    .code = code,
	    .at = -1,
	    .path = path,
	    .uid = t->ids.uid,
	    .source_fd = file_fd,
	    .reserved = true,
	    .durable = true,
	};
	int rc = fs_transaction_map(t->stage, &map, &iov);
	bool stays;

	fs_path_of(m, i, path, sizeof(path));
	if (!rc)
		rc = jsonl_quarantine_put(m->quarantine, &item, name);
	stays = rc && leave && transaction_leave(t, path, rc);
	if (!rc)
		m->stats.quarantined++;
	else if (!stays && (map.at || iov.iov_base))
		fs_ident_lost(&m->stats, path, &iov, 1);
	fs_transaction_unmap(&map);
	FS_LOG(LOG_ERR, t->ids.uid, "transaction-failed", FS_STR("path", path),
	       FS_INT("length", iov.iov_len), FS_STR("reason", jsonl_error_text(code)),
	       FS_STR("quarantine", rc ? "" : name),
	       FS_STR("error", rc ? jsonl_error_text(rc) : ""));
	return stays;
}

static bool transaction_set_aside(struct governed *g, int code)
{
	return fs_transaction_set_aside(g->transaction, g->base.inode,
					jsonl_file_fd(fs_shared_file(g->shared)), code,
					true);
}

int fs_transaction_release(struct governed *g, bool last)
{
	int rc;

	if (g->transaction->killed && g->settings->killed == JSONL_KILLED_DROP) {
		(void)!transaction_drop(g, "the program was killed");
		return 0;
	}
	rc = fs_transaction_commit(g);
	if (!rc || (rc == -EAGAIN && !last))
		return rc;
	(void)transaction_set_aside(g, rc);
	(void)!jsonl_writer_rollback(g->writer, 0);
	return 0;
}

void fs_transaction_abandon(struct governed *g)
{
	uint64_t records, bytes;

	if (g->settings->killed == JSONL_KILLED_COMMIT)
		return;
	jsonl_writer_staged(g->writer, &records, &bytes);
	if (bytes && transaction_set_aside(g, JSONL_INCOMPLETE))
		(void)!jsonl_writer_rollback(g->writer, 0);
	else
		(void)!transaction_drop(g, "the mount ended before the file was closed");
}

int fs_transaction_truncate(struct governed *g, off_t size)
{
	if (!g->writer || !jsonl_writer_is_begin(g->writer, size))
		return 1;
	return transaction_drop(g, "the program took it back");
}
