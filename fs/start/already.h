/* SPDX-License-Identifier: MIT */
/* Compares the options of a mount command with those of the present mount. */
#ifndef FS_START_ALREADY_H
#define FS_START_ALREADY_H

struct fs_mount;

/* Prints on standard error that the vault is mounted, and which of the requested options
 * do not hold there. Returns the exit status: 0, or FS_EXIT_MOUNT if there is such an
 * option. */
int fs_already_mounted(const struct fs_mount *m);

#endif
