/* SPDX-License-Identifier: MIT */
/* Appends to a log record by record, with the operations that a block (block.h) shares.
 * Operations may be called by any worker thread; each answers its request once. */
#ifndef FS_LOG_WRITER_H
#define FS_LOG_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/fuse.h"
#include "tree/handles.h"

struct fs_log_kind;
struct fs_log_handle;

extern const struct fs_log_kind fs_writer_kind;

/* ---- for a block, too ---- */
void fs_writer_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		    struct fuse_file_info *fi);
void fs_writer_release(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi);
void fs_writer_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			 off_t len, struct fuse_file_info *fi);
void fs_writer_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
		     struct fuse_file_info *fi);
int fs_writer_truncate(fuse_req_t req, struct fs_handle *h, off_t size);
bool fs_writer_stay(struct fs_handle *h, void *version);
bool fs_writer_join(struct fs_handle *h, struct fs_handle *other);
bool fs_writer_stat(struct fs_handle *h, struct stat *st);
/* Call jsonl_writer_flush and _settle at the expense of the user that opened the file. */
int fs_writer_flush_paid(struct fs_log_handle *g, uint64_t owner,
			 struct fuse_ctx *caller);
int fs_writer_settle_paid(struct fs_log_handle *g, struct fuse_ctx *caller);
void fs_writer_flush_answer(fuse_req_t req, struct fs_log_handle *g, int rc);
void fs_writer_fsync_end(fuse_req_t req, struct fs_log_handle *g, int rc);
int fs_writer_release_paid(struct fs_log_handle *g, bool last, bool *committed);
void fs_writer_close_durably(struct fs_log_handle *g);
void fs_writer_abandon(struct fs_handle *h);
/* Frees a handle of any kind, with nothing left to append. `linked`: it has been entered
 * into the lists of its inode. */
void fs_writer_free(struct fs_log_handle *g, bool linked);

#endif
