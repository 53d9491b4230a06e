/* truncate and ftruncate of a governed file: nothing is thrown away. To its own size is a
 * no-op; to nothing is allowed when a generation beside it holds exactly the same bytes,
 * which is how copytruncate (logrotate) works, but compared under the lock, so that no
 * record can fall between the copy and the cut. */
#include "fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "file.h"

#define TRUNCATE_FREEZE_MS 500

/* Does the descriptor hold exactly the first `len` bytes of the file? 1, 0 or -errno. */
static int holds_the_same(struct jsonl_file *file, int fd, off_t len)
{
	char buf[65536];
	struct stat st, own;
	off_t at = 0;

	if (fstat(fd, &st) < 0 || fstat(jsonl_file_fd(file), &own) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size != len)
		return 0;
	/* A second name of the file itself, made outside, is no copy. */
	if (st.st_dev == own.st_dev && st.st_ino == own.st_ino)
		return 0;
	while (at < len) {
		ssize_t got = pread(fd, buf, sizeof(buf), at);
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

/* Looks through the directory of `path` for a generation that holds all of it. On success
 * the copy is synced before we cut: 1, 0 or -errno. */
static int find_copy(struct fs_mount *m, struct jsonl_file *file, const char *path,
		     off_t len)
{
	char dir_path[PATH_MAX];
	const char *slash = strrchr(path, '/');
	const char *live = slash ? slash + 1 : path;
	struct dirent *e;
	int found = 0;
	int fd;
	DIR *dir;

	snprintf(dir_path, sizeof(dir_path), "%.*s", slash ? (int)(slash - path) : 0,
		 path);
	fd = fs_open_beneath(m, dir_path, O_RDONLY | O_DIRECTORY);
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

		if (!jsonl_policy_generation_of(m->policy, live, e->d_name))
			continue;
		copy =
		    openat(fd, e->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (copy >= 0 && holds_the_same(file, copy, len) == 1)
			found = fsync(copy) < 0 ? -errno : 1;
	}
	closedir(dir);
	return found;
}

static int empty_if_copied(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
			   struct jsonl_file *file, bool quiet)
{
	char path[PATH_MAX];
	off_t end;
	int rc = fs_freeze(file, TRUNCATE_FREEZE_MS, &end);

	if (rc)
		return rc > 0 ? -jsonl_error_errno(rc) : rc;
	fs_path_of(m, i, path, sizeof(path));
	rc = find_copy(m, file, path, end);
	if (rc == 1)
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

int fs_governed_truncate(fuse_req_t req, struct fs_inode *i, off_t size, bool quiet)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_shared *shared;
	char path[PATH_MAX];
	off_t visible;
	int rc = fs_shared_get(m, i, true, &shared);

	if (rc)
		return rc;
	rc = jsonl_file_visible(fs_shared_file(shared), &visible);
	if (!rc && size != visible) {
		if (size == 0) {
			rc = empty_if_copied(req, m, i, fs_shared_file(shared), quiet);
		} else {
			rc = -EPERM;
			fs_path_of(m, i, path, sizeof(path));
			if (!quiet)
				fs_denied(req, "truncate", path,
					  "a log grows by appending records only");
		}
	}
	fs_shared_put(m, shared);
	return rc;
}
