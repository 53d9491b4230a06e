/* SPDX-License-Identifier: MIT */
/* Keeps others from a file for a moment: a guard against those who open it
 * for writing. One thread. */
#ifndef FS_CTL_GUARD_H
#define FS_CTL_GUARD_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/error.h"

/* A guard keeps everybody from opening the file for writing until it is released: they
 * wait. It gives way by itself when they have waited for long, and tells. */
struct ctl_guard {
	int fd;	    /* borrowed, read-only */
	bool lease; /* else there is only /proc to look at */
};

/* 0, or -EBUSY: somebody has it open for writing, or it cannot be told. */
int ctl_guard_take(struct ctl_guard *g, int fd) jsonl_must_check;
/* 0, or -EBUSY: somebody has opened it, or is waiting to. */
int ctl_guard_check(const struct ctl_guard *g) jsonl_must_check;
void ctl_guard_release(struct ctl_guard *g);

#endif
