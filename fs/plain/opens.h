/* SPDX-License-Identifier: MIT */
/* Hands plain files to the kernel where it can read and write the backing file by itself.
 * All opens of one file at a time must agree on that, so the first decides, and it is
 * written down in the inode. Takes inode->lock. */
#ifndef FS_PLAIN_OPENS_H
#define FS_PLAIN_OPENS_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/caller.h"
#include "base/error.h"
#include "base/fuse.h"

struct fs_inode;
struct fs_mount;

/* Tells as what a handle is counted. */
struct fs_plain_place {
	bool through;  /* the kernel reads and writes by itself */
	bool mappable; /* and can store into the file by a mapping */
};

/* Decides, counts the handle in and fills fi. 0 or -errno. */
int fs_plain_join(fuse_req_t req, struct fs_inode *i, int fd, const struct stat *st,
		  struct fuse_file_info *fi, struct fs_plain_place *p) jsonl_must_check;
/* Counts a handle out. `req`: NULL when the session has ended. */
void fs_plain_leave(fuse_req_t req, struct fs_inode *i, const struct fs_plain_place *p);
/* Returns the user whom pages from mappings of an open file are charged to. */
struct fs_ids fs_plain_mapper(struct fs_inode *i);
/* Returns true when a handle lets programs store into the file without a request. */
bool fs_plain_is_mapped(struct fs_inode *i);

#endif
