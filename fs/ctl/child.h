/* SPDX-License-Identifier: MIT */
/* Runs a function in a child process: it leaves nothing behind here, and can be killed
 * when it takes too long. One thread. */
#ifndef FS_CTL_CHILD_H
#define FS_CTL_CHILD_H

#include "base/error.h"

/* Calls run() in a child whose standard output is `out` (-1: ours). Returns the result of
 * run(), 0 to 127, or -errno; -ETIMEDOUT: it took longer than `limit` milliseconds (-1:
 * no limit) and was killed. */
int ctl_child(int (*run)(void *ctx), void *ctx, int out, int limit) jsonl_must_check;

#endif
