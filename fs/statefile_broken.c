/* State files that are no document when they are opened, and what is kept for that case.
 */
#include "statefile.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hash.h"
#include "replace.h"
#include "staging.h"

#define KEPT_DIR "last-good"

/* The directory STATE/last-good, made when it is missing; descriptor or -errno. */
static int kept_dir(struct fs_mount *m)
{
	int fd;

	if (mkdirat(m->state_fd, KEPT_DIR, 0711) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(m->state_fd, KEPT_DIR,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* HASH-BASENAME: the hash is that of the whole path. */
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
		rc = jsonl_replace_begin(&r, m->io, dir, name, attributes);
	if (rc)
		return rc;
	rc = fs_copy_bytes(m, from, 0, st.st_size, r.fd);
	if (!rc)
		return jsonl_replace_commit(&r, 0);
	jsonl_replace_abort(&r);
	return rc;
}

void fs_statefile_keep(struct fs_mount *m, const struct jsonl_settings *settings,
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
		FS_LOG(LOG_WARNING, (uid_t)-1, "last-good", FS_STR("path", path),
		       FS_STR("reason", jsonl_error_text(rc)),
		       FS_STR("next", "make room for the state directory"));
}

struct broken {
	struct fs_mount *m;
	char path[PATH_MAX];
	const char *name; /* in path */
	int dir_fd;
	int fd;			  /* the broken content */
	char aside[NAME_MAX + 1]; /* what it is called now */
};

static int broken_place(struct broken *b)
{
	char dir[PATH_MAX];
	char *slash = strrchr(b->path, '/');

	b->name = slash ? slash + 1 : b->path;
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - b->path) : 0, b->path);
	b->dir_fd = fs_open_beneath(b->m, dir, O_RDONLY | O_DIRECTORY);
	return b->dir_fd < 0 ? b->dir_fd : 0;
}

/* NAME.bak-20261120T101112.123456789Z, beside it. */
static int broken_move(struct broken *b, const struct stat *want)
{
	struct timespec now;
	char stamp[32];
	struct stat st;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%S", &tm);
	snprintf(b->aside, sizeof(b->aside), "%.200s.bak-%s.%09ldZ", b->name, stamp,
		 now.tv_nsec);
	if (fstatat(b->dir_fd, b->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (st.st_dev != want->st_dev || st.st_ino != want->st_ino)
		return -ESTALE;
	if (renameat2(b->dir_fd, b->name, b->dir_fd, b->aside, RENAME_NOREPLACE) < 0)
		return -errno;
	return 0;
}

/* What could not be put in its place the next open tries again; without the name none
 * would. */
static void broken_move_back(struct broken *b)
{
	if (!renameat2(b->dir_fd, b->aside, b->dir_fd, b->name, RENAME_NOREPLACE))
		b->aside[0] = '\0';
}

/* What `onbroken` wants in its place. 1: there is something; 0: nothing; -errno. */
static int broken_fill(struct broken *b, const struct jsonl_settings *settings)
{
	cleanup_close int dir = -1, from = -1;
	char name[NAME_MAX + 1];
	struct jsonl_replace r;
	int rc;

	if (settings->onbroken == JSONL_ONBROKEN_ERROR)
		return 0;
	if (settings->onbroken == JSONL_ONBROKEN_EMPTY) {
		rc = jsonl_replace_begin(&r, b->m->io, b->dir_fd, b->name, b->fd);
		if (!rc)
			rc = jsonl_replace_commit(&r, RENAME_NOREPLACE);
		return rc ? rc : 1;
	}
	kept_name(b->path, name);
	dir = kept_dir(b->m);
	if (dir < 0)
		return dir;
	from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0)
		return errno == ENOENT ? 0 : -errno;
	rc = copy_as(b->m, from, b->dir_fd, b->name, b->fd);
	return rc ? rc : 1;
}

int fs_statefile_broken(struct fs_mount *m, struct fs_inode *i,
			const struct jsonl_settings *settings, int fd,
			const struct stat *st)
{
	struct broken b = {.m = m, .dir_fd = -1, .fd = fd};
	off_t at;
	int verdict, rc, unsynced = 0;

	if (!st->st_size)
		return 0;
	verdict = fs_statefile_check(m, &settings->limits, fd, &at);
	if (verdict <= 0 || verdict == JSONL_TOO_LONG)
		return verdict < 0 ? verdict : 0;
	if (m->config.readonly)
		return -jsonl_error_errno(verdict);
	/* Nobody may be about to mend it, outside either. */
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
		/* After a power cut it may stand where it stood, and be moved once more. */
		unsynced = fsync(b.dir_fd) < 0 ? -errno : 0;
		rc = broken_fill(&b, settings);
		if (rc < 0)
			broken_move_back(&b);
	}
	if (b.dir_fd >= 0)
		close(b.dir_fd);
	m->stats.state_files_broken++;
	FS_LOG(LOG_ERR, (uid_t)-1, "state-file-broken", FS_STR("path", b.path),
	       FS_INT("offset", at), FS_STR("reason", jsonl_error_text(verdict)),
	       FS_STR("moved", b.aside),
	       FS_STR("error", rc < 0	  ? jsonl_error_text(rc)
			       : unsynced ? jsonl_error_text(unsynced)
					  : ""),
	       FS_STR("next", rc == 1 ? "look at what was moved aside"
				      : "write the state anew, or mend what was moved "
					"aside"));
	if (b.aside[0]) {
		/* The name leads elsewhere now. */
		pthread_mutex_lock(&i->lock);
		i->stale = true;
		pthread_mutex_unlock(&i->lock);
	}
	return rc == 1 ? -ESTALE : -jsonl_error_errno(verdict);
}
