/* SPDX-License-Identifier: MIT */
/* Answers requests later: when the disk has answered, or when a lock that a program
 * outside holds has been had. No worker thread waits for either. */
#ifndef FS_LOG_WAIT_H
#define FS_LOG_WAIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"
#include "vault/deferred.h"

struct fs_account;
struct fs_mount;
struct fs_openlog;
struct fs_log_handle;
struct jsonl_file_user;

/* An operation that met a lock held outside and is tried again by another thread. */
struct fs_parked {
	struct fs_job job; /* first: cast back */
	/* Returns -EAGAIN to be called once more; else it has answered, and the handle
	 * may have been freed. */
	int (*step)(struct fs_parked *p, bool last);
	struct fs_log_handle *g;
	fuse_req_t req;
	struct fuse_ctx caller;
	struct fs_account *account; /* the account that the data is charged to */
	uint64_t owner;
	bool append;
	unsigned closes; /* 1: a FLUSH for which fs_follow_flush_begins was called */
	off_t off;
	size_t len;
	char data[];
};

/* Replies to a WRITE (`written` bytes) or, with 0, to anything that answers with an error
 * code; rc is 0 or -errno. */
void fs_log_answer(fuse_req_t req, size_t written, int rc);
/* Replies once the appends of `user` are durable. */
void fs_answer_durable(fuse_req_t req, struct fs_mount *m, struct fs_openlog *log,
		       struct jsonl_file_user *user, bool force, size_t written, int rc);
/* Replies once the appends of the handle are durable; a failed sync is answered with its
 * error. `force`: asks the disk in any case (fsync). */
void fs_log_answer_durable(fuse_req_t req, struct fs_log_handle *g, bool force,
			   size_t written, int rc);
/* Replies in the same way to a FLUSH that fs_follow_flush_begins was called for. */
void fs_log_answer_flush(fuse_req_t req, struct fs_log_handle *g, int rc);
/* Queues an operation with copies of `proto` and the data, to be tried again until
 * locktimeout. False without memory or a thread: then the caller answers at once. */
bool fs_log_park(struct fs_log_handle *g, fuse_req_t req, const struct fs_parked *proto,
		 const char *data, size_t len) jsonl_must_check;
/* Notes whether the lock was had. */
void fs_log_blocked(struct fs_log_handle *g, bool blocked);
/* Logs who holds the lock, after waiting in vain. */
void fs_log_tell_timeout(struct fs_log_handle *g, const char *operation);

#endif
