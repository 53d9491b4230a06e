/* rewrite=archive: another file takes the place of a log. The steps, and what a crash
 * leaves after each, are in docs/DESIGN.md and docs/FORMAT.md; the order is what keeps
 * the promise:
 *
 *   without the lock   the new content goes to a file beside the log, the old to the
 *                      archive
 *   under the lock     what has been appended meanwhile goes to both; both are synced,
 *                      with mode and owner; the new file is locked
 *   tree_lock          rename; the node stands for the new file
 *   under the lock     handles and pending syncs go over; the directory is synced
 *
 * Then the lock is let go: of the new file. Whoever waited outside for that of the old
 * one gets it on a file that has no name any more, and has to compare. */
#include "rewrite.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cross.h"
#include "inode.h"
#include "replace.h"
#include "seen.h"
#include "transaction.h"

#define REPLACE_FREEZE_MS 500

struct replacing {
	struct fs_mount *m;
	struct fs_inode *inode;
	struct fs_shared *shared;
	struct jsonl_file *file; /* its */
	const struct fs_new_content *content;
	char path[PATH_MAX];
	const char *name; /* in path */
	int dir_fd;
	struct jsonl_replace new; /* the file beside */
	off_t size;		  /* bytes in it */
	char archive[NAME_MAX + 1];
	int archive_fd; /* -1: the log is empty, or nothing is archived yet */
	off_t archived; /* bytes */
	const char *why;
};

/* Finds the name. The log may have been renamed, rotated or removed by now. */
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
	if (jsonl_policy_classify(r->m->policy, r->path) != r->inode->class)
		return -ESTALE;
	r->dir_fd = fs_open_beneath(r->m, dir, O_RDONLY | O_DIRECTORY);
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

static int archive_more(struct replacing *r, off_t upto)
{
	off_t more = upto - r->archived;
	int rc;

	if (more <= 0)
		return 0;
	rc = fs_cross_archive_reserve(NULL, r->m, "rewrite", r->path, (uint64_t)more);
	if (rc) {
		r->why = FS_ARCHIVE_FULL;
		return rc;
	}
	r->archived = upto;
	if (r->archive_fd < 0) {
		fs_cross_archive_name(r->path, r->archive, sizeof(r->archive));
		r->archive_fd = fs_cross_archive_open(r->m, r->archive);
		if (r->archive_fd < 0)
			return r->archive_fd;
	}
	return fs_copy_bytes(r->m, jsonl_file_fd(r->file), upto - more, more,
			     r->archive_fd);
}

/* Nothing comes of it. */
static void replacing_undo(struct replacing *r)
{
	jsonl_replace_abort(&r->new);
	if (r->archive_fd >= 0)
		unlinkat(r->m->archive_fd, r->archive, 0);
	atomic_fetch_sub(&r->m->archive_bytes, (uint64_t)r->archived);
}

/* Most of the work, while others append. */
static int replacing_prepare(struct replacing *r, off_t visible)
{
	const struct fs_new_content *c = r->content;
	int rc =
	    jsonl_replace_begin(&r->new, r->m->io, r->dir_fd, r->name, c->attributes);

	if (rc)
		return rc;
	rc = fs_copy_bytes(r->m, c->fd, 0, c->size, r->new.fd);
	if (!rc && c->unfinished)
		rc = jsonl_replace_write(&r->new, "\n", 1);
	r->size = c->size + c->unfinished;
	if (!rc)
		rc = archive_more(r, visible);
	/* The bulk of it is on the disk before anybody has to wait. */
	if (!rc && fdatasync(r->new.fd) < 0)
		rc = -errno;
	return rc;
}

/* Under the lock of the old file, the log `end` bytes long. */
static int replacing_finish(struct replacing *r, off_t end)
{
	off_t base = r->content->base < end ? r->content->base : end;
	const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	const struct timespec *times =
	    r->content->old_times && base == end ? r->content->old_times : now;
	int rc = fs_copy_bytes(r->m, jsonl_file_fd(r->file), base, end - base, r->new.fd);

	r->size += end - base;
	if (!rc)
		rc = archive_more(r, end);
	if (!rc && r->archive_fd >= 0)
		rc = fs_cross_archive_finish(r->m, jsonl_file_fd(r->file), r->archive_fd);
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
	const struct jsonl_io *io = r->m->io;

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

/* The moment itself. */
static int replacing_rename(struct replacing *r, struct descriptors *d)
{
	struct fs_file_handle handle;
	struct stat st;
	int rc = fs_inode_may_rebind(r->m, r->inode, d->path, &handle);

	if (!rc && fstat(d->path, &st) < 0)
		rc = -errno;
	if (rc)
		return rc;
	pthread_rwlock_wrlock(&r->m->tree_lock);
	rc = replacing_check(r);
	if (!rc)
		rc = jsonl_replace_rename(&r->new, 0);
	if (!rc)
		fs_inode_rebind(r->m, r->inode, &handle, st.st_ino, steal_fd(&d->path));
	pthread_rwlock_unlock(&r->m->tree_lock);
	return rc;
}

/* Under the lock of the old file, which is let go here. */
static int replacing_commit(struct replacing *r, off_t end)
{
	struct descriptors d = {-1, -1, -1};
	int rc = replacing_finish(r, end);

	if (!rc)
		rc = open_new(r, &d);
	if (!rc)
		rc = replacing_rename(r, &d);
	if (!rc)
		fs_transaction_moved(r->m, r->shared, r->content->ino);
	if (!rc)
		rc = jsonl_file_switch(r->file, steal_fd(&d.read), steal_fd(&d.append),
				       r->size, steal_fd(&r->dir_fd));
	jsonl_file_unfreeze(r->file);
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
	/* What nobody can judge goes to the archive, or nowhere. */
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
	/* A lock that is held outside is met before the work is done. */
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

int fs_rewrite_replace(struct fs_mount *m, struct fs_inode *i, struct fs_shared *s,
		       const struct fs_new_content *c, off_t *end, char *archive,
		       const char **why)
{
	struct replacing r = {.m = m,
			      .inode = i,
			      .shared = s,
			      .file = fs_shared_file(s),
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
	m->stats.archived += r.archive_fd >= 0;
	fs_attributes_changed(m, i);
	FS_LOG(LOG_NOTICE, (uid_t)-1, "replaced", FS_STR("path", r.path),
	       FS_INT("length", r.size), FS_INT("kept", r.size - *end),
	       FS_STR("archive", r.archive), FS_INT("archived", r.archived));
	return rc;
}
