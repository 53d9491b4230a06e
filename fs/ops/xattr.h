/* SPDX-License-Identifier: MIT */
/* Answers requests for extended attributes and file flags, each exactly once. */
#ifndef FS_OPS_XATTR_H
#define FS_OPS_XATTR_H

#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"

void fs_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		    size_t size, int flags);
void fs_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fs_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void fs_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void fs_op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg,
		 struct fuse_file_info *fi, unsigned flags, const void *in_buf,
		 size_t in_size, size_t out_size);

#endif
