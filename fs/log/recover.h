/* SPDX-License-Identifier: MIT */
#ifndef FS_LOG_RECOVER_H
#define FS_LOG_RECOVER_H

#include "base/error.h"

struct fs_mount;
struct jsonl_settings;
struct jsonl_stage;

/* Appends staged records at recovery, with killed=commit (fs_class_ops.recover). */
int fs_log_recover(struct fs_mount *m, const struct jsonl_settings *settings,
		   const char *path, struct jsonl_stage *stage) jsonl_must_check;

#endif
