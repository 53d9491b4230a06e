/* Finds the governed files below a directory, in the order of their names: never through
 * a symbolic link, never into .jsonlfs or .git. One thread. */
#ifndef FS_CTL_WALK_H
#define FS_CTL_WALK_H

#include <sys/stat.h>

#include "policy.h"

struct ctl_walk {
	const struct jsonl_policy *policy;
	bool every;   /* not only governed files */
	bool shallow; /* this directory, none below */
	/* A governed file: `name` in directory `dir`; `shown` is the path for people,
	 * `path` the one that the policy sees. Not 0 ends the walk. */
	int (*file)(void *ctx, int dir, const char *name, const char *shown,
		    const char *path, const struct stat *st);
	/* What could not be looked at; the walk goes on. */
	void (*error)(void *ctx, const char *shown, int code);
	void *ctx;
};

/* Walks `path`, a directory; `prefix` is what the policy sees before the names below it.
 * 0, -errno of `path` itself, or what file() returned. */
int ctl_walk(const struct ctl_walk *w, const char *path,
	     const char *prefix) jsonl_must_check;

#endif
