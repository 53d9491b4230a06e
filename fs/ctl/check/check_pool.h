/* SPDX-License-Identifier: MIT */
/* Checks files, and parts of large files, in several threads. Findings are reported in
 * the order in which the files were added, as if there were one. All calls come from one
 * thread, which also reports: a call may take long. Memory and descriptors are bounded
 * by the number of threads. */
#ifndef FS_CTL_CHECK_POOL_H
#define FS_CTL_CHECK_POOL_H

#include "ctl/check/check_report.h"

struct check_pool;

/* `jobs`: threads; 0: one for each processor that this process may use. NULL and a
 * message when there is no memory or no thread. `report` is borrowed. */
struct check_pool *check_pool_new(struct check_report *report, unsigned jobs);
/* Checks the open file `fd`, which is taken over in every case. 0 or -ENOMEM. */
int check_pool_add(struct check_pool *pool, int fd, const char *shown,
		   const struct jsonl_limits *limits) jsonl_must_check;
/* Waits until everything that was added is checked and reported. */
void check_pool_drain(struct check_pool *pool);
/* Drains, ends the threads. */
void check_pool_free(struct check_pool *pool);

#endif
