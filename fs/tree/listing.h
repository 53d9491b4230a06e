/* SPDX-License-Identifier: MIT */
/* Decides how long the kernel may keep the names of a directory. Under the directory's
 * lock. */
#ifndef FS_TREE_LISTING_H
#define FS_TREE_LISTING_H

#include <stdint.h>

#include "base/error.h"

struct fs_inode;
struct fs_listing;
struct fs_mount;
struct fuse_file_info;

int fs_listing_init(struct fs_mount *m) jsonl_must_check;
void fs_listing_deinit(struct fs_mount *m);
/* Notes the open of a file of which the kernel has no pages: reading it changes its
 * access time, so its attributes are asked for again, and a listing of its directory is
 * the cheapest answer. Any thread. */
void fs_listing_opened(struct fs_mount *m, struct fs_inode *i);
void fs_listing_free(struct fs_listing *l);
/* Returns the number of the directory's counter. */
uint16_t fs_listing_number(const struct fs_inode *dir);
/* Counts a reader in, and lets the kernel keep the names while the directory does not
 * change, as it keeps the pages of a file (see fs_stamp_is_old). Names without
 * attributes cost a LOOKUP each, while reading the directory again brings the attributes
 * of hundreds at once; so the names are dropped before the attributes expire. */
int fs_listing_join(const struct fs_mount *m, struct fs_inode *dir, int fd,
		    struct fuse_file_info *fi);
void fs_listing_leave(struct fs_inode *dir);
/* Notes that a listing with attributes begins. */
void fs_listing_filled(struct fs_mount *m, struct fs_inode *dir);
void fs_listing_entries(struct fs_inode *dir, uint32_t entries);

#endif
