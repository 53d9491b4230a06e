/* A whole file is replaced by another: what is written goes to a new file in the same
 * directory, which takes over mode, owner, ACL, extended attributes and times of the old
 * one and is synced before it gets the name; then the directory is synced. Whatever fails
 * or stops in between, the name stands for the old content or for the new one, each
 * whole. After a crash a file .NAME.jsonl-new-NUMBER may be left beside.
 *
 * Who may write meanwhile is the caller's business: lock the old file first. One
 * replacement is one thread's at a time. */
#ifndef JSONL_REPLACE_H
#define JSONL_REPLACE_H

#include <limits.h>
#include <stdbool.h>

#include "error.h"
#include "io.h"

struct jsonl_replace {
	const struct jsonl_io *io;
	int dir_fd; /* borrowed */
	int old_fd; /* borrowed: what is taken over from; -1: nothing */
	int fd;	    /* the new file: readable, O_APPEND; -1: none */
	bool
	    new_times; /* set after _begin: the times of the old one are not taken over */
	char name[NAME_MAX + 1];
	char temp[NAME_MAX + 1];
	bool renamed; /* the name stands for the new content */
};

/* Makes the new file, empty and for its owner alone. `dir_fd`: a directory that can be
 * synced; `old_fd`: the file to take mode and the like from, which need not be the one of
 * this name. 0 or -errno; if 0 pair with _commit or _abort. */
int jsonl_replace_begin(struct jsonl_replace *r, const struct jsonl_io *io, int dir_fd,
			const char *name, int old_fd) jsonl_must_check;
/* The same when there is nothing to take over: the new file has `mode` (open(2)). Commit
 * it with RENAME_NOREPLACE. */
int jsonl_replace_begin_new(struct jsonl_replace *r, const struct jsonl_io *io,
			    int dir_fd, const char *name, mode_t mode) jsonl_must_check;
/* Adds bytes to the new file. */
int jsonl_replace_write(struct jsonl_replace *r, const void *data,
			size_t len) jsonl_must_check;
/* Takes over what belongs to the old file and syncs the new one, so that only the rename
 * is left to do. Optional before _commit; nothing may be written after it. */
int jsonl_replace_prepare(struct jsonl_replace *r) jsonl_must_check;
/* Gives the new file its name. `flags`: of renameat2(2), RENAME_NOREPLACE when nothing
 * is to be replaced. On failure r->renamed tells whether only the sync of the directory
 * failed: then the new content is there, but may be gone after a power cut. Else it is
 * as if nothing had happened. Ends the replacement. */
int jsonl_replace_commit(struct jsonl_replace *r, unsigned flags) jsonl_must_check;
/* The two halves of _commit behind _prepare, for who has something to do in between: the
 * rename, which ends the replacement if it fails (nothing has happened), and the sync of
 * the directory. */
int jsonl_replace_rename(struct jsonl_replace *r, unsigned flags) jsonl_must_check;
int jsonl_replace_settle(struct jsonl_replace *r) jsonl_must_check;
/* Removes the new file; does nothing when the replacement has ended. */
void jsonl_replace_abort(struct jsonl_replace *r);

#endif
