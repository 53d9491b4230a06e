/* SPDX-License-Identifier: MIT */
#include "log/target.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/path.h"
#include "base/syslog.h"
#include "file/file.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/mount.h"
#include "vault/aside.h"
#include "vault/vault.h"

static int target_set_aside(void *ctx, const char *event, int code,
			    const struct iovec *iov, int niov, off_t at, uint64_t offset)
{
	struct fs_target *t = ctx;
	char name[JSONL_QUARANTINE_NAME];

	return fs_aside_cut(&t->m->vault, t->path, jsonl_file_fd(t->file), event, code,
			    iov, niov, at, offset, name);
}

static void target_report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
	struct fs_target *t = ctx;

	FS_SYSLOG(LOG_WARNING, (uid_t)-1, event, FS_STR("path", t->path),
		  FS_INT("offset", at), FS_INT("length", len),
		  FS_STR("reason", jsonl_error_text(code)));
}

static const struct jsonl_file_events target_events = {
    .set_aside = target_set_aside,
    .report = target_report,
};

bool fs_target_gone(struct fs_mount *m, const char *path, dev_t dev)
{
	char dir_path[PATH_MAX];
	const char *slash = strrchr(path, '/');
	cleanup_close int fd = -1;
	struct stat st;

	snprintf(dir_path, sizeof(dir_path), "%.*s", slash ? (int)(slash - path) : 0,
		 path);
	fd = fs_open_beneath(&m->vault, dir_path, O_PATH | O_DIRECTORY);
	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == dev;
}

static bool has_number(int fd, ino_t ino)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == ino;
}

/* Finds the log with this inode number in a directory. Descriptor, -ENOENT or -errno. */
static int find_beside(int dir_fd, ino_t ino, int flags)
{
	DIR *dir = fdopendir(dir_fd);
	struct dirent *e = NULL;
	int fd = -ENOENT;

	if (!dir) {
		fd = -errno;
		close(dir_fd);
		return fd;
	}
	while (fd == -ENOENT) {
		errno = 0;
		/* NOLINTNEXTLINE(concurrency-mt-unsafe): our own stream */
		e = readdir(dir);
		if (!e)
			break;
		if (e->d_ino != ino)
			continue;
		fd = fs_openat_beneath(dirfd(dir), e->d_name, flags | O_NONBLOCK);
		/* Another file system may be mounted on the name. */
		if (fd >= 0 && !has_number(fd, ino)) {
			close(fd);
			fd = -ENOENT;
		}
	}
	if (!e && errno)
		fd = -errno;
	closedir(dir);
	return fd;
}

/* Finds the log with this inode number by its path, or beside it, where a rotation puts
 * it. Descriptor; -ENOENT: it is in neither place; another -errno: that is not known. */
static int target_find(struct fs_mount *m, const char *path, ino_t ino, int flags)
{
	char dir_path[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd = fs_open_beneath(&m->vault, path, flags | O_NONBLOCK), dir;

	if (!ino || has_number(fd, ino))
		return fd;
	if (fd >= 0)
		close(fd);
	snprintf(dir_path, sizeof(dir_path), "%.*s", slash ? (int)(slash - path) : 0,
		 path);
	dir = fs_open_beneath(&m->vault, dir_path, O_RDONLY | O_DIRECTORY);
	return dir < 0 ? dir : find_beside(dir, ino, flags);
}

int fs_target_open(struct fs_mount *m, const char *path, ino_t ino, struct fs_target *t)
{
	const struct jsonl_settings *settings =
	    jsonl_policy_settings(m->vault.policy, path);
	struct jsonl_file_options opt;
	int fd, append, rc;

	*t = (struct fs_target){.m = m, .path = path};
	if (!settings)
		return -ENOMEM;
	opt = (struct jsonl_file_options){.maxrecord = settings->limits.maxrecord,
					  .maxdepth = settings->limits.maxdepth,
					  .retain = true};
	fd = target_find(m, path, ino, O_RDONLY);
	if (fd < 0)
		return fd;
	append = target_find(m, path, ino, O_RDWR | O_APPEND);
	rc = append < 0
		 ? append
		 : jsonl_file_new(m->vault.io, fd, &opt, &target_events, t, &t->file);
	if (rc) {
		close(fd);
		if (append >= 0)
			close(append);
		return rc;
	}
	jsonl_file_set_append_fd(t->file, append, true);
	return 0;
}
