/* SPDX-License-Identifier: MIT */
/* Restores an entry of the quarantine. One thread. */
#ifndef FS_CTL_QUARANTINE_RESTORE_H
#define FS_CTL_QUARANTINE_RESTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "ctl/options.h"

#define CTL_NOT_NOTED \
	"%s: it could not be noted that this is restored: do not restore it again"

struct ctl_restore {
	const char *path, *state, *name;   /* the vault, --state, the entry */
	const char *edited;		   /* a file to append instead; or NULL */
	bool again;			   /* even if it was restored before */
	const struct ctl_options *options; /* what a record is */
};

/* Appends the records of an entry to the file that they were for. An exit code, after
 * messages. */
int ctl_restore(const struct ctl_restore *r);
/* Prints that `done` of so many records are in the file. */
void ctl_restored(const char *shown, uint64_t done, uint64_t records, bool all);

#endif
