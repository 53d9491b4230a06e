/* SPDX-License-Identifier: MIT */
/* Reads files of class text so that a block, which one write(2) appends, is seen whole or
 * not at all; and handles that do not append: but for that they are as those of plain
 * files. */
#ifndef FS_TEXT_READER_H
#define FS_TEXT_READER_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"
#include "plain/plain.h"
#include "tree/handles.h"
#include "tree/inode.h"

/* Keeps the state of a node of class text. */
struct fs_text_node {
	struct fs_plain_node plain; /* first: fs_plain_node takes it for one */
	bool begun;		    /* under inode->lock */
	/* Serializes the appends, so that a short block can be cut back. */
	pthread_mutex_t appends;
	/* Inside `appends`. Readers hold it for reading, an append for writing as long as
	 * only a part of a block may be there. */
	pthread_rwlock_t readers;
};

static inline struct fs_text_node *fs_text_node(const struct fs_inode *i)
{
	return i->of_class;
}

/* Makes the locks of a node, before its first handle is. */
void fs_text_begin(struct fs_inode *i);
/* Answers a READ. Entry of a table of operations. */
void fs_text_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		  struct fuse_file_info *fi);
/* Makes a handle for a descriptor (taken over) and fills fi. 0 or -errno. */
int fs_text_open_reader(fuse_req_t req, struct fs_inode *i, int fd,
			struct fuse_file_info *fi) jsonl_must_check;

#endif
