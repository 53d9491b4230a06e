/* SPDX-License-Identifier: MIT */
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"

DIR *fs_directory_open(int dir, int *rc)
{
	cleanup_close int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);

	*rc = stream ? 0 : -errno;
	if (stream)
		(void)steal_fd(&fd);
	return stream;
}

void fs_name_ask(int dir, const char *name)
{
	char path[32 + NAME_MAX];
	const struct dirent *entry;
	char value;
	int rc;
	DIR *stream;

	/* For a file that is gone. An attribute that the client does not know is asked
	 * of the servers. After their ESTALE the kernel looks the name up again; after
	 * ENOENT it does so for a call that wants a new name, which fails: the name is
	 * there, or the file is not. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, name);
	if (lgetxattr(path, "user.jsonlfs.name", &value, sizeof(value)) < 0 &&
	    errno == ENOENT)
		(void)!linkat(dir, name, dir, name, 0);
	/* For one that has another name. What the servers list comes with what each name
	 * leads to. */
	stream = fs_directory_open(dir, &rc);
	if (!stream)
		return;
	do
		/* NOLINTNEXTLINE(concurrency-mt-unsafe): our own stream */
		entry = readdir(stream);
	while (entry && strcmp(entry->d_name, name) != 0);
	closedir(stream);
}

bool fs_path_of_descriptor(int fd, char path[PATH_MAX])
{
	char link[32];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, PATH_MAX - 1);
	path[n > 0 ? n : 0] = '\0';
	return n > 0;
}

bool fs_path_below(const char *root, int fd, char path[PATH_MAX])
{
	char target[PATH_MAX];
	size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);

	if (!fs_path_of_descriptor(fd, target) || strncmp(target, root, len) != 0 ||
	    target[len] != '/')
		return false;
	(void)snprintf(path, PATH_MAX, "%s", target + len + 1);
	return true;
}

int fs_walk_beneath(int dir, const char *path, int flags, mode_t mode)
{
	cleanup_close int held = -1;
	char name[NAME_MAX + 1];

	for (;;) {
		size_t length = strcspn(path, "/");
		bool last = !path[length];
		int fd;

		if (length > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path, length);
		name[length] = '\0';
		if (!length || strcmp(name, "..") == 0)
			return -EXDEV; /* as openat2 says */
		fd = openat(
		    held >= 0 ? held : dir, name,
		    (last ? flags : O_PATH | O_DIRECTORY) | O_CLOEXEC | O_NOFOLLOW, mode);
		if (fd < 0)
			return -errno;
		if (last)
			return fd;
		if (held >= 0)
			close(held);
		held = fd;
		path += length + 1;
	}
}

int fs_openat_beneath(int dir, const char *path, int flags)
{
	struct open_how how = {
	    .flags = (uint64_t)(unsigned)flags | O_CLOEXEC | O_NOFOLLOW,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));

	/* A filter of system calls may refuse openat2 as unknown (systemd's
	 * RestrictSUIDSGID=). */
	if (fd < 0 && errno == ENOSYS)
		return fs_walk_beneath(dir, path, flags, 0);
	return fd < 0 ? -errno : fd;
}
