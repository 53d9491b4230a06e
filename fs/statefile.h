/* Handles of state files (class replace): one JSON document that programs write anew as a
 * whole. What a handle writes is staged (staging.h); at its last close the new content must
 * be a JSON document, and takes the place of the old one atomically. A handle that is open
 * for reading goes on with the version that it opened. */
#ifndef FS_STATEFILE_H
#define FS_STATEFILE_H

#include "fs.h"
#include "seen.h"

/* As fs_plain_open; with tree_lock held for reading, unless it was `created` just now. */
int fs_statefile_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi,
		      bool created) jsonl_must_check;
/* Is this content one JSON document? 0, a verdict with *at, or -errno. Nothing at all is
 * JSONL_BLANK. */
int fs_statefile_check(struct fs_mount *m, const struct jsonl_limits *lim, int fd,
		       off_t *at) jsonl_must_check;

/* ---- statefile_broken.c ---- */
/* Before the file is read or changed: is it a document? One that is not is moved aside as
 * NAME.bak-UTCSTAMP, unless somebody outside may be in the middle of writing it, and
 * `onbroken` says what comes in its place. 0: open it; -ESTALE: look the name up again;
 * -EBADMSG, -errno. */
int fs_statefile_broken(struct fs_mount *m, struct fs_inode *i,
			const struct jsonl_settings *settings, int fd,
			const struct stat *st) jsonl_must_check;
/* With onbroken=last-good: this content is good. Best effort, logged when it fails. */
void fs_statefile_keep(struct fs_mount *m, const struct jsonl_settings *settings,
		       const char *path, int fd);

/* ---- statefile_lost.c ---- */
/* Which content is there: of `name` in `dir`, or with "" of the descriptor itself; *st
 * comes with it. 0 or -errno. */
int fs_version_of(int dir, const char *name, struct fs_version *v,
		  struct stat *st) jsonl_must_check;
bool fs_version_same(const struct fs_version *a, const struct fs_version *b);
/* Locks the file against other replacements, to be unlocked by the caller. Not with
 * tree_lock held. */
pthread_mutex_t *fs_statefile_lock(const struct fs_inode *i);
struct fs_statefile_writer {
	const char *path, *program;
	pid_t pid;
	uid_t uid;
};
/* Counts an update that is about to be lost. -EBUSY: it is not to be; else logged, 0. */
int fs_statefile_lost(struct fs_mount *m, const struct jsonl_settings *settings,
		      const struct fs_statefile_writer *who,
		      const char *why) jsonl_must_check;
/* Before a rename to this name of a content that was begun at that time (NULL: not
 * known), under the file's lock. 0, -EBUSY, -errno. */
int fs_statefile_onto(struct fs_mount *m, const struct jsonl_settings *settings,
		      const struct fuse_ctx *caller, const char *path,
		      const struct timespec *begun, int dir,
		      const char *name) jsonl_must_check;
/* It has been renamed there: who did that knows what is in it. */
void fs_statefile_put(struct fs_mount *m, const struct fuse_ctx *caller, const char *path,
		      int src);

#endif
