/* SPDX-License-Identifier: MIT */
/* Judges content that is about to become a log's, and appends it. */
#ifndef FS_LOG_CONTENT_H
#define FS_LOG_CONTENT_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"

struct fs_inode;
struct fs_mount;
struct jsonl_file;
struct jsonl_file_user;
struct jsonl_limits;

/* Checks bytes [from, size) of a descriptor as whole records. 0, a verdict (with *at, the
 * offset of the first wrong byte in the file), or -errno. *unfinished: it ends in a bare
 * number or in white space, and needs a newline; any other last record may do without. */
int fs_content_validate(struct fs_mount *m, const struct jsonl_limits *lim, int fd,
			off_t from, off_t size, off_t *at,
			bool *unfinished) jsonl_must_check;
/* Validates all of a plain file that is about to get the name of a log. Logs what is
 * wrong. 0, -EBADMSG or a similar refusal, or -errno. */
int fs_content_admit(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
		     const char *newpath) jsonl_must_check;
/* Counts a close without newline, which status lists, when the log behind `fd` ends without
 * one. For content that a log gets in another way than by writes. `program`: "(renamed)" for
 * a rename. -1: no file. */
void fs_content_note_end(struct fs_mount *m, const char *program, const char *path,
			 uid_t uid, int fd);
/* Returns how much of a log of `end` bytes is compared with content of `size` bytes: all
 * of it or, if only the last newline is missing, all but that. */
off_t fs_content_length(struct jsonl_file *file, off_t end, off_t size);
/* Checks that `src`, which begins with the log's `end` bytes, goes on with a line of its
 * own. 0, -EPERM or -errno. */
int fs_content_goes_on(struct fs_mount *m, struct jsonl_file *file, int src, off_t end,
		       off_t size) jsonl_must_check;
/* Appends bytes [from, size) of `src`, which have been validated, while the log is
 * frozen. `unfinished`: with a newline behind them. 0 or -errno. */
int fs_content_append(struct fs_mount *m, struct jsonl_file *file, int src, off_t from,
		      off_t size, bool unfinished,
		      struct jsonl_file_user *user) jsonl_must_check;

/* Calls jsonl_file_freeze, and waits up to `ms` milliseconds for a lock that a program
 * outside holds. */
int fs_freeze(struct jsonl_file *file, unsigned ms, off_t *end) jsonl_must_check;
/* Do the same with jsonl_file_freeze_as_is and jsonl_file_freeze_any. */
int fs_freeze_as_is(struct jsonl_file *file, unsigned ms, off_t *end) jsonl_must_check;
int fs_freeze_any(struct jsonl_file *file, unsigned ms, off_t *end) jsonl_must_check;

#endif
