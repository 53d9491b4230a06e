/* SPDX-License-Identifier: MIT */
/* Gives a file new content as a whole, on a bare vault or in no vault at all: under its
 * lock, while nobody has it open for writing, with the old content kept; the new file
 * takes over mode, owner, ACL, attributes and times. Whatever happens, the name stands
 * for the old content or for the new one. One file at a time, one thread. */
#ifndef FS_CTL_REWRITE_H
#define FS_CTL_REWRITE_H

#include <stdbool.h>

#include "ctl/repair/guard.h"
#include "ctl/repair/repair_store.h"
#include "file/replace.h"

struct ctl_rewrite {
	/* From the caller: its first fields are set. */
	struct repair_store store;
	bool mounted; /* a jsonlfs is: the kernel may cache its names */
	/* Writes the new content to `replace`. 0, -errno or a verdict; if not 0 nothing
	 * is changed. */
	int (*fill)(struct ctl_rewrite *w);
	/* Filled in: */
	struct ctl_guard guard;
	struct jsonl_replace replace;
	int new_fd; /* the new file, locked, for reading */
	struct stat new_as_made;
};

/* Rewrites the file. 0; -EBUSY: somebody writes to it; -EWOULDBLOCK: somebody holds its
 * lock; -ESTALE: it changed meanwhile; -EMLINK; what fill() returned; -errno. If not 0
 * nothing was changed, or the original was put back, unless ctl_rewrite_unsynced() says
 * otherwise. */
int ctl_rewrite(struct ctl_rewrite *w) jsonl_must_check;
/* Returns true after a failure when the new content is in place all the same; the old one
 * is kept. */
bool ctl_rewrite_unsynced(const struct ctl_rewrite *w);
#define CTL_REWRITE_UNSYNCED                                                             \
	"the new content is in place, and the old is kept, but after a power cut the "   \
	"old may be there again: do not do this once more, look at the kernel's log"
/* Returns the path where people find the old content afterwards, to be freed; NULL out of
 * memory. `shown` is the file, `root` the vault's, `state` its state directory if that is
 * elsewhere. */
char *ctl_rewrite_kept(const struct ctl_rewrite *w, const char *shown, const char *root,
		       const char *state);
/* Explains a failure, and what to do. The text is valid until the next call. */
const char *ctl_rewrite_explain(const char *path, int rc);

#endif
