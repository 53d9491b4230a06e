/* SPDX-License-Identifier: MIT */
/* Writes a log anew, where `rewrite=` allows it. After an O_TRUNC or a truncation the
 * handle's writes go to staged content (vault/staged.h), which the handle reads itself;
 * everybody else sees the log unchanged. At the last close the new content is judged:
 * with `extend` it must begin with what its program has seen of the log, and the rest is
 * appended; with `archive` any whole records replace the log, whose old content is
 * archived. Records that others have appended meanwhile follow the new content. Refused
 * content goes to the quarantine, and close reports it. */
#ifndef FS_LOG_REWRITER_H
#define FS_LOG_REWRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"
#include "vault/staged.h"

struct fs_log_kind;
struct fs_openlog;
struct fs_process;
struct fs_log_handle;

struct fs_rewrite {
	struct fs_staged staged;
	const struct fs_log_kind *under; /* the kind of the handle before; constant */
	/* Under staged.lock: */
	ino_t ino;	     /* number of the file that is rewritten */
	uint64_t generation; /* and generation: base/version.h */
	bool outdated;	     /* its program has read an earlier file */
	off_t base;	     /* bytes of the log that its program has seen */
	off_t done;   /* bytes of the staged content that are in the log; -1: not yet */
	bool newline; /* and a newline behind them that the content lacks */
};

/* Returns `rewrite=` of this file: enum jsonl_rewrite. */
int fs_rewrite_mode(const struct fs_log_handle *g);
/* Begins with the present content, for a change at `at`; or with `cut` for a truncation
 * to `at` bytes. 0 or -errno. The handle must be open for writing. Does nothing for a
 * handle that has begun. */
int fs_rewrite_begin(struct fs_log_handle *g, const struct fuse_ctx *caller, off_t at,
		     bool cut) jsonl_must_check;
/* Writes by a handle that has begun; answers the request. */
void fs_rewrite_write(fuse_req_t req, struct fs_log_handle *g, struct fuse_bufvec *in,
		      off_t off, struct fuse_file_info *fi);

#endif
