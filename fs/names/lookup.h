/* SPDX-License-Identifier: MIT */
/* Answers LOOKUP and FORGET, each exactly once. */
#ifndef FS_NAMES_LOOKUP_H
#define FS_NAMES_LOOKUP_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"

void fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void fs_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);

#endif
