/* SPDX-License-Identifier: MIT */
/* Keeps the lists of open handles, of a node and of the mount, and defines the operations
 * of a handle. */
#ifndef FS_TREE_HANDLES_H
#define FS_TREE_HANDLES_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"

struct fs_account;
struct fs_handle;
struct fs_inode;
struct fs_mount;
struct fs_vault;

/* An open file. fi->fh holds the pointer. The table is chosen once, at open; each kind of
 * handle embeds the struct and has a table of its own. */
struct fs_handle_ops {
	void (*read)(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		     struct fuse_file_info *fi);
	void (*write_buf)(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			  off_t off, struct fuse_file_info *fi);
	void (*flush)(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi);
	void (*release)(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi);
	void (*fsync)(fuse_req_t req, struct fs_handle *h, int datasync,
		      struct fuse_file_info *fi);
	void (*fallocate)(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			  off_t len, struct fuse_file_info *fi);
	void (*lseek)(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
		      struct fuse_file_info *fi);
	/* Returns a descriptor for copy_file_range, ftruncate and fgetattr, or -1. */
	int (*fd)(struct fs_handle *h);
	/* ftruncate(2). 0 or -errno is the answer; 1: the file's rules decide. NULL:
	 * always 1. */
	int (*truncate)(fuse_req_t req, struct fs_handle *h, off_t size);
	/* Returns true when this handle sees another length than everybody else. May be
	 * NULL. */
	bool (*size)(struct fs_handle *h, off_t *size);
	/* Asks whether this handle stays with the old file when another file takes the
	 * place of the one behind the node. `version`, which the file's class knows,
	 * stands for the old one. Under inode->lock. NULL: the handle goes on with the
	 * new file. */
	bool (*stay)(struct fs_handle *h, void *version);
	/* Makes `other`, which was opened by the number of the version that this handle
	 * stays with, stay with it, too. False: that was replaced too long ago. Under
	 * inode->lock. NULL: `other` is on the present file. */
	bool (*join)(struct fs_handle *h, struct fs_handle *other);
	/* Returns true when the handle stays with an earlier file, and fills in its
	 * attributes. Under inode->lock or within an operation of the handle. May be
	 * NULL. */
	bool (*stat)(struct fs_handle *h, struct stat *st);
	/* Does what RELEASE would have done: the session has ended without it. */
	void (*abandon)(struct fs_handle *h);
};

struct fs_handle {
	/* Changes at most once: a writer that becomes a rewriter (log/rewriter.h). */
	const struct fs_handle_ops *_Atomic ops;
	struct fs_inode *inode;				   /* holds a reference */
	int flags;					   /* of open(2) */
	/* pays for its descriptor, or NULL; constant once it is open */
	struct fs_account *payer;
	ino_t opened; /* the number that its file had when it was opened; constant */
	/* edition by which the kernel knows it; under inode->lock */
	unsigned char edition;
	struct fs_handle *next_of_inode, **pprev_of_inode; /* inode->lock */
	struct fs_handle *next, **pprev; /* of all that are open; handles.c */
};

static inline struct fs_handle *fs_handle_of(const struct fuse_file_info *fi)
{
	return (struct fs_handle *)(uintptr_t)fi->fh;
}
int fs_handles_init(struct fs_mount *m) jsonl_must_check;
void fs_handles_deinit(struct fs_mount *m);
/* Calls fn for each open handle until it returns false. No handle is freed meanwhile; fn
 * takes leaf locks only. */
void fs_handles_each(struct fs_mount *m, bool (*fn)(struct fs_handle *h, void *ctx),
		     void *ctx);
/* Returns any open handle, or NULL. For the end of the session, when nothing else removes
 * handles. */
struct fs_handle *fs_handles_first(struct fs_mount *m);
/* Enters a handle into the lists of its inode and of the mount, and counts it as a writer
 * by h->flags; takes a reference of its own to the inode. _unlink undoes all of it. */
void fs_handle_link(struct fs_mount *m, struct fs_handle *h, struct fs_inode *inode);
void fs_handle_unlink(struct fs_mount *m, struct fs_handle *h);

/* Accounts for a descriptor of the caller's, before the file is opened, unless the class
 * lets its handles share theirs (then *payer is NULL). 0, -ENFILE or -ENOMEM. The handle
 * takes the payer over. */
int fs_handle_pay(fuse_req_t req, const struct fs_inode *i,
		  struct fs_account **payer) jsonl_must_check;

/* Returns the descriptor of an open file that may be used for any operation, or -1. */
static inline int fs_handle_fd(const struct fuse_file_info *fi)
{
	struct fs_handle *h = fi ? fs_handle_of(fi) : NULL;

	return h && h->ops->fd ? h->ops->fd(h) : -1;
}

/* Returns true when a handle has this backing file open for writing, in whichever class.
 * `v`: of a mount. */
bool fs_inode_is_written(struct fs_vault *v, dev_t dev, ino_t ino);

#endif
