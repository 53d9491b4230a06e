/* SPDX-License-Identifier: MIT */
/* Remembers how much of a log each process has read (base/seen.h): new content cannot be
 * meant to replace bytes that its program has not seen. Any thread. */
#ifndef FS_LOG_READ_BY_H
#define FS_LOG_READ_BY_H

#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"

struct fs_openlog;
struct fs_process;
struct fs_log_handle;

/* Where a read met the end of a log last, so that followers that ask again and again cost
 * nothing; one for each handle. */
struct fs_read_end {
	_Atomic pid_t pid;
	_Atomic off_t end;
};

/* Notes that a read of this process has met the end of the log. */
void fs_rewrite_seen(struct fs_read_end *last, const struct fs_openlog *s,
		     const struct fuse_ctx *caller, off_t end);
/* Notes that the process has begun to append: from then on it knows what is in the log.
 */
void fs_rewrite_appends(struct fs_log_handle *g, pid_t pid);
/* Finds how much of the log the process has seen: up to where a read of it met the end.
 * 1; 0: it has read nothing, *base is `visible`; -ESTALE: the version that it has read
 * has been replaced. */
int fs_rewrite_base(struct fs_openlog *s, pid_t pid, off_t visible,
		    off_t *base) jsonl_must_check;
/* Notes that the process has written the log anew, and knows its first `end` bytes. */
void fs_rewrite_written(struct fs_openlog *s, const struct fs_process *p, uid_t uid,
			off_t end);

#endif
