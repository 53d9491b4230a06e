/* SPDX-License-Identifier: MIT */
/* Implements follow=path: a handle opened with O_APPEND follows its name. A program that
 * never opens its log again would append to the rotated file for ever; with it the next
 * record goes to the new file, whole, and to one of the two only.
 *
 * In shared mode another daemon may replace a log as a whole, which leaves the handles of
 * this one on a file without a name: each of them goes on with the file that has the
 * name.
 *
 * A handle changes its file between two of its writes. What it appended before is made
 * durable first, so that a later close or fsync covers it without looking back. */
#include "log/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/cleanup.h"
#include "base/stamp.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/path.h"
#include "base/syslog.h"
#include "file/file.h"
#include "log/handle.h"
#include "log/openlog.h"
#include "record/writer.h"
#include "rules/config.h"
#include "tree/descriptor.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/lookup.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "vault/account.h"

/* A rotation outside the mount changes no counter: look by the clock, too. */
#define FOLLOW_LOOK_MS 1000
/* Milliseconds between two questions to a server for a name. */
#define NAMES_ASK_MS 500

struct fs_follow {
	pthread_mutex_t lock;
	struct fs_inode *dir; /* constant, holds a reference; the name is in it */
	char *name;
	/* Constant: the node to which the kernel sends the WRITEs. It lives as long as
	 * the handle. */
	const struct fs_inode *opened;
	bool path; /* constant: follow=path holds for the handle */
	/* Set by follow_check, under the file's locks: the name leads to another file,
	 * and the file of the handle has no name any more. */
	_Atomic bool due, replaced;
	/* FLUSHes that are not answered. Begin under lock and end without: answers come
	 * under the lock of the file, which is taken inside this one. */
	atomic_uint flushing;
	/* Under lock, as is the log of its handle: */
	uint64_t seen; /* mount->log_names when the name led to this file */
	int64_t looked;
	bool warned;
	/* The handle has no right to the file that its name leads to. */
	_Atomic bool refused;
};

/* Looks up what the name leads to now, in the directory behind `fd`. 0 or -errno. */
static int named_now(const struct fs_follow *f, int fd, struct statx *named)
{
	int rc = statx(fd, f->name, AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC,
		       STATX_TYPE | STATX_INO, named);

	return rc < 0 ? -errno : 0;
}

static bool names_this(const struct statx *named, const struct stat *st)
{
	return named->stx_ino == st->st_ino &&
	       makedev(named->stx_dev_major, named->stx_dev_minor) == st->st_dev;
}

/* Returns true when the directory is to be read again. Under the file's locks, which
 * guard names_asked. */
static bool directory_due(struct fs_openlog *log, const struct stat *st)
{
	const int64_t now = jsonl_now_ms();

	if (!log->m->vault.remote ||
	    (st->st_nlink && now - log->names_asked < NAMES_ASK_MS))
		return false;
	log->names_asked = now;
	return true;
}

/* jsonl_file_user.check. Without f->lock: `dir` and `name` are constant. */
static int follow_check(struct jsonl_file_user *user, const struct stat *st)
{
	struct fs_log_handle *g = user->ctx;
	struct fs_follow *f = g->follow;
	struct statx named;
	bool same;
	int fd, rc;

	/* A rotated file can still be found by its new name. */
	if (st->st_nlink && !f->path)
		return 0;
	fd = fs_inode_fd_get(g->m, f->dir);
	if (fd < 0)
		return fd;
	rc = named_now(f, fd, &named);
	if (!rc && names_this(&named, st) && directory_due(g->log, st)) {
		fs_name_ask(fd, f->name);
		rc = named_now(f, fd, &named);
	}
	fs_inode_fd_put(g->m, f->dir, fd);
	if (rc == -ENOENT)
		return st->st_nlink ? 0 : -ESTALE;
	same = !rc && names_this(&named, st);
	/* A file without a name cannot be what the name leads to: some cache is stale.
	 * Try again. */
	if (rc || same)
		return rc || st->st_nlink ? rc : -EAGAIN;
	if (!S_ISREG(named.stx_mode))
		return st->st_nlink ? 0 : -ESTALE;
	f->replaced = !st->st_nlink;
	f->due = true;
	return f->refused && st->st_nlink ? 0 : -EAGAIN;
}

int fs_follow_new(struct fs_log_handle *g, bool path)
{
	struct fs_follow *f = calloc(1, sizeof(*f));
	struct jsonl_file_user *user;
	int rc;

	if (!f)
		return -ENOMEM;
	f->seen = g->m->tree.log_names;
	f->looked = jsonl_now_ms();
	f->opened = g->base.inode;
	rc = fs_inode_place(g->m, g->base.inode, &f->dir, &f->name);
	if (rc) {
		free(f);
		/* The file lost its name while it was opened: there is nothing to
		 * follow. */
		return rc == -ENOENT ? 0 : rc;
	}
	f->path = path;
	pthread_mutex_init(&f->lock, NULL);
	g->follow = f;
	user = jsonl_writer_user(g->writer);
	user->ctx = g;
	user->check = follow_check;
	return 0;
}

void fs_follow_free(struct fs_log_handle *g)
{
	struct fs_follow *f = steal_ptr(&g->follow);

	if (!f)
		return;
	fs_inode_unref(g->m, f->dir);
	pthread_mutex_destroy(&f->lock);
	free(f->name);
	free(f);
}

struct fs_openlog *fs_follow_hold(struct fs_log_handle *g, struct fs_openlog **held)
{
	*held = NULL;
	if (!g->follow)
		return g->log;
	pthread_mutex_lock(&g->follow->lock);
	*held = fs_openlog_ref(g->log);
	pthread_mutex_unlock(&g->follow->lock);
	return *held;
}

void fs_follow_flush_begins(struct fs_log_handle *g)
{
	if (!g->follow)
		return;
	pthread_mutex_lock(&g->follow->lock);
	atomic_fetch_add(&g->follow->flushing, 1);
	pthread_mutex_unlock(&g->follow->lock);
}

void fs_follow_flush_ends(struct fs_log_handle *g)
{
	if (g->follow)
		atomic_fetch_sub(&g->follow->flushing, 1);
}

/* Checks that the caller may write to the new file: a handle is a right to the old one
 * only. With an ACL the mode does not show who may, so that only the owner passes. */
static bool caller_may_write(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
			     const struct stat *st)
{
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	cleanup_close int fd = -1;

	if (caller->uid == 0 || m->vault.uid != 0)
		return true;
	if (caller->uid == st->st_uid)
		return st->st_mode & S_IWUSR;
	fd = fs_inode_open(m, i, O_RDONLY);
	if (fd < 0 || fgetxattr(fd, "system.posix_acl_access", NULL, 0) >= 0)
		return false;
	if (fs_caller_in_group(req, st->st_gid))
		return st->st_mode & S_IWGRP;
	return st->st_mode & S_IWOTH;
}

/* Returns true when the new file has owner and mode of the one that it has replaced. */
static bool is_successor(struct fs_log_handle *g, const struct stat *st)
{
	struct stat old;

	return g->follow->replaced &&
	       fstat(jsonl_file_fd(fs_openlog_file(g->log)), &old) == 0 &&
	       old.st_uid == st->st_uid && old.st_gid == st->st_gid &&
	       old.st_mode == st->st_mode;
}

static void follow_stays(fuse_req_t req, struct fs_log_handle *g, const char *why)
{
	const struct fuse_ctx unknown = {.uid = g->opener.uid, .gid = g->opener.gid};
	const struct fuse_ctx *caller = req ? fuse_req_ctx(req) : &unknown;
	char path[PATH_MAX];

	if (g->follow->warned)
		return;
	g->follow->warned = true;
	if (fs_inode_path(g->m, g->follow->dir, g->follow->name, path, sizeof(path)))
		snprintf(path, sizeof(path), "%s", g->follow->name);
	FS_SYSLOG(
	    LOG_WARNING, caller->uid, "follow-refused", FS_STR("path", path),
	    FS_STR("reason", why), FS_INT("pid", caller->pid), FS_INT("uid", caller->uid),
	    FS_STR("next", "its records go on into the rotated file; let the new one "
			   "have the owner and mode of the old, or restart the program"));
}

/* Links the handle to its new inode, unless that has just lost its class. */
static bool relink(struct fs_log_handle *g, struct fs_inode *i)
{
	struct fs_mount *m = g->m;
	bool stale;

	pthread_rwlock_rdlock(&m->tree.lock);
	pthread_mutex_lock(&i->lock);
	stale = i->stale;
	pthread_mutex_unlock(&i->lock);
	if (!stale) {
		fs_handle_unlink(m, &g->base);
		fs_handle_link(m, &g->base, i);
	}
	pthread_rwlock_unlock(&m->tree.lock);
	return !stale;
}

static int go_over(struct fs_log_handle *g, struct fs_inode *i)
{
	struct fs_openlog *old = g->log, *new;
	cleanup_close int dir = -1;
	off_t visible;
	int rc = fs_openlog_get(g->m, i, true, &new);

	if (rc)
		return rc;
	/* The new name may not be on the disk yet, and what is appended to its file is
	 * about to be acknowledged. */
	if (g->settings->sync != JSONL_SYNC_NONE) {
		dir = fs_inode_open(g->m, g->follow->dir, O_RDONLY | O_DIRECTORY);
		rc = dir < 0 ? dir : 0;
	}
	if (!rc)
		rc = fs_account_file(&g->m->vault, g->account, &new->payer);
	if (!rc)
		rc = jsonl_file_visible(new->file, &visible);
	if (!rc && !relink(g, i))
		rc = -ESTALE;
	if (rc) {
		fs_openlog_put(g->m, new);
		return rc;
	}
	jsonl_writer_retarget(g->writer, new->file, visible);
	g->log = new;
	g->moved = i != g->follow->opened;
	fs_openlog_put(g->m, old);
	if (dir >= 0)
		jsonl_file_set_directory(new->file, steal_fd(&dir),
					 jsonl_writer_user(g->writer));
	g->m->vault.stats.followed++;
	return 0;
}

/* Looks up what the name leads to now. Returns true when the handle is on that file. */
static bool look(fuse_req_t req, struct fs_log_handle *g)
{
	struct fs_follow *f = g->follow;
	struct fs_inode *i;
	bool there = false;
	struct stat st;
	int rc;

	/* Between the rename and the creation of the new file the old one is used. */
	if (fs_inode_lookup(g->m, f->dir, f->name, &i, &st))
		return false;
	if (i == g->base.inode) {
		there = true;
	} else if (S_ISREG(i->type) && i->class == JSONL_CLASS_GOVERNED) {
		rc = is_successor(g, &st) || (req && caller_may_write(req, g->m, i, &st))
			 ? go_over(g, i)
			 : -EACCES;
		f->refused = rc && rc != -ESTALE;
		there = !rc;
		if (rc && rc != -ESTALE)
			follow_stays(req, g, jsonl_error_text(rc));
	}
	fs_inode_unref(g->m, i);
	return there;
}

void fs_follow_name(fuse_req_t req, struct fs_log_handle *g, bool append, unsigned closes)
{
	struct fs_follow *f = g->follow;
	uint64_t names = g->m->tree.log_names;
	int64_t now;

	if (!f || (!f->due && !(f->path && append)))
		return;
	now = jsonl_now_ms();
	pthread_mutex_lock(&f->lock);
	/* A handle whose close is under way waits for a sync of the old file. */
	if (atomic_load(&f->flushing) <= closes &&
	    (f->due || f->seen != names || now - f->looked >= FOLLOW_LOOK_MS)) {
		f->due = false;
		f->looked = now;
		if (look(req, g)) {
			f->seen = names;
			f->warned = false;
		}
	}
	pthread_mutex_unlock(&f->lock);
}
