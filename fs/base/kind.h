/* SPDX-License-Identifier: MIT */
/* Describes the kinds of file systems that the daemon knows. Any thread. */
#ifndef FS_BASE_KIND_H
#define FS_BASE_KIND_H

#include <stdbool.h>
#include <sys/statfs.h>

struct fs_kind {
	/* on this machine alone: close(2) writes nothing and reports nothing */
	bool local;
	bool keeps_back; /* blocks may be kept back for root, or a user */
	/* Metadata reaches the disk in the order in which it was changed; with `journal`
	 * only if the file system has a journal. */
	bool ordered, journal;
	bool stacked; /* lies on other file systems */
	bool fuse;    /* a daemon answers for it, perhaps never */
};

/* Never returns NULL. All members are false for an unknown kind. */
const struct fs_kind *fs_kind_of(const struct statfs *st);

#endif
