/* SPDX-License-Identifier: MIT */
/* Finds the governed files below a directory, in the order of their names: never through
 * a symbolic link, never into .jsonlfs or .git. However deep the tree is, few directories
 * are open, and a level takes the memory of its names alone. One thread. */
#ifndef FS_CTL_WALK_H
#define FS_CTL_WALK_H

#include <sys/stat.h>

#include "rules/policy.h"

struct ctl_walk {
	const struct jsonl_policy *policy;
	bool every;   /* all files, not only governed ones */
	bool shallow; /* this directory, not those below */
	/* A governed file: `name` in directory `dir`; `shown` is the path for people,
	 * `path` the one that the policy sees. Not 0 ends the walk. */
	int (*file)(void *ctx, int dir, const char *name, const char *shown,
		    const char *path, const struct stat *st);
	/* A symbolic link, as file(). May be NULL. */
	int (*link)(void *ctx, int dir, const char *name, const char *shown,
		    const char *path);
	/* All files of the directory `shown` have been visited. May be NULL; with it
	 * the files of a directory come before the directories in it. */
	void (*left)(void *ctx, int dir, const char *shown);
	/* Something could not be looked at; the walk goes on. */
	void (*error)(void *ctx, const char *shown, int code);
	void *ctx;
};

/* Walks the open directory `fd`, which is borrowed; `shown` is what people call it,
 * `prefix` what the policy sees before the names in it. 0, -ENOMEM, or what a callback
 * returned. */
int ctl_walk(const struct ctl_walk *w, int fd, const char *shown,
	     const char *prefix) jsonl_must_check;

#endif
