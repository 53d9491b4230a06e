/* SPDX-License-Identifier: MIT */
/* Gives a log new content as a whole, atomically; the old content is archived. */
#ifndef FS_LOG_REPLACE_H
#define FS_LOG_REPLACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_inode;
struct fs_mount;
struct fs_openlog;

struct fs_new_content {
	int fd;	   /* readable */
	uid_t uid; /* the user that makes it */
	off_t size;
	bool unfinished;     /* whole records, but the last one has no newline */
	ino_t ino;	     /* inode number of the log that it replaces */
	uint64_t generation; /* and generation: base/version.h */
	off_t base;	     /* bytes of the log that it replaces */
	int attributes;	     /* gives the new file its mode, owner, ACL and attributes */
	bool times;	     /* and its times; else: */
	/* The times that it gets when nothing was appended; NULL: the present ones. */
	const struct timespec *old_times;
	/* Set for a rename, until whose answer the kernel lets nobody change the
	 * directory. */
	bool renaming;
	bool any_end; /* even when the log's end is no JSON Lines, if base covers it */
};

/* Moves the intent of a log that was replaced, whose number was `from`, to its new
 * number. While the log is frozen, so that nothing is under way. */
void fs_intent_moved(struct fs_mount *m, struct fs_openlog *s, ino_t from);
/* Makes `c` the content of the log, atomically. The old content is archived; records that
 * were appended behind `base` follow the new content. *end: the new length, or -1 when it
 * is not in place; after an error it may be in place, and may be gone after a power cut.
 * 0; -EAGAIN: nothing has happened, a program outside holds a lock; -ESTALE: the log has
 * another name, or none; -EPERM, -EDQUOT with *why; -errno. `archive` (NAME_MAX + 1
 * bytes, or NULL) receives the name of the old content, "" when that was empty. */
int fs_replace_log(struct fs_mount *m, struct fs_inode *i, struct fs_openlog *s,
		   const struct fs_new_content *c, off_t *end, char *archive,
		   const char **why) jsonl_must_check;

#endif
