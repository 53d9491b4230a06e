/* What the public functions share. Any thread. */
#ifndef JSONL_INTERNAL_H
#define JSONL_INTERNAL_H

#include <limits.h>
#include <stdbool.h>

#include "error.h"

#define JSONL_PROGRAM_RECORD (16u << 20) /* bytes, newline counted */
#define JSONL_PROGRAM_DEPTH  128
#define JSONL_WAIT_MS	     5000 /* for a lock that another program holds */
#define JSONL_PAUSE_MS	     2	  /* between two attempts */

/* "NAME.WHAT-20261125T041500Z.NANOSECONDS", NAME shortened when it is long. */
void jsonl_stamped_name(char to[NAME_MAX + 1], const char *name, const char *what);
/* Opens the directory that `path` lies in; its last component goes to `name`. The
 * descriptor, or -errno. */
int jsonl_open_directory(const char *path, char name[NAME_MAX + 1]) jsonl_must_check;
/* Does the name stand for the open file, still? */
bool jsonl_is_named(int fd, int dir_fd, const char *name);
/* Is an attempt that gave rc to be made again? Only after -EAGAIN, and until JSONL_WAIT_MS
 * are over: then after a pause. *waited begins with 0 milliseconds. */
bool jsonl_try_again(int rc, int *waited);

#endif
