/* SPDX-License-Identifier: MIT */
/* Resolves paths of the command line and opens files below a directory, safely for root:
 * users can put links, FIFOs and state directories of their own into a vault, so no
 * command follows a symbolic link inside one. One thread. */
#ifndef FS_CTL_BENEATH_H
#define FS_CTL_BENEATH_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "ctl/find/mounts.h"

struct ctl_spot {
	int dir;		 /* the directory that the name lies in, O_PATH */
	char name[NAME_MAX + 1]; /* "." when the path is a directory */
	bool missing;		 /* there is no such name, yet */
	/* The vault, as far as directories tell (a mount is looked up by its id): */
	int root;     /* the directory with .jsonlfs, O_PATH; -1: there is none */
	bool trusted; /* .jsonlfs is root's or ours, and nobody else can write to it */
	uid_t owner;  /* of .jsonlfs */
};

enum ctl_links {
	CTL_LINKS_OUTSIDE, /* links outside of vaults are followed */
	CTL_LINKS_OWN,	   /* only those owned by root or by us */
};

/* Finds what `path` means. The nearest directory with a trusted .jsonlfs is its vault,
 * else the nearest with one that is not. 0 or -errno (-ELOOP: a symbolic link inside a
 * vault). Pair with _close if 0. */
int ctl_spot_find(struct ctl_spot *s, const char *path, const struct ctl_mounts *mounts,
		  enum ctl_links links) jsonl_must_check;
void ctl_spot_close(struct ctl_spot *s);

/* Opens `path` below `dir`, of any length, following no link; never waits for the other
 * end of a FIFO. The descriptor or -errno (-EXDEV: the path would lead out). */
int ctl_open_beneath(int dir, const char *path, int flags, mode_t mode) jsonl_must_check;
/* Opens a regular file in the same way: -EINVAL for anything else. */
int ctl_open_file(int dir, const char *path, int flags, mode_t mode) jsonl_must_check;
/* Opens the directory that `path` lies in, below `dir`, and finds its last name. The
 * descriptor or -errno. */
int ctl_open_parent(int dir, const char *path, const char **name) jsonl_must_check;
/* Returns true when the file behind `fd` is root's or the caller's, and nobody else can
 * write to it. */
bool ctl_is_trusted(int fd, uid_t *owner);

#endif
