/* SPDX-License-Identifier: MIT */
/* Reads files of class text so that a block, which one write(2) appends, is seen whole or
 * not at all; and handles that do not append: but for that they are as those of plain
 * files. */
#ifndef FS_TEXT_READER_H
#define FS_TEXT_READER_H

#include <pthread.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"
#include "tree/handles.h"

struct fs_inode;

/* Returns the lock of a file that who reads it holds for reading, and who appends to it
 * for writing as long as only a part of a block may be there. */
pthread_rwlock_t *fs_text_readers(const struct fs_inode *i);
/* Answers a READ. Entry of a table of operations. */
void fs_text_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		  struct fuse_file_info *fi);
/* Makes a handle for a descriptor (taken over) and fills fi. 0 or -errno. */
int fs_text_open_reader(fuse_req_t req, struct fs_inode *i, int fd,
			struct fuse_file_info *fi) jsonl_must_check;

#endif
