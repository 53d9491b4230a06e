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

/* Returns the generation of `name` in `dir`, or with "" of the descriptor itself; 0: not
 * known. */
uint64_t fs_version_generation(int dir, const char *name);
/* Finds the version of `name` in `dir`, or with "" of the descriptor itself, and its
 * attributes. 0 or -errno. */
int fs_version_of(int dir, const char *name, struct fs_version *v,
		  struct stat *st) jsonl_must_check;
bool fs_version_same(const struct fs_version *a, const struct fs_version *b);

#endif
