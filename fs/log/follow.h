/* SPDX-License-Identifier: MIT */
/* Implements follow=path: lets a handle go on with the file that its name leads to. Any
 * thread. */
#ifndef FS_LOG_FOLLOW_H
#define FS_LOG_FOLLOW_H

#include <stdbool.h>

#include "base/error.h"
#include "base/fuse.h"

struct fs_openlog;
struct fs_log_handle;

/* Begins for a handle that is open and linked; 0 or -errno. */
int fs_follow_new(struct fs_log_handle *g, bool path) jsonl_must_check;
void fs_follow_free(struct fs_log_handle *g);
/* Moves the handle, before a write, to the log that its name leads to by now, if the
 * caller may write to that. The kernel has one write or fsync of a file under way at a
 * time, so these may use g->log without more. */
void fs_follow_name(fuse_req_t req, struct fs_log_handle *g, bool append, unsigned closes);
/* Returns the log for all other operations. *held is to be dropped with fs_openlog_put,
 * also after the answer, when the handle may have been freed; NULL if the log cannot
 * change. */
struct fs_openlog *fs_follow_hold(struct fs_log_handle *g, struct fs_openlog **held);
/* Keeps the handle on its log from a FLUSH until just before its answer. */
void fs_follow_flush_begins(struct fs_log_handle *g);
void fs_follow_flush_ends(struct fs_log_handle *g);

#endif
