/* SPDX-License-Identifier: MIT */
/* Remembers the programs that had logs open for writing before the mount: their writes
 * through these descriptors are not checked. Thread-safe; a leaf lock. */
#ifndef FS_VIRTUAL_BYPASSERS_H
#define FS_VIRTUAL_BYPASSERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct fs_bypasser {
	pid_t pid;
	uid_t uid;
	const char *program, *path;
};

struct fs_bypassers;

/* Returns NULL out of memory. All others accept NULL as a list without entries. */
struct fs_bypassers *fs_bypassers_new(void);
void fs_bypassers_free(struct fs_bypassers *b);
/* Copies both names. False: the same process and path are there already, or there are too
 * many. */
bool fs_bypassers_add(struct fs_bypassers *b, const struct fs_bypasser *one);
/* Calls each() for entries whose process still runs; returns how many there are. */
size_t fs_bypassers_each(struct fs_bypassers *b,
			 void (*each)(void *ctx, const struct fs_bypasser *one),
			 void *ctx);

#endif
