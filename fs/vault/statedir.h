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
/* Opens daemon/ in the vault's own .jsonlfs, or makes it. Descriptor or -errno. */
int fs_statedir_daemon(struct fs_vault *v) jsonl_must_check;
/* Removes the state directory at the end, when nothing uses it any more, if it is empty,
 * no other daemon has it open, and state= does not name it. */
void fs_statedir_leave(struct fs_vault *v);

#endif
