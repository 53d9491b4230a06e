/* SPDX-License-Identifier: MIT */
/* Exit codes of mount(8). */
#ifndef FS_START_EXIT_H
#define FS_START_EXIT_H

enum fs_exit {
	FS_EXIT_OK = 0,
	FS_EXIT_USAGE = 1,  /* wrong invocation or permissions */
	FS_EXIT_SYSTEM = 2, /* out of memory, cannot fork ... */
	FS_EXIT_BUG = 4,    /* an internal bug */
	FS_EXIT_MOUNT = 32, /* the mount failed */
};

#endif
