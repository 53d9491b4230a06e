/* SPDX-License-Identifier: MIT */
/* Runs jobs that may have to wait, or that the thread of a request must not do, on
 * threads that are shared out per uid. Threads are started when first needed. The lock is
 * a leaf. */
#ifndef FS_VAULT_DEFERRED_H
#define FS_VAULT_DEFERRED_H

#include <stdbool.h>
#include <stdint.h>

#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"

struct fs_handle;
struct fs_vault;

struct fs_job {
	/* Returns -EAGAIN to be called again soon; else the job is done and has been
	 * freed. `last`: its time is up, or the mount ends. */
	int (*run)(struct fs_job *job, bool last);
	unsigned timeout_ms;
	uid_t uid; /* the user whose share of the threads it uses */
	/* The earliest time of the next call, CLOCK_MONOTONIC in milliseconds, unless
	 * `last`; 0: soon. run() may change it. */
	int64_t not_before;
	/* deferred.c's: */
	struct fs_job *next;
	int64_t deadline; /* CLOCK_MONOTONIC, milliseconds */
};
/* Queues a job. 0; -ENOMEM or -EAGAIN (no thread): the caller keeps the job. */
int fs_defer(struct fs_vault *v, struct fs_job *job) jsonl_must_check;
/* Queues a notification of the kernel (fuse_lowlevel_notify_*), for which it may wait for
 * another request. One thread does nothing else, and runs it once. As fs_defer. */
int fs_defer_note(struct fs_vault *v, struct fs_job *job) jsonl_must_check;
/* Counts jobs of this uid that wait for a thread, or to be run again. */
unsigned fs_defer_count(struct fs_vault *v, uid_t uid);
/* Returns true on a thread of the pool, which may wait for a second. */
bool fs_defer_here(void);
/* Lets the pool carry out a request that may have to wait, with a copy of `fi`. Without
 * memory or a thread the answer is ENOMEM. On a thread of the pool it runs at once. */
typedef void fs_later_op(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi);
void fs_defer_request(struct fs_vault *v, fuse_req_t req, struct fs_handle *h,
		      struct fuse_file_info *fi, fs_later_op *run);
/* Runs all jobs with `last` set and stops the threads. False: there were none. True: jobs
 * that were run may have queued new ones. */
bool fs_defer_stop(struct fs_vault *v);

#endif
