/* SPDX-License-Identifier: MIT */
/* Finds the length of a log for readers. Takes the inode's lock. */
#ifndef FS_LOG_VISIBLE_H
#define FS_LOG_VISIBLE_H

#include <stdbool.h>
#include <sys/stat.h>

struct fs_inode;
struct fs_mount;

/* Corrects st_size to what readers see, for each stat of a log. Returns true when
 * programs have it open to append to it, or had a moment ago, and others to read it: then
 * the kernel must not keep the answer. */
bool fs_log_fix_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st);

#endif
