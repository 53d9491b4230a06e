/* SPDX-License-Identifier: MIT */
/* Remembers which process has renamed a log. Any thread. */
#ifndef FS_LOG_RENAMED_H
#define FS_LOG_RENAMED_H

#include <stdbool.h>
#include <sys/types.h>

struct fs_mount;
struct fs_renaming;

/* Notes a successful rename of a regular file. A process that renames a log away rotates
 * it, and goes on in the next file of that name; a process that puts a file in the place
 * of a log has seen that file. */
void fs_renamed(struct fs_renaming *r);
/* Returns true when the process has renamed the log at `path` (in the vault) away. False
 * when that is forgotten (see base/seen.h), or not known. */
bool fs_renamed_by(struct fs_mount *m, const char *path, pid_t pid);

#endif
