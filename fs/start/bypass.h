/* SPDX-License-Identifier: MIT */
/* Finds the programs that write to logs without the mount. */
#ifndef FS_START_BYPASS_H
#define FS_START_BYPASS_H

struct fs_mount;

/* Starts a thread that looks for programs that have had logs open for writing since
 * before the mount, logs them, and keeps them for status (bypassers.h). */
void fs_bypass_start(struct fs_mount *m);
/* Waits until all of them have been looked at, for a second at most. */
void fs_bypass_wait(struct fs_mount *m);
void fs_bypass_stop(struct fs_mount *m);

#endif
