/* SPDX-License-Identifier: MIT */
/* Reads /proc/PID/fdinfo, where the kernel describes a descriptor without asking its file
 * system, which might hang. Any thread, no lock. */
#ifndef FS_BASE_FDINFO_H
#define FS_BASE_FDINFO_H

#include <stdbool.h>

#include "base/error.h"

struct fs_fdinfo {
	int flags;	      /* of open(2) */
	/* number of the file, id of the mount; -1: the kernel does not say */
	long long ino, mount;
};

/* Reads one entry. `path`: from the directory `dir`, or AT_FDCWD. 0 or -errno. */
int fs_fdinfo_read(int dir, const char *path, struct fs_fdinfo *info) jsonl_must_check;
/* Returns true when descriptor `fd` of process `pid`, as /proc names them, is open for
 * writing. */
bool fs_fdinfo_writes(const char *pid, const char *fd);

#endif
