/* SPDX-License-Identifier: MIT */
/* Answers CREATE, MKNOD, MKDIR, SYMLINK, RMDIR and TMPFILE, each exactly once. */
#ifndef FS_NAMES_CREATE_H
#define FS_NAMES_CREATE_H

#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"

void fs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		 dev_t rdev);
void fs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		   const char *name);
void fs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		  struct fuse_file_info *fi);
void fs_op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
		   struct fuse_file_info *fi);

#endif
