/* SPDX-License-Identifier: MIT */
/* Finds or makes the node of a name and decides its class. Any thread. */
#ifndef FS_TREE_LOOKUP_H
#define FS_TREE_LOOKUP_H

#include <sys/stat.h>

#include "base/error.h"

struct fs_file_handle;
struct fs_inode;
struct fs_mount;

/* Finds or makes the node of `name` in `parent` (O_PATH | O_NOFOLLOW), decides its class,
 * and fills st. The caller owns one reference, to be given to the kernel with
 * fs_inode_to_kernel or dropped. 0 or -errno. */
int fs_inode_lookup(struct fs_mount *m, struct fs_inode *parent, const char *name,
		    struct fs_inode **inode, struct stat *st) jsonl_must_check;
/* Finds or makes the node of the file behind `fd` (any descriptor, taken over), found as
 * `name` in `parent`; as fs_inode_lookup. */
int fs_inode_adopt(struct fs_mount *m, struct fs_inode *parent, const char *name, int fd,
		   struct fs_inode **inode, struct stat *st) jsonl_must_check;
/* Checks that this file (any descriptor of it) could take the place of the one behind the
 * node. Fills in what _rebind wants. 0 or -EXDEV. */
int fs_inode_may_rebind(struct fs_mount *m, const struct fs_inode *i, int fd,
			struct fs_file_handle *h) jsonl_must_check;

#endif
