/* Appends records to a file, wherever it lies: through libjsonl and its lock where it is
 * bare, by plain O_APPEND writes inside a mount, which does the rest. One thread. */
#ifndef FS_CTL_APPENDER_H
#define FS_CTL_APPENDER_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "jsonl.h"

struct ctl_appender {
	struct jsonl_log *log; /* bare; else NULL */
	int fd;		       /* inside a mount */
};

/* Creates the file when there is none. 0 or -errno (-EINVAL: not a regular file). */
int ctl_appender_open(struct ctl_appender *a, const char *path) jsonl_must_check;
/* One record, without its newline. 0, -errno, or a verdict; then nothing of it is in the
 * file, unless ctl_appender_unsure(). */
int ctl_appender_add(struct ctl_appender *a, const void *record,
		     size_t len) jsonl_must_check;
int ctl_appender_sync(struct ctl_appender *a) jsonl_must_check;
/* 0 or -errno of what was appended last. */
int ctl_appender_close(struct ctl_appender *a) jsonl_must_check;
/* After ctl_appender_add() has failed: may the record be in the file all the same? A mount
 * with sync=write, or one that died over it, does not say. */
bool ctl_appender_unsure(const struct ctl_appender *a, int code);
/* What `code` means and what to do about it. Static storage, or as jsonl_error_text. */
const char *ctl_appender_explain(int code);

#endif
