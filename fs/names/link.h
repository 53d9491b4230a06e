/* SPDX-License-Identifier: MIT */
/* Answers LINK, each exactly once. */
#ifndef FS_NAMES_LINK_H
#define FS_NAMES_LINK_H

#include "base/fuse.h"

void fs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent,
		const char *newname);

#endif
