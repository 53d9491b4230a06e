/* SPDX-License-Identifier: MIT */
/* Decides which file a handle reads: the present log, or the version that it opened, when
 * another file has taken the place of that one since (log/replace.c). A line that is read
 * in pieces comes from one of the two, and not half from each. Any thread. */
#ifndef FS_LOG_VERSION_H
#define FS_LOG_VERSION_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"
#include "log/read_by.h"

struct fs_handle;
struct fs_log_version;
struct fs_openlog;
struct fs_vault;

/* State of one handle that reads. */
struct fs_reading {
	struct fs_log_version *_Atomic version; /* NULL: the present log */
	struct fs_read_end end;
};

/* Makes a version of the present log, whose file is about to be replaced. Holds a
 * descriptor of that file. Pair with fs_version_put. 0 or -errno. */
int fs_version_new(struct fs_openlog *s,
		   struct fs_log_version **version) jsonl_must_check;
/* Gives up one reference; the last one closes the file. NULL is allowed. */
void fs_version_put(struct fs_log_version *v);
/* Returns -1 if it is not kept. */
int fs_version_fd(const struct fs_log_version *v);
/* Its length, as readers saw it. */
off_t fs_version_end(const struct fs_log_version *v);

/* Makes the handle of this user stay with the version; the first such handle pays for the
 * descriptor. If that user has too many open, reads of the handle get ESTALE from then
 * on. False: it stays with an earlier version already. */
bool fs_reading_stay(struct fs_reading *r, struct fs_log_version *v,
		     struct fs_vault *vault, uid_t uid);
/* Returns true when the handle `other` stays with the same version (fs_handle_ops.join).
 */
bool fs_reading_join(struct fs_reading *r, struct fs_handle *other);
/* Lets the handle read the present log from now on. */
void fs_reading_go_over(struct fs_reading *r);
/* Returns the version that the handle stays with, for fs_version_put; or NULL. */
struct fs_log_version *fs_reading_hold(struct fs_reading *r);
/* Fills in the attributes of that version; false: the handle is on the present log. */
bool fs_reading_stat(struct fs_reading *r, struct stat *st);

#endif
