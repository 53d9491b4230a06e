/* SPDX-License-Identifier: MIT */
#include "names/rename_directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/descriptor.h"
#include "tree/mount.h"
#include "tree/renaming.h"

/* Holds a path that grows and shrinks at its end. One that is too long has no class. */
struct side {
	char path[PATH_MAX];
	bool too_long;
};

/* Appends a name. Returns the length to which the path is cut back. */
static size_t side_enter(struct side *s, const char *name)
{
	size_t len = strlen(s->path);

	s->too_long = len + strlen(name) + 2 > sizeof(s->path);
	if (!s->too_long)
		(void)snprintf(s->path + len, sizeof(s->path) - len, "/%s", name);
	return len;
}

static enum jsonl_class side_class(struct fs_mount *m, const struct side *s)
{
	return s->too_long ? JSONL_CLASS_PLAIN
			   : jsonl_policy_classify(m->vault.policy, s->path);
}

static int subtree_crosses(struct fs_mount *m, int fd, struct side *from,
			   struct side *to);

/* Compares the classes of the file that both paths lead to: 1 they differ, 0 or -errno.
 */
static int entry_crosses(struct fs_mount *m, int dir_fd, const char *name,
			 struct side *from, struct side *to)
{
	struct stat st;
	int sub;

	if (from->too_long && to->too_long)
		return 0;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno; /* gone meanwhile */
	if (S_ISREG(st.st_mode))
		return side_class(m, from) != side_class(m, to);
	if (!S_ISDIR(st.st_mode))
		return 0;
	sub = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return sub < 0 ? -errno : subtree_crosses(m, sub, from, to);
}

/* Returns 1 when a regular file below would change its class if the prefix of its path
 * did, 0 or -errno. `fd` is taken over. */
static int subtree_crosses(struct fs_mount *m, int fd, struct side *from, struct side *to)
{
	const bool from_long = from->too_long, to_long = to->too_long;
	DIR *dir = fdopendir(fd);
	struct dirent *e;
	int rc = 0;

	if (!dir) {
		rc = -errno;
		close(fd);
		return rc;
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): our own stream */
	while (!rc && (errno = 0, e = readdir(dir))) {
		size_t from_len, to_len;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		from_len = from_long ? 0 : side_enter(from, e->d_name);
		to_len = to_long ? 0 : side_enter(to, e->d_name);
		rc = entry_crosses(m, dirfd(dir), e->d_name, from, to);
		from->path[from_len] = to->path[to_len] = '\0';
		from->too_long = from_long;
		to->too_long = to_long;
	}
	if (!rc)
		rc = -errno; /* 0: the end */
	closedir(dir);
	return rc;
}

int fs_directory_may_move(struct fs_renaming *r, int dir_fd, const char *name,
			  const char *from, const char *to)
{
	struct side old = {.too_long = !*from}, new = {.too_long = !*to};
	int fd, rc;

	if (old.too_long == new.too_long &&
	    (old.too_long || !jsonl_policy_rename_may_cross(r->m->vault.policy, from, to)))
		return 0;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	(void)snprintf(old.path, sizeof(old.path), "%s", from);
	(void)snprintf(new.path, sizeof(new.path), "%s", to);
	rc = subtree_crosses(r->m, fd, &old, &new);
	/* -EXDEV makes mv(1) copy instead, file by file, each under its own rules. */
	return rc > 0 ? -EXDEV : rc;
}

int fs_rename_directory(struct fs_renaming *r)
{
	int rc =
	    fs_directory_may_move(r, r->old_fd, r->old_name, r->old_path, r->new_path);
	int fd;

	if (rc || !r->dst)
		return rc ? rc : fs_rename_plain(r);
	/* As in rmdir, a process may still stand in the empty directory that is
	 * replaced. */
	fd = fs_inode_fd_get(r->m, r->dst);
	rc = fs_rename_plain(r);
	if (!rc)
		fs_descriptor_keep(r->m, r->dst);
	fs_inode_fd_put(r->m, r->dst, fd);
	return rc;
}
