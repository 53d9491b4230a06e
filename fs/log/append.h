/* SPDX-License-Identifier: MIT */
#ifndef FS_LOG_APPEND_H
#define FS_LOG_APPEND_H

#include <sys/types.h>

#include "base/fuse.h"

struct fs_handle;

/* The operation write_buf of handles that append to a log, and answers the request. Any
 * thread. */
void fs_log_append(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in, off_t off,
		   struct fuse_file_info *fi);

#endif
