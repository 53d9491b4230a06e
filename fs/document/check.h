/* SPDX-License-Identifier: MIT */
/* Judges whether content is one JSON document. */
#ifndef FS_DOCUMENT_CHECK_H
#define FS_DOCUMENT_CHECK_H

#include <sys/types.h>

#include "base/error.h"

struct fs_mount;
struct jsonl_limits;

/* Checks that this content is one JSON document. 0, a verdict with *at, or -errno. Empty
 * content is JSONL_BLANK. */
int fs_document_check(struct fs_mount *m, const struct jsonl_limits *lim, int fd,
		      off_t *at) jsonl_must_check;

#endif
