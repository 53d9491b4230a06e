/* SPDX-License-Identifier: MIT */
/* Opens a log that the daemon itself appends to, without a node: recovery, before the mount, and
 * the control socket. Any thread; a target is one thread's. */
#ifndef FS_LOG_TARGET_H
#define FS_LOG_TARGET_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_mount;
struct jsonl_file;

struct fs_target {
	struct fs_mount *m;
	const char *path;
	struct jsonl_file *file;
};

/* Returns true when the log has been removed. Not when its directory is missing, or on
 * another device: that may be mounted later. */
bool fs_target_gone(struct fs_mount *m, const char *path, dev_t dev);
/* Opens the log with this inode number (0: any) by its path, or beside it, where a rotation
 * puts it. 0; -ENOENT: it is not there; another -errno: it may be there. t->file is the
 * caller's to free. */
int fs_target_open(struct fs_mount *m, const char *path, ino_t ino,
		   struct fs_target *t) jsonl_must_check;

#endif
