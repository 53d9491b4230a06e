/* SPDX-License-Identifier: MIT */
/* Answers requests for open directories, each exactly once. */
#ifndef FS_OPS_READDIR_H
#define FS_OPS_READDIR_H

#include <sys/types.h>

#include "base/fuse.h"

void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi);
void fs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi);
void fs_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		    struct fuse_file_info *fi);
/* Returns the descriptor of an open directory. */
int fs_dir_fd(const struct fuse_file_info *fi);

#endif
