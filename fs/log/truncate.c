/* SPDX-License-Identifier: MIT */
/* Decides about truncate and ftruncate of a log: no record is lost. Its own size is a
 * no-op. To nothing is allowed when a generation beside it holds exactly the same bytes,
 * which is how copytruncate (logrotate) works; they are compared under the lock, so that
 * no record can come between the copy and the cut. */
#include "log/truncate.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "file/file.h"
#include "log/content.h"
#include "log/openlog.h"
#include "rules/policy.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "vault/archive.h"
#include "vault/denied.h"
#include "vault/vault.h"

#define TRUNCATE_FREEZE_MS 500

enum { COPY_KEPT = 1, COPY_FOREIGN };

/* Compares the descriptor with the first `len` bytes of the file. A last newline that one
 * of them lacks counts as there. 1: the same, 0 or -errno. */
static int holds_the_same(struct jsonl_file *file, int fd, off_t len)
{
	char buf[65536];
	struct stat st, own;
	off_t at = 0;

	if (fstat(fd, &st) < 0 || fstat(jsonl_file_fd(file), &own) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	if (st.st_size == len + 1 && len &&
	    jsonl_file_equals(file, "\n", 1, len - 1) == 0 &&
	    pread(fd, buf, 1, len) == 1 && buf[0] == '\n')
		st.st_size = len;
	len = fs_content_length(file, len, st.st_size);
	if (st.st_size != len)
		return 0;
	/* A hard link to the log itself is not a copy. */
	if (st.st_dev == own.st_dev && st.st_ino == own.st_ino)
		return 0;
	while (at < len) {
		size_t want =
		    len - at < (off_t)sizeof(buf) ? (size_t)(len - at) : sizeof(buf);
		ssize_t got = pread(fd, buf, want, at);
		int rc;

		if (got <= 0)
			return got ? -errno : 0;
		rc = jsonl_file_equals(file, buf, (size_t)got, at);
		if (rc <= 0)
			return rc;
		at += got;
	}
	return 1;
}

/* Returns true when only the log's owner or root can remove the copy. */
static bool is_trusted(struct jsonl_file *file, int copy)
{
	struct stat st, own;

	return fstat(copy, &st) == 0 && fstat(jsonl_file_fd(file), &own) == 0 &&
	       (st.st_uid == own.st_uid || st.st_uid == 0);
}

/* Looks through the directory of `path` for a generation that holds all of it. On success
 * the copy is synced before we cut: _KEPT, _FOREIGN (only somebody else's holds it), 0 or
 * -errno. */
static int find_copy(struct fs_mount *m, struct jsonl_file *file, const char *path,
		     off_t len)
{
	char dir_path[PATH_MAX];
	const char *slash = strrchr(path, '/');
	const char *live = slash ? slash + 1 : path;
	struct dirent *e;
	bool foreign = false;
	int found = 0;
	int fd;
	DIR *dir;

	snprintf(dir_path, sizeof(dir_path), "%.*s", slash ? (int)(slash - path) : 0,
		 path);
	fd = fs_open_beneath(&m->vault, dir_path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -errno;
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): our own stream */
	while (!found && (e = readdir(dir))) {
		cleanup_close int copy = -1;

		if (!jsonl_policy_generation_of(m->vault.policy, live, e->d_name))
			continue;
		copy =
		    openat(fd, e->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (copy < 0 || holds_the_same(file, copy, len) != 1)
			continue;
		if (is_trusted(file, copy))
			found = fsync(copy) < 0 ? -errno : COPY_KEPT;
		else
			foreign = true;
	}
	closedir(dir);
	return found || !foreign ? found : COPY_FOREIGN;
}

/* Copies the content to the archive, because the copy beside it may be removed. COPY_KEPT
 * or -errno. */
static int archive_content(fuse_req_t req, struct jsonl_file *file, const char *path,
			   off_t end)
{
	struct stat st;
	int rc;

	if (fstat(jsonl_file_fd(file), &st) < 0)
		return -errno;
	st.st_size = end;
	rc = fs_archive_copy(req, "truncate", jsonl_file_fd(file), path, &st);
	return rc ? rc : COPY_KEPT;
}

static int empty_if_copied(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
			   struct jsonl_file *file, bool quiet)
{
	char path[PATH_MAX];
	off_t end;
	int rc = fs_freeze_as_is(file, TRUNCATE_FREEZE_MS, &end);

	if (rc)
		return rc > 0 ? -jsonl_error_errno(rc) : rc;
	fs_path_of(m, i, path, sizeof(path));
	rc = find_copy(m, file, path, end);
	if (rc == COPY_FOREIGN)
		rc = archive_content(req, file, path, end);
	if (rc == COPY_KEPT)
		rc = jsonl_file_empty(file);
	else if (!rc)
		rc = -EPERM;
	jsonl_file_unfreeze(file);
	if (rc == -EPERM && !quiet)
		fs_denied(
		    req, "truncate", path,
		    "no generation beside it holds exactly the present content; copy it "
		    "to a name such as FILE.1 first, or rotate by renaming");
	return rc;
}

int fs_log_truncate(fuse_req_t req, struct fs_inode *i, off_t size, bool quiet)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_openlog *log;
	char path[PATH_MAX];
	off_t visible;
	int rc = fs_openlog_get(m, i, true, &log);

	if (rc)
		return rc == -ENOLCK ? -EAGAIN : rc;
	rc = jsonl_file_visible(fs_openlog_file(log), &visible);
	if (!rc && size != visible) {
		if (size == 0) {
			rc = empty_if_copied(req, m, i, fs_openlog_file(log), quiet);
		} else {
			rc = -EPERM;
			fs_path_of(m, i, path, sizeof(path));
			if (!quiet)
				fs_denied(req, "truncate", path,
					  "a log grows by appending records only");
		}
	}
	fs_openlog_put(m, log);
	return rc;
}
