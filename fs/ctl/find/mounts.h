/* SPDX-License-Identifier: MIT */
/* Lists the mounts of jsonlfs from the kernel's table: which device, mounted where, by
 * which user. Unlike what a daemon or a directory claims, that is certain. One
 * thread. */
#ifndef FS_CTL_MOUNTS_H
#define FS_CTL_MOUNTS_H

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

struct ctl_mount {
	unsigned long id;
	dev_t dev;
	uid_t owner; /* the user who mounted it, whose daemon answers for all in it */
	char *root; /* the part of the vault that is mounted: "/", or "/sub" (bind) */
	char *point;  /* where it is mounted */
	char *source; /* the backing directory */
};

/* Zero-initialized is empty. */
struct ctl_mounts {
	struct ctl_mount *list;
	size_t count, cap;
};

/* Reads the table. 0 or -errno; pair with _free in any case. */
int ctl_mounts_read(struct ctl_mounts *m) jsonl_must_check;
void ctl_mounts_free(struct ctl_mounts *m);
/* Returns the mount of jsonlfs that an open file lies in, dead ones too; NULL: it lies in
 * none. */
const struct ctl_mount *ctl_mounts_of(const struct ctl_mounts *m, int fd);
/* Returns a mount of the same vault that shows all of it; NULL: none is visible here. */
const struct ctl_mount *ctl_mounts_whole(const struct ctl_mounts *m,
					 const struct ctl_mount *part);
/* Says why a path in a mount of jsonlfs answers `rc`, and what to do: a sentence to be
 * freed; NULL when the mount is not to blame. */
char *ctl_mounts_explain(const char *path, int rc);

#endif
