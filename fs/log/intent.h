/* SPDX-License-Identifier: MIT */
/* Names, makes, removes and recovers intent files of logs,
 * STATE/daemon/intent-DEVICE-INODE. */
#ifndef FS_LOG_INTENT_H
#define FS_LOG_INTENT_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "block/stage.h"

struct fs_mount;
struct fs_openlog;

/* Removes the empty intent of a log that no program has open any more. */
void fs_intent_forget(struct fs_mount *m, struct fs_openlog *s);
/* Recovers one log that was not found before. 0, -EAGAIN or -errno. */
int fs_intent_recover_one(struct fs_mount *m, struct fs_openlog *s) jsonl_must_check;
void fs_intent_name(dev_t dev, ino_t ino, char buf[64]);
/* Opens or makes an intent file: a descriptor, whose name is durable, or -errno. */
int fs_intent_open(struct fs_mount *m, const char *name) jsonl_must_check;
/* Makes a name for a staging file that was never used before. */
void fs_intent_stage_name(const struct fs_mount *m, char name[JSONL_STAGE_NAME]);
bool fs_intent_recover(struct fs_mount *m, const char *name, void *ctx);
bool fs_intent_names(struct fs_mount *m, const char *intent, void *ctx);

/* Opens or makes the log's own intent. 0 or -errno. */
int fs_intent_make(struct fs_mount *m, struct fs_openlog *s) jsonl_must_check;

#endif
