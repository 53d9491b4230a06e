/* SPDX-License-Identifier: MIT */
/* Defines handles of plain files, and what the opens of one plain file must agree on. */
#ifndef FS_PLAIN_PLAIN_H
#define FS_PLAIN_PLAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/fuse.h"
#include "plain/opens.h"
#include "tree/classes.h"
#include "tree/handles.h"
#include "tree/inode.h"

struct fs_mount;
struct fs_plain_state;

struct fs_plain_handle {
	struct fs_handle base; /* first: cast back */
	struct fs_mount *m;
	int fd;
	struct fs_plain_place place;
};

/* Keeps the state of a node of class plain or text. */
struct fs_plain_node {
	/* Made at the first open, then kept; under inode->lock. */
	struct fs_plain_state *state;
	/* Its change time when an open emptied it, in ns; 0: not since the node was made.
	 */
	_Atomic int64_t begun;
	/* It may have suid or sgid, which the next write takes away. */
	_Atomic bool special;
};

static inline struct fs_plain_node *fs_plain_node(const struct fs_inode *i)
{
	return i->of_class;
}

/* Makes a handle of a plain file, with these operations, for a descriptor (taken over)
 * and fills fi. 0 or -errno. */
int fs_plain_open(fuse_req_t req, struct fs_inode *i, int fd, struct fuse_file_info *fi,
		  const struct fs_handle_ops *ops) jsonl_must_check;
/* Truncates a file at its open with O_TRUNC, as the caller would. 0 or -errno. */
int fs_plain_truncate(fuse_req_t req, struct fs_inode *i, int fd,
		      int flags) jsonl_must_check;
/* Takes O_APPEND and O_DIRECT, which `flags` may have, off the backing descriptor. */
void fs_plain_clear_flags(int fd, int flags);
/* Tells the kernel, before the answer, that a change of content by an ordinary user may
 * have cleared suid or sgid in a mode that it has cached. */
void fs_plain_changed(fuse_req_t req, struct fs_inode *i);
/* Says in the log whether reads and writes go straight to the backing files. */
void fs_plain_negotiate(struct fs_mount *m, struct fuse_conn_info *conn);
/* Operations of a handle that begins with struct fs_plain_handle. */
void fs_plain_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		   struct fuse_file_info *fi);
void fs_plain_write_buf(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			off_t off, struct fuse_file_info *fi);
void fs_plain_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi);
void fs_plain_release(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi);
void fs_plain_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
		    struct fuse_file_info *fi);
void fs_plain_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			off_t len, struct fuse_file_info *fi);
void fs_plain_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
		    struct fuse_file_info *fi);
int fs_plain_fd(struct fs_handle *h);
void fs_plain_abandon(struct fs_handle *h);
/* All of them but READ, for a table. */
#define FS_PLAIN_OPS_BUT_READ                                                            \
	.write_buf = fs_plain_write_buf, .flush = fs_plain_flush,                        \
	.release = fs_plain_release, .fsync = fs_plain_fsync,                            \
	.fallocate = fs_plain_fallocate, .lseek = fs_plain_lseek, .fd = fs_plain_fd,     \
	.abandon = fs_plain_abandon
/* All of them. */
extern const struct fs_handle_ops fs_plain_ops;
/* Entries for the tables of both classes (plain and text). */
int64_t fs_plain_begun(const struct fs_inode *i);
void fs_plain_inode_free(struct fs_inode *i);
void fs_plain_note_change(struct fs_inode *i);

/* Nodes of plain files, directories and all else. */
extern const struct fs_class_ops fs_plain_class;

#endif
