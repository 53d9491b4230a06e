/* SPDX-License-Identifier: MIT */
/* Starts another daemon when one has died. */
#ifndef FS_START_SUPERVISE_H
#define FS_START_SUPERVISE_H

#include <stdbool.h>

struct fs_mount;

/* Forks. The parent stays and starts another daemon whenever one has died; this returns
 * in the daemons alone. The parent keeps none of the caller's descriptors, passes
 * SIGTERM, SIGINT and SIGHUP on, and exits with the exit code of a daemon that ended
 * normally. `report`: from fs_daemon_fork; `lock`: from fs_mountpoint_lock. */
int fs_supervise(struct fs_mount *m, int *report, int *lock);
/* Returns a path to the source for fs_mount_init, even when its own path leads into a
 * dead mount. */
const char *fs_supervise_source(const struct fs_mount *m);
/* Returns true when this daemon takes over from one that has died. */
bool fs_supervise_again(void);
/* Returns how many daemons of this mount have died before. */
unsigned fs_supervise_deaths(void);
/* Tells the parent that a mount of this device will be in the place of the dead one. */
void fs_supervise_mounting(const char *device);
/* Tells the parent that the dead mount stays below the new one, to be cleared in the end.
 * False: there are too many already; all are to be cleared now. */
bool fs_supervise_bury(void);
/* Tells the parent that the mount of this device is served: a daemon that dies from now
 * on had work under way. Does nothing without a parent. */
void fs_supervise_serving(const char *device);

#endif
