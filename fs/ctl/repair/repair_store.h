/* SPDX-License-Identifier: MIT */
/* Stores the old file and the lines that `jsonlfsctl repair` takes out of it: in a vault
 * in the archive and the quarantine, elsewhere in files beside it. One file at a time,
 * one thread. */
#ifndef FS_CTL_REPAIR_STORE_H
#define FS_CTL_REPAIR_STORE_H

#include <limits.h>
#include <stdbool.h>

#include "file/replace.h"
#include "quarantine/quarantine.h"
#include "tools/repair.h"

struct repair_store {
	/* From the caller, borrowed: */
	int state_fd;			     /* -1: not in a vault */
	struct jsonl_quarantine *quarantine; /* NULL: not in a vault */
	int dir_fd, old_fd;
	const char *name; /* in dir_fd */
	const char *path; /* from the vault's root */
	/* Filled in: */
	char stamp[48];
	char kept[NAME_MAX + 1]; /* the original's new name, "" until it has one */
	char bad[NAME_MAX + 1];	 /* the file with the bad lines, outside of vaults */
	int archive_fd;
	bool linked; /* the original is the old file itself, not a copy */
	struct jsonl_replace bad_file;
};

/* Begins; the fields from the caller are set. */
void repair_store_begin(struct repair_store *s);
/* Keeps a line that is not a record. 0 or -errno. */
int repair_store_bad(struct repair_store *s, const struct jsonl_repair_change *c,
		     const void *data) jsonl_must_check;
/* Makes the kept lines durable, and keeps the original, durably. 0 or -errno. */
int repair_store_settle(struct repair_store *s) jsonl_must_check;
/* Removes what was kept, after a failure that changed nothing. Bytes in the quarantine
 * stay. */
void repair_store_undo(struct repair_store *s);
/* Puts the original back in its place, over what replaced it. Only when linked. */
int repair_store_put_back(struct repair_store *s) jsonl_must_check;
void repair_store_end(struct repair_store *s);

#endif
