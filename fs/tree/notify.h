/* SPDX-License-Identifier: MIT */
/* Makes the kernel drop names and attributes that it keeps. Takes no lock that a request
 * could hold in the kernel. */
#ifndef FS_TREE_NOTIFY_H
#define FS_TREE_NOTIFY_H

#include <stdbool.h>

#include "base/error.h"
#include "base/fuse.h"
#include "rules/config.h"

struct fs_inode;
struct fs_mount;

/* Makes the kernel ask for this file's attributes again. May be called within a request.
 */
void fs_attributes_changed(struct fs_mount *m, struct fs_inode *i);
/* Drops what the kernel keeps of the file that was replaced, and of the node, which it
 * knew as `before`. With `wait` its name leads to the new file before this returns: not
 * for a request during which the kernel lets nobody change the directory. */
void fs_node_replaced(struct fs_mount *m, struct fs_inode *i, fuse_ino_t before, bool wait);
/* Does the same for the node of another class that the file behind `i` has, if there is
 * one. */
void fs_attributes_changed_as(struct fs_mount *m, struct fs_inode *i,
			      enum jsonl_class class);
/* Makes the kernel forget what a name leads to, soon. Best effort. */
void fs_invalidate_entry(struct fs_mount *m, struct fs_inode *parent, const char *name);

#endif
