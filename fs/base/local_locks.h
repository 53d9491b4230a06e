/* SPDX-License-Identifier: MIT */
/* Tells file systems of several hosts whose flock(2) holds on this host alone. Any thread. */
#ifndef FS_BASE_LOCAL_LOCKS_H
#define FS_BASE_LOCAL_LOCKS_H

#include <stddef.h>
#include <stdio.h>

/* Looks up the mount `id` (statx(2), STATX_MNT_ID) in a mount table (proc_pid_mountinfo(5)).
 * Returns NULL, or what it is mounted as: "sshfs", "nfs with nolock". */
const char *fs_local_locks(FILE *table, unsigned long long id);
/* The same for the mount that a descriptor is in; NULL, too, if that cannot be found out. */
const char *fs_local_locks_of(int fd);

#endif
