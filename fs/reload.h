/* Reading the configuration file again while the mount is there. Only what a file's
 * pattern decides changes (config.h: jsonl_config_reload), for what is opened from then
 * on: open handles keep their settings. m->config stays what the mount was made with;
 * what holds now is had by fs_reload_config.
 *
 * A file may get another class. The node that the kernel knows is of the old one, so each
 * node remembers as of which reload its class was found; a node that is older answers
 * ESTALE to OPEN, the kernel looks the name up and finds the node of the new class. */
#ifndef FS_RELOAD_H
#define FS_RELOAD_H

#include "fs.h"

/* Remembers where the configuration file lies, should the mount hide it. Before the
 * mount, one thread. 0 or -errno. */
int fs_reload_init(struct fs_mount *m) jsonl_must_check;
/* From now on it can be done; does it if it was asked for already, or `now`. */
void fs_reload_start(struct fs_mount *m, bool now);
/* From now on it cannot; waits for one that is under way. */
void fs_reload_stop(struct fs_mount *m);
void fs_reload_deinit(struct fs_mount *m);

/* Does it, and logs it. 0, or -errno with nothing changed, -EOPNOTSUPP when there is no
 * configuration file. *error says why, *kept what takes a new mount (either may be NULL
 * after the call; both to be freed). Any thread but one that serves requests. */
int fs_reload(struct fs_mount *m, char **kept, char **error) jsonl_must_check;
/* The configuration that holds now, until _put; for reports. */
const struct jsonl_config *fs_reload_config(struct fs_mount *m);
void fs_reload_config_put(struct fs_mount *m);

/* Is the node still of the class that its file has? 0 or -ESTALE. */
int fs_reload_check(struct fs_mount *m, struct fs_inode *i) jsonl_must_check;

#endif
