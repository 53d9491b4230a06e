/* SPDX-License-Identifier: MIT */
/* Commits or refuses the staged content of a document. Under staged->lock. */
#ifndef FS_DOCUMENT_COMMIT_H
#define FS_DOCUMENT_COMMIT_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_document_editor;

/* Replaces the document by the staged content. Returns the result of close: 0, or -errno
 * when the content is in the quarantine. `try_only`: content that is no document yet may
 * still become one, and a failure is tried again; a later sync or close must not report
 * success for it. */
int fs_document_commit(struct fs_document_editor *e, bool try_only) jsonl_must_check;
/* Sets the content aside and logs `code`, a verdict or -errno. Returns the result of
 * close. */
int fs_document_refuse(struct fs_document_editor *e, int code, off_t at,
		       const char *event, const char *next);

#endif
