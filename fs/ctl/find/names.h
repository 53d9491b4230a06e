/* SPDX-License-Identifier: MIT */
/* The names in a directory, in order. One thread. */
#ifndef FS_CTL_NAMES_H
#define FS_CTL_NAMES_H

#include <stddef.h>

#include "base/error.h"

struct ctl_names {
	char **list;
	size_t count, cap;
};

/* Adds the names for which wanted() returns not 0. 0 or -errno; pair with _free in any
 * case. */
int ctl_names_read(struct ctl_names *n, int dir,
		   int (*wanted)(void *ctx, const char *name, unsigned char type),
		   void *ctx) jsonl_must_check;
/* Adds a copy of one. 0 or -errno. */
int ctl_names_add(struct ctl_names *n, const char *name) jsonl_must_check;
/* Puts them in order, each once. */
void ctl_names_sort(struct ctl_names *n);
void ctl_names_free(struct ctl_names *n);

#endif
