/* SPDX-License-Identifier: MIT */
/* Defines a log that is open for writing. The handle is a writer (writer.h) or, with
 * commit=close, a block (block.h); where the log may be written anew it becomes a
 * rewriter (rewriter.h): base.ops and kind change once, under inode->lock. Handles for
 * reading have a struct of their own (reader.h). */
#ifndef FS_LOG_HANDLE_H
#define FS_LOG_HANDLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/caller.h"
#include "base/fuse.h"
#include "base/ident.h"
#include "log/version.h"
#include "tree/handles.h"
#include "vault/named.h"
#include "vault/staged.h"

struct fs_account;
struct fs_follow;
struct fs_inode;
struct fs_mount;
struct fs_openlog;
struct fs_rewrite;
struct fs_log_handle;
struct jsonl_settings;
struct jsonl_writer;
struct jsonl_writer_options;

/* The steps of opening and closing a handle, for each kind. */
struct fs_log_kind {
	const struct fs_handle_ops *ops;
	size_t size; /* size of the struct, which begins with struct fs_log_handle */
	/* Prepares the handle, and *opt for its writer, which is made afterwards. 0 or
	 * -errno, with nothing to free. */
	int (*open)(fuse_req_t req, struct fs_inode *i, struct fs_log_handle *g,
		    struct jsonl_writer_options *opt);
	/* Appends what is left, at RELEASE. 0: the handle may be freed; -EAGAIN: try
	 * again, unless `last`. */
	int (*close)(struct fs_log_handle *g, bool last);
	/* Frees what only this kind has, after the writer. May be NULL. */
	void (*free)(struct fs_log_handle *g);
	bool follows; /* follow=path holds for it */
};

struct fs_log_handle {
	struct fs_handle base; /* first: cast back */
	struct fs_mount *m;
	struct fs_ids opener;
	struct fs_openlog *log;
	const struct jsonl_settings *settings; /* constant, as they were at open */
	struct fs_account *account;	       /* of whoever opened it */
	struct jsonl_writer *writer;
	/* changes together with base.ops, to that of a rewriter */
	const struct fs_log_kind *kind;
	struct fs_rewrite *_Atomic rewrite; /* rewriter.h; set once, under inode->lock */
	struct fs_reading reading;
	struct fs_follow *follow;    /* follow.c; NULL: stays with the file it opened */
	/* its file is not that of its node in the kernel */
	_Atomic bool moved;
	/* processes that have been asked for their program */
	struct fs_known known;
	struct fs_ident_ring idents; /* under the writer's mutex */
	/* Under inode->lock: the change that failed because a rewrite could not be begun.
	 */
	struct fs_staged_failure failed;
	bool sync_each; /* writes are answered when they are durable */
	_Atomic unsigned appends;
	_Atomic bool appended, synced; /* it has appended; the program has called fsync */
};

#endif
