/* The struct behind shared.c, for governed.c. */
#ifndef FS_SHARED_H
#define FS_SHARED_H

#include "file.h"
#include "fs.h"

struct fs_shared {
	struct fs_mount *m;
	struct fs_inode *inode; /* holds a reference */
	struct jsonl_file *file;
	unsigned users; /* inode->lock */
	/* A lock outside: found held first and last, milliseconds, 0 when it was had. */
	_Atomic int64_t blocked_since, blocked_seen;
	_Atomic uint64_t counted_syncs; /* of the file's, that are in the mount's counter */
};

#endif
