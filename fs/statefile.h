/* Handles of state files (class replace): one JSON document that programs write anew as a
 * whole. What a handle writes is staged (staging.h); at its last close the new content must
 * be a JSON document, and takes the place of the old one atomically. A handle that is open
 * for reading goes on with the version that it opened. */
#ifndef FS_STATEFILE_H
#define FS_STATEFILE_H

#include "fs.h"

/* As fs_plain_open; with tree_lock held for reading, unless the file was made just now. */
int fs_statefile_open(fuse_req_t req, struct fs_inode *i,
		      struct fuse_file_info *fi) jsonl_must_check;
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

#endif
