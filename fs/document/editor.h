/* SPDX-License-Identifier: MIT */
/* Writes documents. Until the first write such a handle is like a reader. Its writes are
 * staged (vault/staged.h), and it reads them itself; at its last close the new content
 * must be a JSON document, and replaces the old one atomically. Its table of operations
 * changes once, under inode->lock, with the first write. */
#ifndef FS_DOCUMENT_EDITOR_H
#define FS_DOCUMENT_EDITOR_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"
#include "document/reader.h"
#include "vault/staged.h"

struct fs_document_editor {
	struct fs_document doc; /* first: cast back */
	/* Set once, under inode->lock. NULL: nothing has been written. */
	struct fs_staged *_Atomic staged;
	/* the staged content began empty: it has no bytes of the old content */
	bool blind;
	/* Under inode->lock: the change that failed because staging could not be begun.
	 */
	struct fs_staged_failure failed;
};

extern const struct fs_handle_ops fs_document_editor_ops;

/* Begins new content, for a change at `at`, or with `cut` for a truncation to `at` bytes.
 * 0 or -errno. */
int fs_document_begin(struct fs_document_editor *e, const struct fuse_ctx *caller,
		      off_t at, bool cut) jsonl_must_check;

#endif
