/* SPDX-License-Identifier: MIT */
/* Reaches backing files without keeping a descriptor for each: by file handle or path,
 * with a bounded cache of descriptors (descriptor_cache.h). */
#ifndef FS_TREE_DESCRIPTOR_H
#define FS_TREE_DESCRIPTOR_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_inode;
struct fs_mount;

/* Opens the backing file again. O_NOFOLLOW, O_CREAT, O_TRUNC and O_EXCL are removed from
 * the flags; never blocks on a fifo, never opens a device. -EWOULDBLOCK: a program has a
 * lease on the file, which ends within the kernel's lease-break-time. The descriptor is
 * the caller's. */
int fs_inode_open(struct fs_mount *m, struct fs_inode *i, int flags) jsonl_must_check;
/* Takes the result of a call on the file, -errno if it failed. Between hosts it notes
 * when the servers do not know the file any more, and returns -ESTALE: the kernel then
 * looks the name up again; or the error of the vault's own directory: the servers do not
 * talk to this host. Else returns the result. */
int fs_inode_answer(const struct fs_mount *m, struct fs_inode *i, int result);
/* Returns a descriptor (O_PATH at least) for *at calls and fstat, pinned until _put. */
int fs_inode_fd_get(struct fs_mount *m, struct fs_inode *i) jsonl_must_check;
void fs_inode_fd_put(struct fs_mount *m, struct fs_inode *i, int fd);
/* Call it after fs_identity_init. */
int fs_descriptor_init(struct fs_mount *m) jsonl_must_check;
void fs_descriptor_deinit(struct fs_mount *m);
/* Puts a descriptor (taken over) into the cache of a node, or closes it. */
void fs_descriptor_offer(struct fs_mount *m, struct fs_inode *i, int fd);
/* Makes sure that a node which is about to lose its last name stays reachable. */
void fs_descriptor_keep(struct fs_mount *m, struct fs_inode *i);
/* Drops the descriptor of a node that is being freed. */
void fs_descriptor_drop(struct fs_mount *m, struct fs_inode *i);
/* Calls openat(2), and makes room in the cache when descriptors run out. */
int fs_descriptor_openat(struct fs_mount *m, int dir, const char *name, int flags,
			 mode_t mode) jsonl_must_check;
/* Gives a node the handle and descriptor (taken over) of another file. */
void fs_descriptor_rebind(struct fs_mount *m, struct fs_inode *i, const void *handle,
			  int fd);
/* Hashes what tells this file from every other; where the file system has file handles
 * also from a later file with its inode number. Any thread. */
uint64_t fs_descriptor_hash(struct fs_mount *m, const struct fs_inode *i);

#endif
