/* SPDX-License-Identifier: MIT */
/* Finds the process that has a file open for writing. One thread. */
#ifndef FS_CTL_HOLDER_H
#define FS_CTL_HOLDER_H

#include <sys/stat.h>

/* Returns the pid of a process that has this inode open for writing (not our own), with
 * its name in `comm`; 0: there is none that we may see; -ETIMEDOUT: there is none, but
 * looking at some process took longer than a second and was given up. */
int ctl_holder(const struct stat *st, char comm[32]);

#endif
