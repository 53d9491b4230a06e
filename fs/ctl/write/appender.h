/* SPDX-License-Identifier: MIT */
/* Appends records to a file, wherever it lies: through libjsonl and its lock where it is
 * bare, by plain O_APPEND writes inside a mount, which does the rest. One thread. */
#ifndef FS_CTL_APPENDER_H
#define FS_CTL_APPENDER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "jsonl.h"

struct ctl_appender {
	struct jsonl_log *log; /* bare; else NULL */
	int fd;		       /* inside a mount */
};

/* Creates the file when there is none. 0 or -errno (-EINVAL: not a regular file). */
int ctl_appender_open(struct ctl_appender *a, const char *path) jsonl_must_check;
/* Opens a name in a directory, which is borrowed. */
int ctl_appender_open_in(struct ctl_appender *a, int dir, const char *name,
			 bool mounted) jsonl_must_check;
/* Appends a record, given without its newline. 0, -errno, or a verdict; on failure
 * nothing of it is in the file, unless ctl_appender_unsure(). */
int ctl_appender_add(struct ctl_appender *a, const void *record,
		     size_t len) jsonl_must_check;
int ctl_appender_sync(struct ctl_appender *a) jsonl_must_check;
/* Closes the file. 0, or -errno about the records that were appended last. */
int ctl_appender_close(struct ctl_appender *a) jsonl_must_check;
/* Returns true when, after ctl_appender_add() has failed, the record may be in the file
 * all the same. A mount with sync=write, or one that died meanwhile, does not say. */
bool ctl_appender_unsure(const struct ctl_appender *a, int code);
/* Explains `code`, and what to do about it. The text is valid until the next call. */
const char *ctl_appender_explain(const char *path, int code);

#endif
