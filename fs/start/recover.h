/* SPDX-License-Identifier: MIT */
/* Recovers, before the mount, commits that were cut off, and what was staged. */
#ifndef FS_START_RECOVER_H
#define FS_START_RECOVER_H

struct fs_mount;

/* Completes or undoes commits that were cut off; what was staged is dropped or, with
 * killed=commit, appended. Before the mount. */
void fs_recover(struct fs_mount *m);

#endif
