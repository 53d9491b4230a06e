/* SPDX-License-Identifier: MIT */
/* Tells one content of a file from another: number, size, time and generation. Any
 * thread, no lock. */
#ifndef FS_BASE_VERSION_H
#define FS_BASE_VERSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_version {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime;
	uint64_t generation; /* which file of this number */
};

/* statefile_lost.c. Of `name` in `dir`, or with "" of the descriptor itself. */
uint64_t fs_version_generation(int dir, const char *name);
/* Finds which content is there: of `name` in `dir`, or with "" of the descriptor itself;
 * *st comes with it. 0 or -errno. */
int fs_version_of(int dir, const char *name, struct fs_version *v,
		  struct stat *st) jsonl_must_check;
bool fs_version_same(const struct fs_version *a, const struct fs_version *b);

#endif
