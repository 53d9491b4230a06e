/* SPDX-License-Identifier: MIT */
/* Renames directories, which must not change the class of a file below. */
#ifndef FS_NAMES_RENAME_DIRECTORY_H
#define FS_NAMES_RENAME_DIRECTORY_H

#include "base/error.h"

struct fs_renaming;

int fs_directory_may_move(struct fs_renaming *r, int dir_fd, const char *name,
			  const char *from, const char *to);
int fs_rename_directory(struct fs_renaming *r);

#endif
