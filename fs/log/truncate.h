/* SPDX-License-Identifier: MIT */
/* Decides about truncate and ftruncate of logs. */
#ifndef FS_LOG_TRUNCATE_H
#define FS_LOG_TRUNCATE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"

struct fs_inode;

/* Truncates to `size`. 0 or -errno. `quiet`: a refusal is not logged. */
int fs_log_truncate(fuse_req_t req, struct fs_inode *i, off_t size,
		    bool quiet) jsonl_must_check;

#endif
