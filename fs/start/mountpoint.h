/* SPDX-License-Identifier: MIT */
/* Examines and clears what is mounted at the mount point already. */
#ifndef FS_START_MOUNTPOINT_H
#define FS_START_MOUNTPOINT_H

#include <stdbool.h>

#include "base/error.h"

enum fs_mountpoint { FS_MOUNTPOINT_FREE, FS_MOUNTPOINT_OURS };

/* Returns the canonical path of a directory, to be freed; also of a mount point whose
 * daemon is dead. NULL with errno. */
char *fs_mountpoint_resolve(const char *path);
/* Examines what is mounted on `mountpoint` (canonical), and clears dead mounts of jsonlfs
 * on the way (lazily). OURS: a live jsonlfs of this source is there. */
int fs_mountpoint_check(const char *mountpoint, const char *fsname,
			enum fs_mountpoint *state);
/* Returns the device number (MAJOR:MINOR) of the topmost mount on this path, "" without
 * one; to be freed; NULL out of memory. No message. */
char *fs_mountpoint_device(const char *mountpoint);
/* Aborts the connection to the kernel: programs that wait for an answer get ENOTCONN. For
 * a session that has ended but is held up. `device`: from fs_mountpoint_device after the
 * mount. */
void fs_mountpoint_abort(const char *mountpoint, const char *device);
/* Makes mount commands of the same moment take turns, by a lock on the directory below
 * the mount, until the descriptor is closed. -1 if there is no lock (not readable, or
 * held for more than ten seconds): then they mount without it. */
int fs_mountpoint_lock(const char *mountpoint);
/* Asks the mounted file system something that only it can answer. 0 or -errno, no
 * message. */
int fs_mountpoint_probe(const char *mountpoint) jsonl_must_check;
/* Returns true when the topmost mount on this path is the one of this device, and no
 * daemon serves it. */
bool fs_mountpoint_is_dead(const char *mountpoint, const char *device);
/* Lazily unmounts the topmost mount there, with fusermount3 where that takes root. 0 or
 * -errno, no message. */
int fs_mountpoint_clear(const char *mountpoint);

#endif
