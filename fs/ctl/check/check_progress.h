/* SPDX-License-Identifier: MIT */
/* A line that tells how far a long check has come, where standard error is a terminal.
 * One thread. */
#ifndef FS_CTL_CHECK_PROGRESS_H
#define FS_CTL_CHECK_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct check_progress {
	bool terminal, drawn;
	int64_t started, last;	 /* jsonl_now_ms */
	uint64_t expected, done; /* bytes */
};

void check_progress_begin(struct check_progress *p);
/* Erases the line; call it before anything else is printed. */
void check_progress_erase(struct check_progress *p);
/* Adds bytes that were read. `shown`: the file at hand, or NULL. */
void check_progress_add(struct check_progress *p, uint64_t bytes, const char *shown);

#endif
