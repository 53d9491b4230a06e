/* SPDX-License-Identifier: MIT */
/* Removes entries of the archive or the quarantine for good: by the daemon or, where
 * there is none, here. One thread. */
#ifndef FS_CTL_DROP_H
#define FS_CTL_DROP_H

#include "ctl/kept/selection.h"

struct ctl_drop {
	const char *part; /* "archive" or "quarantine" */
	const char *path; /* of the vault, as the user calls it */
	const struct ctl_vault *vault;
	const struct ctl_entries *entries;
	const struct ctl_selection *selection; /* which entries, without names */
	char **names;
	int count; /* of names */
};

/* Returns the exit code, after messages. */
int ctl_drop(const struct ctl_drop *d);

#endif
