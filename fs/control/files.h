/* SPDX-License-Identifier: MIT */
/* Carries out requests that give a log new content as a whole. The file's owner may make
 * them, too. On the client's thread. */
#ifndef FS_CONTROL_FILES_H
#define FS_CONTROL_FILES_H

#include "base/error.h"

struct fs_control_request;
struct fs_inode;
struct fs_mount;
struct stat;

/* {"path"}, with descriptors of the new content and of the content that it was made from;
 * without the second it replaces all of the log. Records that were appended since follow
 * it. The reply has the "archive" of the old content. -ESTALE: another file has taken the
 * place of the log meanwhile. */
int fs_control_replace(struct fs_control_request *r) jsonl_must_check;
/* {"path"}: moves lines that are no records to the quarantine. -EBUSY: a program has the
 * log open for writing. The reply has the counts of struct jsonl_repair_counts, and
 * "archive" when the log has changed. */
int fs_control_repair(struct fs_control_request *r) jsonl_must_check;
/* Finds the node of a path from the vault's root, with a reference; never through a
 * symbolic link. 0 or -errno. */
int fs_control_walk(struct fs_mount *m, const char *path, struct fs_inode **out,
		    struct stat *st);

#endif
