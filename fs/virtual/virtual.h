/* SPDX-License-Identifier: MIT */
/* Opens status.json and writers.json. */
#ifndef FS_VIRTUAL_VIRTUAL_H
#define FS_VIRTUAL_VIRTUAL_H

#include "base/error.h"
#include "base/fuse.h"

struct fs_inode;

int fs_virtual_open(fuse_req_t req, struct fs_inode *i,
		    struct fuse_file_info *fi) jsonl_must_check;

#endif
