/* SPDX-License-Identifier: MIT */
/* Keeps what one handle writes until it is appended as one block, for logs with
 * commit=close and for class text. The stage is guarded by the lock of its handle's
 * writes. */
#ifndef FS_LOG_STAGED_BLOCK_H
#define FS_LOG_STAGED_BLOCK_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/caller.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/process.h"

struct fs_account;
struct fs_handle;
struct fs_inode;
struct fs_mount;
struct jsonl_io;
struct jsonl_stage;

struct fs_transaction {
	struct fs_mount *m;	      /* constant, as all below but `stage` */
	struct jsonl_stage *stage;    /* under the lock of the handle's writes */
	pid_t opener;		      /* the process; -1: of another PID namespace */
	struct fs_ids ids;	      /* of whoever opened the file */
	struct fs_account *account;   /* of the staged memory; outlives this */
	struct fs_account *payers[2]; /* of the descriptors of stage and intent */
	/* Of a log alone: */
	_Atomic bool killed; /* the process that opened the file was killed */
	_Atomic unsigned done, dropped;
};

/* Makes an empty stage for a handle that is being opened. 0 or -errno. */
int fs_transaction_begin(fuse_req_t req, struct fs_inode *i, const struct jsonl_io *io,
			 struct fs_account *account,
			 struct fs_transaction *t) jsonl_must_check;
/* Frees the stage. Call it also after a _begin that failed. */
void fs_transaction_end(struct fs_transaction *t);
/* Finds out what this FLUSH of a handle means to the process that opened it. For threads
 * of the pool. */
enum fs_closing fs_transaction_closing(const struct fs_transaction *t,
				       const struct fs_handle *h,
				       const struct fuse_ctx *caller);
/* Moves what is staged to the quarantine and logs `code`, when no program is left that
 * could be told about it. The stage stays as it is. With `leave`, if the quarantine does
 * not accept it, its file is left for the next mount, and the result is true. */
bool fs_transaction_set_aside(struct fs_transaction *t, struct fs_inode *i, int file_fd,
			      int code, bool leave);

#endif
