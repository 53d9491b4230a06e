/* SPDX-License-Identifier: MIT */
/* Finds symbolic links that lead out of a vault. Any thread. */
#ifndef FS_BASE_LINKS_H
#define FS_BASE_LINKS_H

#include <stdbool.h>
#include <sys/types.h>

/* Counts the directories above a file. `path`: from the vault's root, without a slash at
 * its beginning. */
size_t fs_link_depth(const char *path);
/* Returns true when a link with this target, `depth` directories below the vault's root,
 * could lead out of the vault: when the target is absolute, has ".." behind another name
 * (which may be a link itself), or begins with more ".." than there are directories above
 * it. */
bool fs_link_leads_out(size_t depth, const char *target);

#endif
