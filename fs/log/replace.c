/* SPDX-License-Identifier: MIT */
/* rewrite=archive: another file takes the place of a log. The steps, and what a crash
 * leaves after each, are in docs/DESIGN.md and docs/FORMAT.md; the order is what keeps
 * the promise:
 *
 *   without the lock   the new content goes to a file beside the log, the old to the
 *                      archive
 *   under the lock     what has been appended meanwhile goes to both; both are synced,
 *                      with mode and owner; the new file is locked
 *   tree_lock          rename; the node stands for the new file; readers keep the old
 *   under the lock     handles and pending syncs go over; the directory is synced
 *
 * Then the lock of the new file is released. A program outside that waited for the lock of
 * the old file gets it on a file without a name, and has to compare. */
#include "log/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/archived.h"
#include "base/cleanup.h"
#include "base/copy.h"
#include "base/error.h"
#include "base/io.h"
#include "base/syslog.h"
#include "base/version.h"
#include "file/file.h"
#include "file/replace.h"
#include "log/content.h"
#include "log/intent.h"
#include "log/openlog.h"
#include "log/version.h"
#include "rules/policy.h"
#include "tree/edition.h"
#include "tree/identity.h"
#include "tree/inode.h"
#include "tree/lookup.h"
#include "tree/mount.h"
#include "tree/notify.h"
#include "tree/path.h"
#include "vault/archive.h"
#include "vault/archive_table.h"
#include "vault/vault.h"

void fs_intent_moved(struct fs_mount *m, struct fs_openlog *s, ino_t from)
{
	char old[64], new[64];

	pthread_mutex_lock(&s->inode->lock);
	if (s->intent.fd >= 0) {
		fs_intent_name(s->inode->dev, from, old);
		fs_intent_name(s->inode->dev, s->inode->ino, new);
		/* Under its old name it is neither found after a crash nor removed; the
		 * next block gets another intent. */
		if (renameat(m->vault.daemon_fd, old, m->vault.daemon_fd, new) < 0 ||
		    fsync(m->vault.daemon_fd) < 0) {
			FS_SYSLOG(LOG_WARNING, (uid_t)-1, "intent-stays",
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

#define REPLACE_FREEZE_MS 500

struct replacing {
	struct fs_mount *m;
	struct fs_inode *inode;
	struct fs_openlog *log;
	struct jsonl_file *file; /* its */
	const struct fs_new_content *content;
	char path[PATH_MAX];
	const char *name; /* in path */
	int dir_fd;
	struct jsonl_replace new; /* the new file, beside the log */
	struct fs_log_version *old;
	fuse_ino_t node; /* of the log in the kernel, before the replacement */
	off_t size;	 /* bytes in it */
	char archive[JSONL_ARCHIVED_NAME];
	struct fs_archive_claim claim;
	int archive_fd; /* -1: the log is empty, or nothing is archived yet */
	off_t archived; /* bytes */
	const char *why;
};

/* Finds the log's name now: it may have been renamed, rotated or removed. */
static int replacing_place(struct replacing *r)
{
	char dir[PATH_MAX];
	char *slash;
	int rc = fs_inode_path(r->m, r->inode, NULL, r->path, sizeof(r->path));

	if (rc)
		return rc;
	slash = strrchr(r->path, '/');
	r->name = slash ? slash + 1 : r->path;
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - r->path) : 0, r->path);
	if (jsonl_policy_classify(r->m->vault.policy, r->path) != r->inode->class)
		return -ESTALE;
	r->dir_fd = fs_open_beneath(&r->m->vault, dir, O_RDONLY | O_DIRECTORY);
	return r->dir_fd < 0 ? r->dir_fd : 0;
}

static int replacing_check(struct replacing *r)
{
	struct stat st;

	if (fstatat(r->dir_fd, r->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	if (st.st_dev != r->inode->dev || st.st_ino != r->content->ino ||
	    fs_version_generation(r->dir_fd, r->name) != r->content->generation)
		return -ESTALE;
	if (st.st_nlink > 1) {
		r->why = "the log has other names, which would keep the old content";
		return -EPERM;
	}
	return 0;
}

static int archive_begin(struct replacing *r)
{
	struct stat st;
	int rc;

	if (fstat(jsonl_file_fd(r->file), &st) < 0)
		return -errno;
	r->claim = (struct fs_archive_claim){r->content->uid, st.st_uid};
	rc = fs_archive_name(&r->claim, r->path, r->archive);
	if (!rc)
		rc = fs_archive_open(&r->m->vault, r->archive);
	if (rc < 0)
		return rc;
	r->archive_fd = rc;
	return 0;
}

static int archive_more(struct replacing *r, off_t upto)
{
	off_t more = upto - r->archived;
	int rc;

	if (more <= 0)
		return 0;
	rc = r->archive_fd < 0 ? archive_begin(r) : 0;
	if (!rc)
		rc = fs_archive_reserve(&r->m->vault, &r->claim, (uint64_t)more,
					!r->archived);
	if (rc) {
		r->why = rc == -EDQUOT ? FS_ARCHIVE_FULL : r->why;
		return rc;
	}
	r->archived = upto;
	return fs_copy_bytes(r->m->vault.io, jsonl_file_fd(r->file), upto - more, more,
			     r->archive_fd);
}

/* Undoes the replacement. */
static void replacing_undo(struct replacing *r)
{
	jsonl_replace_abort(&r->new);
	if (r->archive_fd >= 0)
		unlinkat(r->m->vault.archive_fd, r->archive, 0);
	if (r->archived)
		fs_archive_release(&r->m->vault, &r->claim, (uint64_t)r->archived, 1);
}

/* Does most of the work, while others append. */
static int replacing_prepare(struct replacing *r, off_t visible)
{
	const struct fs_new_content *c = r->content;
	int rc = jsonl_replace_begin(&r->new, r->m->vault.io, r->dir_fd, r->name,
				     c->attributes);

	if (rc)
		return rc;
	rc = fs_copy_bytes(r->m->vault.io, c->fd, 0, c->size, r->new.fd);
	if (!rc && c->unfinished)
		rc = jsonl_replace_write(&r->new, "\n", 1);
	r->size = c->size + c->unfinished;
	if (!rc)
		rc = archive_more(r, visible);
	/* Syncs most of it before anybody has to wait. */
	if (!rc && fdatasync(r->new.fd) < 0)
		rc = -errno;
	return rc;
}

/* Finds where in the log, `end` bytes long, the records begin that came after the part
 * that the new content replaces. The last line of that part may have got its newline
 * since. */
static off_t replacing_base(const struct replacing *r, off_t end)
{
	off_t base = r->content->base < end ? r->content->base : end;

	if (base && base < end && jsonl_file_equals(r->file, "\n", 1, base) == 1 &&
	    jsonl_file_equals(r->file, "\n", 1, base - 1) == 0)
		base++;
	return base;
}

/* Completes the new file under the lock of the old one, the log being `end` bytes long.
 */
static int replacing_finish(struct replacing *r, off_t end)
{
	off_t base = replacing_base(r, end);
	const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	const struct timespec *times =
	    r->content->old_times && base == end ? r->content->old_times : now;
	int rc = fs_copy_bytes(r->m->vault.io, jsonl_file_fd(r->file), base, end - base,
			       r->new.fd);

	r->size += end - base;
	if (!rc)
		rc = archive_more(r, end);
	if (!rc && r->archive_fd >= 0)
		rc = fs_archive_finish(&r->m->vault, jsonl_file_fd(r->file),
				       r->archive_fd);
	/* A file that is renamed into place has its own. */
	r->new.unprivileged =
	    r->content->uid != 0 && r->content->attributes != r->content->fd;
	if (!rc)
		rc = jsonl_replace_prepare(&r->new);
	if (!rc && !r->content->times && futimens(r->new.fd, times) < 0)
		rc = -errno;
	return rc;
}

struct descriptors {
	int read, append, path;
};

static int open_new(struct replacing *r, struct descriptors *d)
{
	const struct jsonl_io *io = r->m->vault.io;

	d->read = io->openat(io, r->dir_fd, r->new.temp, O_RDONLY | O_NOFOLLOW, 0);
	if (d->read < 0)
		return d->read;
	d->append =
	    io->openat(io, r->dir_fd, r->new.temp, O_RDWR | O_APPEND | O_NOFOLLOW, 0);
	if (d->append < 0)
		return d->append;
	d->path = openat(r->dir_fd, r->new.temp, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (d->path < 0)
		return -errno;
	/* Nobody else knows the file yet, so it is free. */
	return io->trylock(io, d->append);
}

/* Renames the new file over the log, under log->switching: later opens read that the log
 * has been switched. */
static int replacing_rename(struct replacing *r, struct descriptors *d)
{
	struct fs_file_handle handle;
	struct stat st;
	int rc = fs_inode_may_rebind(r->m, r->inode, d->path, &handle);

	if (!rc && fstat(d->path, &st) < 0)
		rc = -errno;
	if (rc)
		return rc;
	pthread_rwlock_wrlock(&r->m->tree.lock);
	rc = replacing_check(r);
	if (!rc)
		rc = jsonl_replace_rename(&r->new, 0);
	if (!rc) {
		/* From here on changes of attributes go to the new file. */
		pthread_mutex_lock(&r->inode->lock);
		r->node = fs_inode_replace(r->m, r->inode, &handle, st.st_ino,
					   steal_fd(&d->path), r->old);
		r->log->switches++;
		pthread_mutex_unlock(&r->inode->lock);
	}
	pthread_rwlock_unlock(&r->m->tree.lock);
	return rc;
}

/* Puts the new file in place, under the lock of the old one, which is released here. */
static int replacing_commit(struct replacing *r, off_t end)
{
	struct descriptors d = {-1, -1, -1};
	int rc = replacing_finish(r, end);

	if (!rc)
		rc = open_new(r, &d);
	if (!rc)
		rc = fs_version_new(r->log, &r->old);
	pthread_mutex_lock(&r->log->switching);
	if (!rc)
		rc = replacing_rename(r, &d);
	if (!rc)
		fs_intent_moved(r->m, r->log, r->content->ino);
	if (!rc)
		rc = jsonl_file_switch(r->file, steal_fd(&d.read), steal_fd(&d.append),
				       r->size, steal_fd(&r->dir_fd));
	if (r->log->switches & 1)
		r->log->switches++;
	pthread_mutex_unlock(&r->log->switching);
	jsonl_file_unfreeze(r->file);
	fs_version_put(r->old);
	if (d.read >= 0)
		close(d.read);
	if (d.append >= 0)
		close(d.append);
	if (d.path >= 0)
		close(d.path);
	return rc;
}

static int replacing_freeze(struct replacing *r, unsigned ms, off_t *end)
{
	int rc;

	if (!r->content->any_end)
		return fs_freeze(r->file, ms, end);
	rc = fs_freeze_any(r->file, ms, end);
	if (rc <= 0)
		return rc;
	/* An end that is not JSON Lines must be covered by `base`, and so go to the
	 * archive; else nothing is replaced. */
	if (r->content->base >= *end)
		return 0;
	jsonl_file_unfreeze(r->file);
	return rc;
}

static int replacing_run(struct replacing *r)
{
	off_t end;
	int rc = replacing_place(r);

	if (!rc)
		rc = replacing_check(r);
	/* A lock held outside is to be met before the work is done. */
	if (!rc)
		rc = replacing_freeze(r, 0, &end);
	if (rc)
		return rc;
	jsonl_file_unfreeze(r->file);
	rc = replacing_prepare(r, end);
	if (!rc)
		rc = replacing_freeze(r, REPLACE_FREEZE_MS, &end);
	if (!rc)
		rc = replacing_commit(r, end);
	else if (rc > 0)
		rc = -jsonl_error_errno(rc);
	if (!r->new.renamed)
		replacing_undo(r);
	else if (rc)
		r->why = "the new content is in place, and the old in the archive, but "
			 "after a power cut the old may be there again: do not write it "
			 "once more, look at the kernel's log";
	return rc;
}

int fs_replace_log(struct fs_mount *m, struct fs_inode *i, struct fs_openlog *s,
		   const struct fs_new_content *c, off_t *end, char *archive,
		   const char **why)
{
	struct replacing r = {.m = m,
			      .inode = i,
			      .log = s,
			      .file = fs_openlog_file(s),
			      .content = c,
			      .dir_fd = -1,
			      .new = {.fd = -1},
			      .archive_fd = -1};
	int rc = replacing_run(&r);

	*why = r.why;
	if (archive)
		snprintf(archive, NAME_MAX + 1, "%s", r.archive);
	*end = r.new.renamed ? c->size + c->unfinished : -1;
	if (r.archive_fd >= 0)
		close(r.archive_fd);
	if (r.dir_fd >= 0)
		close(r.dir_fd);
	if (!r.new.renamed)
		return rc;
	if (r.archived)
		fs_archive_entered(&m->vault, &r.claim, r.archive, (uint64_t)r.archived,
				   0);
	fs_node_replaced(m, i, r.node, !c->renaming);
	FS_SYSLOG(LOG_NOTICE, (uid_t)-1, "replaced", FS_STR("path", r.path),
		  FS_INT("length", r.size), FS_INT("kept", r.size - *end),
		  FS_STR("archive", r.archive), FS_INT("archived", r.archived));
	return rc;
}
