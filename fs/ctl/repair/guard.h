/* SPDX-License-Identifier: MIT */
/* Keeps other programs from opening a file for writing, for a moment. One thread. */
#ifndef FS_CTL_GUARD_H
#define FS_CTL_GUARD_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/error.h"

/* While a guard is held, opens for writing wait. When they have waited long the kernel
 * breaks it, and _check says so. Where there is no lease it keeps nobody out, but _check
 * finds them in /proc. */
struct ctl_guard {
	int fd;	    /* borrowed, read-only */
	bool lease; /* else only /proc is looked at */
};

/* Begins a guard. 0, or -EBUSY: somebody has the file open for writing, or that cannot
 * be found out. */
int ctl_guard_take(struct ctl_guard *g, int fd) jsonl_must_check;
/* Checks that nobody came. 0, or -EBUSY: somebody has opened it for writing, or waits
 * to. */
int ctl_guard_check(const struct ctl_guard *g) jsonl_must_check;
void ctl_guard_release(struct ctl_guard *g);

#endif
