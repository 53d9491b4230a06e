/* SPDX-License-Identifier: MIT */
/* Opens or makes the state directory with what belongs into it. Before the mount, one
 * thread. */
#ifndef FS_VAULT_STATEDIR_H
#define FS_VAULT_STATEDIR_H

#include "base/error.h"

struct fs_vault;

#define FS_STATE_NAME ".jsonlfs"
/* Opens or makes the state directory with quarantine/, archive/ and .gitignore. */
int fs_statedir_init(struct fs_vault *v) jsonl_must_check;
/* Descriptor of daemon/ in the vault's own .jsonlfs, made when it is missing; -errno: it cannot
 * be. */
int fs_statedir_daemon(struct fs_vault *v) jsonl_must_check;
/* At the end, when nothing uses it any more: removes it if there is nothing in it, no other
 * daemon has it open, and state= does not name it. */
void fs_statedir_leave(struct fs_vault *v);

#endif
