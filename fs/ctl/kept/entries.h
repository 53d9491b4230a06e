/* SPDX-License-Identifier: MIT */
/* Reads the archive or the quarantine of a vault: its directory and the names in it. One
 * thread. */
#ifndef FS_CTL_ENTRIES_H
#define FS_CTL_ENTRIES_H

#include <stdbool.h>

#include "ctl/find/names.h"
#include "ctl/find/vault.h"

struct ctl_entries {
	int dir; /* maybe only for opening entries by name, not for listing */
	/* Users that may not list the directory ask the daemon, which names the entries
	 * that they may see: */
	bool told;
	struct ctl_names names;
	struct ctl_names index; /* lines of the quarantine's index */
};

/* Opens `part` ("archive" or "quarantine") of the state directory, as ctl_vault_state()
 * has opened it. 0 or -errno; pair with _close in any case. */
int ctl_entries_open(struct ctl_entries *e, const struct ctl_vault *v, int state,
		     const char *part) jsonl_must_check;
/* Adds the names of entries for which wanted() (NULL: all) returns not 0, in order. 0 or
 * -errno. */
int ctl_entries_read(const struct ctl_entries *e,
		     int (*wanted)(void *ctx, const char *name), void *ctx,
		     struct ctl_names *names) jsonl_must_check;
void ctl_entries_close(struct ctl_entries *e);
/* Returns true when an entry may have this name. */
bool ctl_entries_is_name(const char *name);
/* Prints why `part` of the vault at `path` could not be read; returns CTL_FAILURE. */
int ctl_entries_unreadable(const char *part, const char *path, int rc);

#endif
