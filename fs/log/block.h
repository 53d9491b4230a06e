/* SPDX-License-Identifier: MIT */
/* commit=close: lets the records of one handle appear together, when the process that
 * opened it closes its last descriptor of it. Until then they are staged
 * (lib/block/stage.h) in memory and in STATE/daemon/stage-*; lib/block/commit.h appends
 * them, with one intent file for each log, STATE/daemon/intent-DEVICE-INODE. Any thread.
 */
#ifndef FS_LOG_BLOCK_H
#define FS_LOG_BLOCK_H

struct fs_log_kind;

extern const struct fs_log_kind fs_block_kind;

#endif
