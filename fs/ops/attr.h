/* SPDX-License-Identifier: MIT */
/* Answers GETATTR, SETATTR, READLINK and STATFS, each exactly once. */
#ifndef FS_OPS_ATTR_H
#define FS_OPS_ATTR_H

#include <sys/stat.h>

#include "base/fuse.h"

void fs_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		   struct fuse_file_info *fi);
void fs_op_readlink(fuse_req_t req, fuse_ino_t ino);
void fs_op_statfs(fuse_req_t req, fuse_ino_t ino);

#endif
