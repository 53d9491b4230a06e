/* SPDX-License-Identifier: MIT */
/* Keeps the descriptors that were used last open, one a node and up to a bound, for
 * descriptor.c. A pinned descriptor is in use and stays; the others are closed in the
 * order of their last use. Owns the lock under which a node's fd, pins, keep and handle
 * are, a leaf. Any thread. */
#ifndef FS_TREE_DESCRIPTOR_CACHE_H
#define FS_TREE_DESCRIPTOR_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct fs_descriptors;
struct fs_inode_private;
struct jsonl_io;

/* `max`: descriptors that are kept. NULL: out of memory. */
struct fs_descriptors *fs_descriptors_new(const struct jsonl_io *io, size_t max);
/* Frees the cache after the last node; NULL is allowed. */
void fs_descriptors_free(struct fs_descriptors *t);

/* Pins the node's descriptor and returns it; -1: it has none. */
int fs_descriptors_pin(struct fs_descriptors *t, struct fs_inode_private *p);
/* Ends one use of a descriptor, also of one that the node has lost. Keeps errno. */
void fs_descriptors_unpin(struct fs_descriptors *t, struct fs_inode_private *p, int fd);
/* Enters a descriptor (taken over) unless the node has one. `pin`: pins the node's.
 * Returns the node's. */
int fs_descriptors_enter(struct fs_descriptors *t, struct fs_inode_private *p, int fd,
			 bool pin);
/* Keeps the node's descriptor, which is pinned, until the node goes. */
void fs_descriptors_keep(struct fs_descriptors *t, struct fs_inode_private *p);
/* Makes the node stand for another file: its handle, and `fd` (taken over). Whoever uses
 * the present descriptor at this moment goes on with it. */
void fs_descriptors_rebind(struct fs_descriptors *t, struct fs_inode_private *p,
			   const void *handle, int fd);
/* Takes the node's descriptor out and closes it. */
void fs_descriptors_drop(struct fs_descriptors *t, struct fs_inode_private *p);
/* Closes half of what nobody uses: descriptors ran out. False: there was nothing. */
bool fs_descriptors_shrink(struct fs_descriptors *t);

/* Copies the bytes of the node's file handle. */
void fs_descriptors_handle(struct fs_descriptors *t, const struct fs_inode_private *p,
			   void *handle);

#endif
