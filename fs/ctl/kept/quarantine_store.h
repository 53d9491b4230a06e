/* SPDX-License-Identifier: MIT */
/* Opens the quarantine of a vault: its entries, and what the index says about them. One
 * thread. */
#ifndef FS_CTL_QUARANTINE_STORE_H
#define FS_CTL_QUARANTINE_STORE_H

#include "ctl/kept/entries.h"
#include "ctl/find/vault.h"

struct ctl_store_entry {
	const char *file;	   /* points into line */
	struct jsonl_report *line; /* of the index */
};

struct ctl_store {
	struct ctl_vault vault;
	int state_fd;
	struct ctl_entries files;
	struct ctl_store_entry *entries; /* sorted by file; without event "joined" */
	size_t count, cap;
};

/* Opens the quarantine of the vault that `path` lies in; `state` as in ctl_vault_state().
 * 0, or an exit code after a message. Pair with _close if 0. */
int ctl_store_open(struct ctl_store *s, const char *path, const char *state);
void ctl_store_close(struct ctl_store *s);
/* Returns the first line of the index about a file, or NULL. *restored is the time of its
 * last restore, or NULL; *events counts the pieces that were set aside in it. */
const struct jsonl_report *ctl_store_line(const struct ctl_store *s, const char *file,
					  const char **restored, uint64_t *events);

/* Opens an entry for reading. The descriptor, or -errno after a message. */
int ctl_store_open_entry(const struct ctl_store *s, const char *name) jsonl_must_check;

#endif
