/* SPDX-License-Identifier: MIT */
/* Makes the text of status.json: one JSON document, a snapshot of when the file is
 * opened. Any thread; takes only leaf locks. */
#ifndef FS_VIRTUAL_STATUS_H
#define FS_VIRTUAL_STATUS_H

#include <time.h>

struct fs_mount;
struct jsonl_report;

/* Returns counters, limits and options in effect; nothing that a user may not know about
 * others. NULL out of memory; to be freed. */
char *fs_status_text(struct fs_mount *m);
void fs_status_add_time(struct jsonl_report *r, const char *key, time_t when);

#endif
