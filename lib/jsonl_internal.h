/* SPDX-License-Identifier: MIT */
/* Shares helpers between the public functions. Any thread. */
#ifndef JSONL_INTERNAL_H
#define JSONL_INTERNAL_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

#define JSONL_PROGRAM_RECORD (16u << 20) /* bytes, newline counted */
#define JSONL_PROGRAM_DEPTH  128
#define JSONL_WAIT_MS	     5000 /* for a lock that another program holds */
#define JSONL_PAUSE_MS	     2	  /* between two attempts */

/* Makes the name "NAME.WHAT-20261125T041500Z.NANOSECONDS"; a long NAME is shortened. */
void jsonl_stamped_name(char to[NAME_MAX + 1], const char *name, const char *what);
/* Opens the directory of `path`; `name`: the last component. Returns a descriptor or -errno. */
int jsonl_open_directory(const char *path, char name[NAME_MAX + 1]) jsonl_must_check;
struct jsonl_log;
/* jsonl_open(), of a name in a directory, which is taken over in any case: follows no
 * symbolic link, also when the name is looked up anew. 0 or -errno (-ELOOP; -EINVAL: not a
 * regular file). */
int jsonl_open_in(int dir_fd, const char *name, mode_t mode,
		  struct jsonl_log **log) jsonl_must_check;
/* Returns true, after a pause, when an attempt that returned `rc` should be repeated: after -EAGAIN, until
 * JSONL_WAIT_MS are over. *waited: milliseconds so far, 0 before the first call. */
bool jsonl_try_again(int rc, int *waited);

#endif
