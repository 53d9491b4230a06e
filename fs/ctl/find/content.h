/* SPDX-License-Identifier: MIT */
/* Holds new content of a file while it is made, in a file without a name, so that
 * nothing is left of it whatever happens. One thread. */
#ifndef FS_CTL_CONTENT_H
#define FS_CTL_CONTENT_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "record/frame.h"

/* Opens an empty one. A descriptor for reading and appending, or -errno. */
int ctl_content_new(void) jsonl_must_check;
/* Adds `len` bytes. 0 or -errno. */
int ctl_content_add_bytes(int to, const void *data, size_t len) jsonl_must_check;
/* Adds all that can be read from `from`, a file or a pipe. 0 or -errno. */
int ctl_content_add(int to, int from) jsonl_must_check;
/* Adds bytes [start, end) of a file. 0 or -errno (-ESTALE: it has less). */
int ctl_content_add_range(int to, int from, off_t start, off_t end) jsonl_must_check;
/* Reads all of a file or a pipe, 256 MiB at most, and puts a NUL behind it. To be freed; NULL
 * after -errno in *rc. */
char *ctl_content_read(int fd, size_t *len, int *rc);
/* Reports on standard error which lines are not records (20 at most), and gives the last
 * record its newline. 0, JSONL_UNKNOWN_TAIL when there are such lines, -errno. */
int ctl_content_judge(int fd, const struct jsonl_limits *limits,
		      uint64_t *records) jsonl_must_check;
/* Compares the first `len` bytes: 1 they are the same, 0 or -errno. */
int ctl_content_equals(int a, int b, off_t len) jsonl_must_check;
/* Finds where line `number` (from 1) begins, and where it ends, behind its newline. 0;
 * -ENOENT: there is none; or -errno. */
int ctl_content_line(int fd, uint64_t number, off_t *start, off_t *end) jsonl_must_check;

#endif
