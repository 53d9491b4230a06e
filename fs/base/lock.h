/* SPDX-License-Identifier: MIT */
/* Takes a lock that another process may hold for a moment. Any thread. */
#ifndef FS_BASE_LOCK_H
#define FS_BASE_LOCK_H

#include <stdbool.h>

#include "base/error.h"

#define FS_LOCK_MS 5000 /* time to wait if the caller has none of its own */

/* Takes flock(2) of `fd`, exclusive, within `ms` milliseconds. 0 or -errno; -EWOULDBLOCK:
 * another process held it for longer. */
int fs_lock_wait(int fd, unsigned ms) jsonl_must_check;
/* Does the same in the queue of all programs that wait, so that each gets its turn, and
 * for as long as it takes. Asks stop(ctx) a few times a second whether to give up:
 * -ECANCELED. */
int fs_lock_turn(int fd, bool (*stop)(void *ctx), void *ctx) jsonl_must_check;

#endif
