/* SPDX-License-Identifier: MIT */
/* Sets up a mount, from opening the source, and takes it down, up to the last record of
 * the last handle. */
#ifndef FS_START_MOUNT_H
#define FS_START_MOUNT_H

#include "base/error.h"

struct fs_mount;

/* Opens the source and the state directory, builds policy, quarantine, tables. 0 or
 * -errno with a message on stderr. m->vault.config is filled before. */
int fs_mount_init(struct fs_mount *m, const char *source) jsonl_must_check;
/* Runs ops->abandon on every handle that is left, waits for deferred work, syncs. */
void fs_mount_drain(struct fs_mount *m);
void fs_mount_deinit(struct fs_mount *m);

#endif
