/* SPDX-License-Identifier: MIT */
/* Renames files when one side is a log: entries of its class table (tree/classes.h). */
#ifndef FS_LOG_ONTO_H
#define FS_LOG_ONTO_H

#include "base/error.h"

struct fs_renaming;

/* Renames onto a log: the new records are appended; with rewrite=archive, content that
 * does not begin with the log's takes its place. The source is copied, so its node need
 * not become the log's. */
int fs_log_rename_onto(struct fs_renaming *r) jsonl_must_check;
/* Renames to a new name of a log: the content is judged first. */
int fs_log_rename_into(struct fs_renaming *r) jsonl_must_check;
/* Renames from the name of a log to one of another class. */
int fs_log_rename_out(struct fs_renaming *r) jsonl_must_check;

#endif
