/* SPDX-License-Identifier: MIT */
/* Finds the paths of nodes from the vault's root, as they were last found. Any thread. */
#ifndef FS_TREE_PATH_H
#define FS_TREE_PATH_H

#include <sys/types.h>

#include "base/error.h"

struct fs_inode;
struct fs_mount;

/* Writes the path of `name` in directory `dir` relative to the vault's root (name NULL:
 * of dir itself; "" is the root). 0 or -ENAMETOOLONG. */
int fs_inode_path(struct fs_mount *m, struct fs_inode *dir, const char *name, char *buf,
		  size_t size) jsonl_must_check;
/* Finds where the node was last found: its directory, with a reference, and its name, the
 * caller's to free. 0; -ENOENT: not known; -ENOMEM. */
int fs_inode_place(struct fs_mount *m, struct fs_inode *i, struct fs_inode **dir,
		   char **name) jsonl_must_check;
/* Writes the path of a node relative to the vault, as it was last found, for messages and
 * for finding its directory; or a text that says it is not known. */
void fs_path_of(struct fs_mount *m, struct fs_inode *i, char *buf, size_t size);
/* Returns the path of a node that is not the root, as last seen; to be freed. */
char *fs_inode_long_path(struct fs_mount *m, const struct fs_inode *i);

#endif
