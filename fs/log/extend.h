/* SPDX-License-Identifier: MIT */
/* rewrite=extend: appends the rest of new content that begins with the recorded content.
 */
#ifndef FS_LOG_EXTEND_H
#define FS_LOG_EXTEND_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_log_handle;

/* Appends what the handle's staged content has beyond the log. 0; a verdict, with *at,
 * where the content is wrong; -EPERM: it does not begin with the recorded content;
 * -EAGAIN, -errno. Under the lock of the staged content. */
int fs_rewrite_extend(struct fs_log_handle *g, off_t *at) jsonl_must_check;
/* Returns true when content that cannot become the log's as it is could still do so, by
 * bytes that its program writes behind it. `code`: a verdict about the byte at `at`, or
 * -errno; `why`: its reason when that is not the content. Under staged.lock. */
bool fs_rewrite_may_go_on(struct fs_log_handle *g, int code, off_t at, const char *why);

#endif
