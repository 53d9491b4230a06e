/* SPDX-License-Identifier: MIT */
/* Handles state files that are not documents when they are opened, and keeps good
 * versions for that case. */
#include "document/broken.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/copy.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/lease.h"
#include "base/stamp.h"
#include "base/syslog.h"
#include "document/check.h"
#include "file/replace.h"
#include "rules/config.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "vault/vault.h"

#define KEPT_DIR "last-good"

/* Opens STATE/daemon/last-good, or makes it; descriptor or -errno. */
static int kept_dir(struct fs_mount *m)
{
	int fd;

	if (mkdirat(m->vault.common_fd, KEPT_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(m->vault.common_fd, KEPT_DIR,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Makes the name HASH-BASENAME; the hash is that of the whole path. */
static void kept_name(const char *path, char name[NAME_MAX + 1])
{
	const char *slash = strrchr(path, '/');
	uint64_t h = jsonl_hash(JSONL_HASH_START, path, strlen(path));

	snprintf(name, NAME_MAX + 1, "%016llx-%.200s", (unsigned long long)h,
		 slash ? slash + 1 : path);
}

/* Copies a file as `name` into a directory, atomically and durably. */
static int copy_as(struct fs_mount *m, int from, int dir, const char *name,
		   int attributes)
{
	struct jsonl_replace r;
	struct stat st;
	int rc = fstat(from, &st) < 0 ? -errno : 0;

	if (!rc)
		rc = jsonl_replace_begin(&r, m->vault.io, dir, name, attributes);
	if (rc)
		return rc;
	rc = fs_copy_bytes(m->vault.io, from, 0, st.st_size, r.fd);
	if (!rc)
		return jsonl_replace_commit(&r, 0);
	jsonl_replace_abort(&r);
	return rc;
}

void fs_document_keep(struct fs_mount *m, const struct jsonl_settings *settings,
		      const char *path, int fd)
{
	cleanup_close int dir = -1;
	char name[NAME_MAX + 1];
	int rc;

	if (settings->onbroken != JSONL_ONBROKEN_LAST_GOOD)
		return;
	kept_name(path, name);
	dir = kept_dir(m);
	rc = dir < 0 ? dir : copy_as(m, fd, dir, name, fd);
	if (rc)
		FS_SYSLOG(LOG_WARNING, (uid_t)-1, "last-good", FS_STR("path", path),
			  FS_STR("reason", jsonl_error_text(rc)),
			  FS_STR("next", "make room for the state directory"));
}

struct broken {
	struct fs_mount *m;
	char path[PATH_MAX];
	const char *name; /* in path */
	int dir_fd;
	int fd;			  /* the broken content */
	char aside[NAME_MAX + 1]; /* its new name */
};

static int broken_place(struct broken *b)
{
	char dir[PATH_MAX];
	char *slash = strrchr(b->path, '/');

	b->name = slash ? slash + 1 : b->path;
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - b->path) : 0, b->path);
	b->dir_fd = fs_open_beneath(&b->m->vault, dir, O_RDONLY | O_DIRECTORY);
	return b->dir_fd < 0 ? b->dir_fd : 0;
}

/* Renames the file to NAME.bak-20261120T101112.123456789Z. */
static int broken_move(struct broken *b, const struct stat *want)
{
	char stamp[JSONL_STAMP];
	struct stat st;

	jsonl_stamp_name_now(stamp);
	snprintf(b->aside, sizeof(b->aside), "%.200s.bak-%s", b->name, stamp);
	if (fstatat(b->dir_fd, b->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (st.st_dev != want->st_dev || st.st_ino != want->st_ino)
		return -ESTALE;
	if (renameat2(b->dir_fd, b->name, b->dir_fd, b->aside, RENAME_NOREPLACE) < 0)
		return -errno;
	return 0;
}

/* Moves the file back when its replacement could not be made: the next open tries again,
 * which it could not without the name. */
static void broken_move_back(struct broken *b)
{
	if (!renameat2(b->dir_fd, b->aside, b->dir_fd, b->name, RENAME_NOREPLACE))
		b->aside[0] = '\0';
}

/* Makes the replacement that `onbroken` asks for. 1: there is one; 0: none; -errno. */
static int broken_fill(struct broken *b, const struct jsonl_settings *settings)
{
	cleanup_close int dir = -1, from = -1;
	char name[NAME_MAX + 1];
	struct jsonl_replace r;
	int rc;

	if (settings->onbroken == JSONL_ONBROKEN_ERROR)
		return 0;
	if (settings->onbroken == JSONL_ONBROKEN_EMPTY) {
		rc = jsonl_replace_begin(&r, b->m->vault.io, b->dir_fd, b->name, b->fd);
		if (!rc)
			rc = jsonl_replace_commit(&r, RENAME_NOREPLACE);
		return rc ? rc : 1;
	}
	kept_name(b->path, name);
	dir = kept_dir(b->m);
	if (dir < 0)
		return dir;
	from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (from < 0)
		return errno == ENOENT ? 0 : -errno;
	rc = copy_as(b->m, from, b->dir_fd, b->name, b->fd);
	return rc ? rc : 1;
}

int fs_document_broken(struct fs_mount *m, struct fs_inode *i,
		       const struct jsonl_settings *settings, int fd,
		       const struct stat *st)
{
	struct broken b = {.m = m, .dir_fd = -1, .fd = fd};
	off_t at;
	int verdict, rc, unsynced = 0;

	if (!st->st_size)
		return 0;
	verdict = fs_document_check(m, &settings->limits, fd, &at);
	if (verdict <= 0 || verdict == JSONL_TOO_LONG)
		return verdict < 0 ? verdict : 0;
	if (m->vault.config.readonly)
		return -jsonl_error_errno(verdict);
	/* No program, inside or outside, may be about to correct it. */
	rc = fs_has_writers(fd);
	if (rc)
		return rc > 0 ? 0 : -jsonl_error_errno(verdict);
	fs_path_of(m, i, b.path, sizeof(b.path));
	rc = broken_place(&b);
	if (!rc)
		rc = broken_move(&b, st);
	if (rc) {
		b.aside[0] = '\0';
	} else {
		/* After a power cut the file may be in its old place, and be moved once
		 * more. */
		unsynced = fsync(b.dir_fd) < 0 ? -errno : 0;
		rc = broken_fill(&b, settings);
		if (rc < 0)
			broken_move_back(&b);
	}
	if (b.dir_fd >= 0)
		close(b.dir_fd);
	m->vault.stats.state_files_broken++;
	FS_SYSLOG(LOG_ERR, (uid_t)-1, "state-file-broken", FS_STR("path", b.path),
		  FS_INT("offset", at), FS_STR("reason", jsonl_error_text(verdict)),
		  FS_STR("moved", b.aside),
		  FS_STR("error", rc < 0     ? jsonl_error_text(rc)
				  : unsynced ? jsonl_error_text(unsynced)
					     : ""),
		  FS_STR("next", rc == 1
				     ? "look at what was moved aside"
				     : "write the state anew, or correct what was moved "
				       "aside"));
	if (b.aside[0]) {
		/* The name leads to another file now. */
		pthread_mutex_lock(&i->lock);
		i->stale = true;
		pthread_mutex_unlock(&i->lock);
	}
	return rc == 1 ? -ESTALE : -jsonl_error_errno(verdict);
}
