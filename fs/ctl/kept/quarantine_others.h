/* SPDX-License-Identifier: MIT */
/* Restoring of entries that the caller cannot read, by the daemon (control/restore.h): whoever
 * keeps the vault may have them restored, and still does not see them. One thread. */
#ifndef FS_CTL_QUARANTINE_OTHERS_H
#define FS_CTL_QUARANTINE_OTHERS_H

#include <stdbool.h>

struct ctl_restore;
struct ctl_store;

/* Returns true when the caller cannot read the entry, and a daemon may know better. */
bool ctl_is_for_daemon(const struct ctl_restore *r, const struct ctl_store *s);
/* An exit code, after messages. */
int ctl_restore_by_daemon(const struct ctl_restore *r, const struct ctl_store *s);

#endif
