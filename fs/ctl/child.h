/* SPDX-License-Identifier: MIT */
/* Work in a process of its own: it leaves nothing behind here, and can be given up. One
 * thread. */
#ifndef FS_CTL_CHILD_H
#define FS_CTL_CHILD_H

#include "base/error.h"

/* Runs run() in a child whose standard output is `out` (-1: as ours). Returns what it
 * returned, 0 to 127, or -errno; -ETIMEDOUT: it took longer than `limit` milliseconds (-1:
 * without limit) and was killed. */
int ctl_child(int (*run)(void *ctx), void *ctx, int out, int limit) jsonl_must_check;

#endif
