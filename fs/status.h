/* The texts of status.json and writers.json: one JSON document each, a snapshot made when
 * the file is opened. Any thread; takes only leaf locks. */
#ifndef FS_STATUS_H
#define FS_STATUS_H

#include "fs.h"

/* Counters, limits and options in effect; nothing that a user may not know of others.
 * NULL out of memory; to be freed. */
char *fs_status_text(struct fs_mount *m);
/* Programs and the files they append to: of this uid alone, or of everybody. NULL out of
 * memory; to be freed. */
char *fs_status_writers_text(struct fs_mount *m, uid_t uid, bool everybody);

#endif
