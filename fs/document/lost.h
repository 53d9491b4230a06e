/* SPDX-License-Identifier: MIT */
/* Refuses or counts updates of a state file that would undo what another program has
 * written. */
#ifndef FS_DOCUMENT_LOST_H
#define FS_DOCUMENT_LOST_H

#include <pthread.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_inode;
struct fs_mount;
struct fuse_ctx;
struct jsonl_settings;

struct fs_document_writer {
	const char *path, *program;
	pid_t pid;
	uid_t uid;
};
/* Locks the file against other replacements, to be unlocked by the caller. Not with
 * tree_lock held. */
pthread_mutex_t *fs_document_lock(const struct fs_inode *i);
/* Counts an update that is about to be lost. -EBUSY: the update is refused; else it is
 * logged, 0. */
int fs_document_lost(struct fs_mount *m, const struct jsonl_settings *settings,
		     const struct fs_document_writer *who,
		     const char *why) jsonl_must_check;
/* Checks a rename to this name of content that was begun at that time (NULL: not known),
 * under the file's lock. 0, -EBUSY, -errno. */
int fs_document_onto(struct fs_mount *m, const struct jsonl_settings *settings,
		     const struct fuse_ctx *caller, const char *path,
		     const struct timespec *begun, int dir,
		     const char *name) jsonl_must_check;
/* Notes the rename: its process knows the content. */
void fs_document_put(struct fs_mount *m, const struct fuse_ctx *caller, const char *path,
		     int src);

#endif
