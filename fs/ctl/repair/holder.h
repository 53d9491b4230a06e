/* SPDX-License-Identifier: MIT */
/* Finds the process that has a file open for writing. One thread. */
#ifndef FS_CTL_HOLDER_H
#define FS_CTL_HOLDER_H

#include <sys/stat.h>

/* The pid of a process that has this inode open for writing (not our own), with its name
 * in `comm`; 0: none that we may see; -ETIMEDOUT: none, but some process hangs, and with
 * it who asks what it has open: that was given up after a second. */
int ctl_holder(const struct stat *st, char comm[32]);

#endif
