/* SPDX-License-Identifier: MIT */
/* Defines status.json and writers.json as names of the state directory, and their
 * attributes. */
#ifndef FS_TREE_VIRTUAL_H
#define FS_TREE_VIRTUAL_H

#include <sys/stat.h>

#include "base/error.h"
#include "tree/inode.h"

struct fs_mount;

/* Returns which virtual file this name in this directory is. */
enum fs_virtual fs_virtual_of(const struct fs_mount *m, const struct fs_inode *dir,
			      const char *name);
/* Fills in the attributes of a virtual file for this caller. */
void fs_virtual_stat(struct fs_mount *m, const struct fs_inode *i, struct stat *st);

/* The names of virtual files; NULL for FS_VIRTUAL_NONE. */
const char *fs_virtual_name(enum fs_virtual what);

#endif
