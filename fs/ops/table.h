/* SPDX-License-Identifier: MIT */
/* Has the table of operations that libfuse calls. */
#ifndef FS_OPS_TABLE_H
#define FS_OPS_TABLE_H

struct fuse_lowlevel_ops;

extern const struct fuse_lowlevel_ops fs_ops;

#endif
