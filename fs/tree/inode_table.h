/* SPDX-License-Identifier: MIT */
/* Finds nodes by device, number and class: a hash table. inode.c owns it; path.c reads
 * names and parents under its lock. */
#ifndef FS_TREE_INODE_TABLE_H
#define FS_TREE_INODE_TABLE_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "tree/inode.h"

struct fs_inode_table {
	pthread_mutex_t lock; /* inodes_lock: a leaf */
	/* Under it: */
	struct fs_inode **slots; /* hash table */
	size_t size, count;
	struct fs_inode_private root; /* its descriptor is vault.root_fd */
};

/* All under inodes_lock. */
void fs_inode_table_insert(struct fs_inode_table *t, struct fs_inode *i);
/* Takes a node out; one that is not in the table is left alone. */
void fs_inode_table_remove(struct fs_inode_table *t, struct fs_inode *i);
struct fs_inode *fs_inode_table_find(struct fs_inode_table *t, dev_t dev, ino_t ino,
				     enum jsonl_class class);
/* Returns true when the node stands for the file with this type and handle. Inode numbers
 * are used again, the handle differs then. Where there are no handles a file of the same
 * type and number counts as the same: a descriptor is held, or the path is walked and the
 * number compared. */
bool fs_inode_is_file(const struct fs_inode *i, mode_t type,
		      const struct fs_file_handle *h);

#endif
