/* SPDX-License-Identifier: MIT */
/* Replaces a whole file. The new content goes to a new file in the same directory, which
 * takes over mode, owner, ACL, extended attributes and times of the old one and is synced
 * before it gets the name; then the directory is synced. Whatever fails or stops in
 * between, the name stands for the old content or the new one, each whole. A crash may
 * leave a file .NAME.jsonl-new-NUMBER beside it.
 *
 * The caller keeps writers away: it locks the old file first. One thread per replacement.
 */
#ifndef JSONL_REPLACE_H
#define JSONL_REPLACE_H

#include <limits.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/io.h"

struct jsonl_replace {
	const struct jsonl_io *io;
	int dir_fd; /* borrowed */
	int old_fd; /* borrowed; mode and the like are those of this file; -1: none */
	int fd;	    /* the new file: readable, O_APPEND; -1: none */
	/* Set after _begin: an ordinary user has written it, so that suid, sgid and capabilities
	 * are not taken over. */
	bool unprivileged;
	bool new_times; /* set after _begin: does not take the times of the old file over
			 */
	char name[NAME_MAX + 1];
	char temp[NAME_MAX + 1];
	bool renamed; /* the name stands for the new content */
};

/* Makes the new file, empty and readable by its owner only. `dir_fd`: a directory that
 * can be synced; `old_fd`: the file to take mode and the like from, which may have
 * another name. 0, then pair with _commit or _abort; or -errno. */
int jsonl_replace_begin(struct jsonl_replace *r, const struct jsonl_io *io, int dir_fd,
			const char *name, int old_fd) jsonl_must_check;
/* Makes the new file when there is no old one, with `mode` (open(2)). Commit it with
 * RENAME_NOREPLACE. */
int jsonl_replace_begin_new(struct jsonl_replace *r, const struct jsonl_io *io,
			    int dir_fd, const char *name, mode_t mode) jsonl_must_check;
/* Adds bytes to the new file. */
int jsonl_replace_write(struct jsonl_replace *r, const void *data,
			size_t len) jsonl_must_check;
/* Takes mode and the like over and syncs the new file, so that only the rename is left.
 * Optional before _commit; nothing may be written after it. 0 or -errno. */
int jsonl_replace_prepare(struct jsonl_replace *r) jsonl_must_check;
/* Gives the new file its name, and ends the replacement. `flags`: of renameat2(2),
 * RENAME_NOREPLACE to replace nothing. After -errno r->renamed is true when only the sync
 * of the directory failed: the new content is there, but a power cut may take it back.
 * Else nothing has changed. */
int jsonl_replace_commit(struct jsonl_replace *r, unsigned flags) jsonl_must_check;
/* Do after _prepare what _commit does, in two steps: _rename, which ends the replacement
 * when it fails (nothing has changed), and _settle, the sync of the directory. 0 or
 * -errno. */
int jsonl_replace_rename(struct jsonl_replace *r, unsigned flags) jsonl_must_check;
int jsonl_replace_settle(struct jsonl_replace *r) jsonl_must_check;
/* Removes the new file, unless the replacement has ended. */
void jsonl_replace_abort(struct jsonl_replace *r);

#endif
