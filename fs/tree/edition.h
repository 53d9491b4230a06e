/* SPDX-License-Identifier: MIT */
/* Replaces the file behind a node. Handles for reading stay with the old file. fstat(2)
 * asks for a node, not for a handle, so from then on the kernel knows the node by another
 * number: its next edition. Under an earlier number the daemon answers with the
 * attributes of the old file, for as long as a handle stays with it. */
#ifndef FS_TREE_EDITION_H
#define FS_TREE_EDITION_H

#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"

struct fs_file_handle;
struct fs_handle;
struct fs_inode;
struct fs_mount;

/* The edition is in the lowest bits of the number, which are 0 in a pointer from malloc. */
#define FS_EDITIONS	((unsigned)_Alignof(max_align_t))
#define FS_EDITION_MASK ((fuse_ino_t)FS_EDITIONS - 1)

/* Returns the edition that the kernel means by this number. */
unsigned char fs_inode_edition(fuse_ino_t ino);
/* Returns a handle that stays with the file of this edition, and its attributes; or NULL.
 * Under inode->lock. */
struct fs_handle *fs_edition_find(struct fs_inode *i, unsigned char edition,
				  struct stat *st);
/* Notes that the kernel has opened the handle by this edition. 0, or -ESTALE: that file
 * was replaced, and the kernel has to look the name up again. */
int fs_handle_opened_as(struct fs_handle *h, unsigned char edition) jsonl_must_check;
/* Makes the node stand for another file (fs_inode_rebind), and asks its handles whether
 * they stay with `version`, which their class knows. Returns the number by which the
 * kernel has known the node so far, for fs_node_replaced. tree_lock is held for writing,
 * so nobody opens the file meanwhile. Takes inode->lock. */
fuse_ino_t fs_inode_replace(struct fs_mount *m, struct fs_inode *i,
			    const struct fs_file_handle *h, ino_t ino, int fd,
			    void *version);

#endif
