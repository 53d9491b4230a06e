/* SPDX-License-Identifier: MIT */
/* Turns what the library reports of a log into lines of the syslog, counters and entries
 * of the quarantine: callbacks of struct jsonl_file_events; `ctx` is the struct
 * fs_openlog. */
#ifndef FS_LOG_TOLD_H
#define FS_LOG_TOLD_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

int fs_told_set_aside(void *ctx, const char *event, int code, const struct iovec *iov, int niov,
		      off_t at, uint64_t offset);
void fs_told_report(void *ctx, const char *event, int code, off_t at, uint64_t len);

#endif
