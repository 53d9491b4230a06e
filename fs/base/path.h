/* SPDX-License-Identifier: MIT */
/* Opens paths below a directory without leaving it, and finds the path of a descriptor.
 * Any thread, no lock. */
#ifndef FS_BASE_PATH_H
#define FS_BASE_PATH_H

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* Opens `path` below `dir`, a descriptor of any kind, following no link. Returns the
 * descriptor or -errno; -EXDEV: the path would lead out of `dir`. */
int fs_openat_beneath(int dir, const char *path, int flags) jsonl_must_check;
/* Does the same name by name: the path may be longer than PATH_MAX, and the file may be
 * created, with `mode`. */
int fs_walk_beneath(int dir, const char *path, int flags, mode_t mode) jsonl_must_check;
/* Opens a directory anew, by a descriptor of it, with a stream that is nobody else's and
 * to be closed. NULL: *rc is -errno. */
DIR *fs_directory_open(int dir, int *rc);
/* Makes a client of a file system of several hosts ask the servers what a name leads to:
 * one of GlusterFS keeps its old answer for a second, for longer while the old file is
 * busy. */
void fs_name_ask(int dir, const char *name);
/* Finds the path of the file behind one of the daemon's descriptors. */
bool fs_path_of_descriptor(int fd, char path[PATH_MAX]);
/* Finds the path from the vault's root, whose own path is `root`. */
bool fs_path_below(const char *root, int fd, char path[PATH_MAX]);

#endif
