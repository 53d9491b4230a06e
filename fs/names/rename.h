/* SPDX-License-Identifier: MIT */
/* Answers RENAME, each exactly once. */
#ifndef FS_NAMES_RENAME_H
#define FS_NAMES_RENAME_H

#include "base/error.h"
#include "base/fuse.h"

void fs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		  fuse_ino_t newparent, const char *newname, unsigned flags);

#endif
