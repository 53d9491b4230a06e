/* SPDX-License-Identifier: MIT */
/* Lists the archive and the quarantine for clients that cannot list the directories. On
 * the client's thread. */
#ifndef FS_CONTROL_ENTRIES_H
#define FS_CONTROL_ENTRIES_H

#include <limits.h>
#include <stdbool.h>

#include "base/error.h"

struct fs_control_request;
struct fs_mount;

/* An entry of the quarantine, by the index. */
struct fs_quarantined {
	char path[PATH_MAX]; /* of the file it is of, from the vault's root; "": unknown */
	bool restored;	     /* it was appended again */
};

/* Returns true when an entry of the archive or of the quarantine may have this name (or NULL). */
bool fs_control_is_entry_name(const char *name);
/* Sends the client packets {"entries": [NAME...], "index": [LINE...]} of the part
 * ("archive" or "quarantine") that the request names; the lines are those of the
 * quarantine's index. Keepers (control/request.h) get all entries, others those of their
 * own files and their own writes. 0 or -errno. */
int fs_control_entries(struct fs_control_request *r) jsonl_must_check;
/* Looks an entry of the quarantine up. 0 or -errno. */
int fs_control_quarantined(struct fs_mount *m, const char *name,
			   struct fs_quarantined *found) jsonl_must_check;

#endif
