/* SPDX-License-Identifier: MIT */
/* Keeps logs open for a while after their last close. Owns the list and its lock, a leaf
 * within inode->lock. */
#ifndef FS_LOG_IDLE_H
#define FS_LOG_IDLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct fs_inode;
struct fs_mount;
struct fs_openlog;

struct fs_idle {
	pthread_mutex_t lock;		 /* a leaf, within inode->lock; under it: */
	struct fs_openlog *first, **end; /* oldest first */
	unsigned count;
	unsigned max; /* constant */
	bool watched; /* a job is under way */
};

int fs_idle_init(struct fs_mount *m) jsonl_must_check;
void fs_idle_deinit(struct fs_mount *m);
/* Makes the list a user of `s` (counted by the caller, who holds inode->lock and has seen
 * the last user leave). Returns a log that had to leave the list for it, for
 * fs_openlog_close, or NULL. */
struct fs_openlog *fs_idle_add(struct fs_mount *m, struct fs_openlog *s);
/* Takes out the oldest log of this inode (NULL: of any) that was added before `before`.
 */
struct fs_openlog *fs_idle_take(struct fs_idle *l, const struct fs_inode *i,
				int64_t before);

#endif
