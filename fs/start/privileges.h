/* SPDX-License-Identifier: MIT */
/* Sets limits, signals and privileges of the serving process, and forks it from the mount
 * command. */
#ifndef FS_START_PRIVILEGES_H
#define FS_START_PRIVILEGES_H

#include <stdbool.h>

struct fs_mount;
struct fuse_session;

/* Closes inherited descriptors, and opens /dev/null in place of standard descriptors that
 * the caller had closed. Call it first in main: a file that is opened as descriptor 2
 * would receive messages. */
void fs_daemon_descriptors(void);
/* Sets limits, umask, signal dispositions and OOM score, which must not be inherited. */
void fs_daemon_limits(void);
/* Forks. The parent waits until the child reports, asks the mount point itself whether
 * the mount works, and exits. Returns in the child alone, with the pipe to report on. */
int fs_daemon_fork(const char *mountpoint, int *report);
/* Tells the parent that requests are being served from now on; leaves the terminal and
 * the directory. */
void fs_daemon_ready(int *report);
/* Drops privileges that serving does not need. Call it before any thread is started. */
void fs_daemon_privileges(const struct fs_mount *m);
/* Blocks SIGTERM, SIGINT and SIGHUP, and no others, in all threads, and starts a thread
 * that waits for them and ends the session or reloads the configuration. */
int fs_daemon_signals(struct fs_mount *m);
/* Returns true when this signal, sent by another process, asks to reload the
 * configuration. Else it ends the mount. */
bool fs_daemon_reloads(const struct fs_mount *m, int signal);
/* Lets signals no longer interrupt the calling thread: the session has ended. Returns the
 * signal that ended it, or 0. */
int fs_daemon_signals_end(void);
/* Returns true when the connection is gone (unmounted or aborted), so that no request
 * comes any more. */
bool fs_daemon_severed(struct fuse_session *se);
/* Calls fs_mount_drain, and aborts the connection if that takes too long: a thread of
 * the daemon may be in a call into the kernel that waits for a request which nobody
 * serves any more. `device`: as for fs_mountpoint_abort. */
void fs_daemon_drain(struct fs_mount *m, const char *device);

#endif
