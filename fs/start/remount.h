/* SPDX-License-Identifier: MIT */
/* Mounts again in the place of a dead mount. */
#ifndef FS_START_REMOUNT_H
#define FS_START_REMOUNT_H

#include <stdbool.h>

struct fs_mount;
struct fs_options;

/* Returns true when a parent process is to stay and mount again after a death. */
bool fs_remount_allowed(const struct fs_mount *m, const struct fs_options *o);
/* Mounts m->tree.se on m->vault.mountpoint in the place of the dead mount there. Where
 * root mounts and the kernel can do it, programs never see the bare directory. */
int fs_remount(struct fs_mount *m, const struct fs_options *o);
/* Unmounts m->tree.se, however it was mounted. `severed`: it was unmounted by somebody
 * else. Returns no exit code. */
void fs_remount_end(struct fs_mount *m, bool severed);

#endif
