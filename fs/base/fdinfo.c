/* SPDX-License-Identifier: MIT */
#include "base/fdinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Finds the number behind a label; -1: there is none. */
static long long number(const char *text, const char *label, int base)
{
	const char *at = strstr(text, label);

	return at ? strtoll(at + strlen(label), NULL, base) : -1;
}

/* Parses "pos:\t0\nflags:\t0100001\nmnt_id:\t25\nino:\t1234\n". */
int fs_fdinfo_read(int dir, const char *path, struct fs_fdinfo *info)
{
	cleanup_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	char text[1024];
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return n < 0 ? -errno : -ENOENT;
	text[n] = '\0';
	*info = (struct fs_fdinfo){
	    .flags = (int)number(text, "flags:\t", 8),
	    .ino = number(text, "\nino:\t", 10),
	    .mount = number(text, "\nmnt_id:\t", 10),
	};
	return info->flags < 0 ? -EINVAL : 0;
}

bool fs_fdinfo_writes(const char *pid, const char *fd)
{
	struct fs_fdinfo info;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, fd);
	return fs_fdinfo_read(AT_FDCWD, path, &info) == 0 &&
	       (info.flags & O_ACCMODE) != O_RDONLY && !(info.flags & O_PATH);
}
