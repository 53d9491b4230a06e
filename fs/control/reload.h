/* SPDX-License-Identifier: MIT */
/* Reads the configuration file again while the mount is there. Only settings by pattern
 * change (config.h: jsonl_config_reload), and only for files that are opened afterwards:
 * open handles keep their settings. m->vault.config stays that of the mount command;
 * fs_config_get returns the present one.
 *
 * A file may get another class. The node that the kernel knows is of the old one, so each
 * node remembers after which reload its class was found; an older node answers ESTALE to
 * OPEN, and the kernel looks the name up and finds the node of the new class. */
#ifndef FS_CONTROL_RELOAD_H
#define FS_CONTROL_RELOAD_H

#include <stdbool.h>

#include "base/error.h"

struct fs_mount;

/* Remembers where the configuration file is, in case the mount hides it. Before the
 * mount, one thread. 0 or -errno. */
int fs_reload_init(struct fs_mount *m) jsonl_must_check;
/* Allows reloads from now on. Reloads if one was asked for already, or with `now`. */
void fs_reload_start(struct fs_mount *m, bool now);
/* Forbids reloads; waits for one that is under way. */
void fs_reload_stop(struct fs_mount *m);
void fs_reload_deinit(struct fs_mount *m);
/* Reloads and logs it. 0; -errno with nothing changed, -EOPNOTSUPP without a
 * configuration file. *error: the reason; *kept: the settings that take a new mount
 * (either may be NULL afterwards; both to be freed). Any thread but one that serves
 * requests. */
int fs_reload(struct fs_mount *m, char **kept, char **error) jsonl_must_check;

#endif
