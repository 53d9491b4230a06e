/* SPDX-License-Identifier: MIT */
/* In shared mode, the lock (flock) of a file whose name is about to be changed or whose content
 * is to be replaced, so that no other daemon writes it in between. */
#ifndef FS_TREE_HOLD_H
#define FS_TREE_HOLD_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_mount;

/* Takes the lock of the regular file that has this name once the lock is had. *fd: to be
 * closed, which lets it go; -1 where the mount is not shared, or there is no such file.
 * Waits for up to five seconds: on a thread of the pool. 0; -EAGAIN: another daemon or
 * program has the lock; -errno. */
int fs_hold(struct fs_mount *m, int dir_fd, const char *name, int *fd) jsonl_must_check;
/* Does the same for a descriptor that is open already; fs_hold_end releases it. Waits on
 * any thread. */
int fs_hold_fd(struct fs_mount *m, int fd) jsonl_must_check;
void fs_hold_end(struct fs_mount *m, int fd);
/* Returns the present size, past what this host has cached, or -errno. */
off_t fs_hold_size(const struct fs_mount *m, int fd);
/* Returns true when the operation must be handed to the pool, because it may have to wait
 * for such a lock. */
bool fs_hold_may_wait(struct fs_mount *m);

#endif
