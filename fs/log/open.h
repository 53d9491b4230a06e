/* SPDX-License-Identifier: MIT */
/* Opens logs by the rules for O_TRUNC, append=strict and tails, and chooses the kind of
 * handle. */
#ifndef FS_LOG_OPEN_H
#define FS_LOG_OPEN_H

#include "base/error.h"
#include "base/fuse.h"

struct fs_inode;

/* `created_in`: the directory, if this request has just made the file (both are synced
 * together), else NULL. 0 or -errno. */
int fs_log_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi,
		struct fs_inode *created_in) jsonl_must_check;

#endif
