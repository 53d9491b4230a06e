/* SPDX-License-Identifier: MIT */
/* Lists the archive and the quarantine for clients that cannot list the directories. On
 * the client's thread. */
#ifndef FS_CONTROL_ENTRIES_H
#define FS_CONTROL_ENTRIES_H

struct fs_control_request;

/* Sends the client packets {"entries": [NAME...], "index": [LINE...]} of the part
 * ("archive" or "quarantine") that the request names; the lines are those of the
 * quarantine's index. Keepers (control/request.h) get all entries, others those of their
 * own files and their own writes. 0 or -errno. */
int fs_control_entries(struct fs_control_request *r);

#endif
