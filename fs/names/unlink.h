/* SPDX-License-Identifier: MIT */
/* Answers UNLINK, each exactly once. */
#ifndef FS_NAMES_UNLINK_H
#define FS_NAMES_UNLINK_H

#include "base/error.h"
#include "base/fuse.h"

void fs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);

#endif
