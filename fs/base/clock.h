/* SPDX-License-Identifier: MIT */
/* Compares the times of files, and says whether they can be trusted to tell a later
 * change. Any thread, no lock. */
#ifndef FS_BASE_CLOCK_H
#define FS_BASE_CLOCK_H

#include <stdbool.h>
#include <sys/stat.h>

/* Returns true when the last change is so long ago that another change would get another
 * time. What was read since then belongs to these times, and stays valid for as long as
 * they do not change. */
bool fs_stamp_is_old(const struct stat *st);
bool fs_same_time(struct timespec a, struct timespec b);
/* Returns true when `a` is later than `b`. */
bool fs_later_time(struct timespec a, struct timespec b);

#endif
