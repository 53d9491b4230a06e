/* SPDX-License-Identifier: MIT */
/* Takes a file away from its writers before it changes its class. Takes tree_lock for
 * writing. */
#ifndef FS_TREE_STALE_H
#define FS_TREE_STALE_H

#include <stdbool.h>

#include "base/error.h"

struct fs_inode;
struct fs_mount;

/* Returns true when the node must not be opened with these flags, because a rename has
 * changed the file's class or is about to. Valid for as long as tree_lock is held. */
bool fs_inode_refuses(struct fs_inode *i, int flags);
/* Marks a node, so that no program can open it for writing any more, and waits until no
 * handle is open for writing: RELEASE comes some time after close(2). Pair with _mark or
 * _release. 0 or -ETXTBSY, and the node has not changed; on a thread that is not of the
 * pool -EINPROGRESS instead of waiting. */
int fs_stale_seize(struct fs_mount *m, struct fs_inode *i) jsonl_must_check;
/* Undoes fs_stale_seize after a rename that failed. */
void fs_stale_release(struct fs_mount *m, struct fs_inode *i);
/* Makes OPEN of this node answer ESTALE from now on: the file has left its class. */
void fs_stale_mark(struct fs_mount *m, struct fs_inode *i);

#endif
