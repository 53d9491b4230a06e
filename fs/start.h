/* How a mount comes up and goes down, apart from the file system itself: the command line
 * (options.c), what the process is while it serves (process.c), what already sits at the
 * mount point (mountpoint.c), and how it comes back (supervise.c, remount.c). Used by main.c alone. Unless it says otherwise a
 * function prints its own message on stderr and returns an exit code of mount(8), 0 for
 * success; all of them run while the process still has one thread. */
#ifndef FS_START_H
#define FS_START_H

#include "fs.h"

enum fs_exit {
	FS_EXIT_OK = 0,
	FS_EXIT_USAGE = 1,  /* wrong invocation or permissions */
	FS_EXIT_SYSTEM = 2, /* out of memory, cannot fork ... */
	FS_EXIT_BUG = 4,    /* an internal bug */
	FS_EXIT_MOUNT = 32, /* the mount failed */
};

/* ---- options.c ---- */
enum fs_task { FS_TASK_MOUNT, FS_TASK_HELP, FS_TASK_VERSION };

struct fs_options {
	enum fs_task task;
	const char *source;	/* as given, borrowed from argv */
	const char *mountpoint; /* as given, borrowed from argv */
	char *
	    kernel; /* options that libfuse and the kernel understand, escaped; or NULL */
	bool single; /* one worker thread */
	bool helper; /* called by mount(8), as mount.jsonlfs: some letters differ */
	bool fake;   /* helper -f: all but the mount itself */
	bool sloppy; /* helper -s: unknown options are no error */
	bool verbose;
};

/* Fills o and m->config, m->foreground, m->debug (config is initialised by it). */
int fs_options_parse(int argc, char **argv, struct fs_options *o, struct fs_mount *m);
void fs_options_deinit(struct fs_options *o);
void fs_options_help(FILE *to);

/* ---- mountpoint.c ---- */
enum fs_mountpoint { FS_MOUNTPOINT_FREE, FS_MOUNTPOINT_OURS };

/* Canonical path of a directory, to be freed; also of a mount point whose daemon is dead.
 * NULL with errno. */
char *fs_mountpoint_resolve(const char *path);
/* Looks at what is mounted on `mountpoint` (canonical). Dead mounts of ours are cleared
 * (lazily unmounted) on the way. OURS: a live jsonlfs of this source is there. */
int fs_mountpoint_check(const char *mountpoint, const char *fsname,
			enum fs_mountpoint *state);
/* Device number (MAJOR:MINOR) of the topmost mount on this path, "" when there is none;
 * to be freed; NULL out of memory. No message. */
char *fs_mountpoint_device(const char *mountpoint);
/* Cuts the kernel off from us: whoever waits for an answer gets ENOTCONN. For a session
 * that has ended but is held up. `device`: what fs_mountpoint_device said after the
 * mount. */
void fs_mountpoint_abort(const char *mountpoint, const char *device);
/* Two mount commands at the same moment take turns: holds a lock on the directory below
 * the mount until the descriptor is closed. -1 where it cannot be had (not readable, or
 * somebody holds it for more than ten seconds): mounting goes on without. */
int fs_mountpoint_lock(const char *mountpoint);
/* Asks the mounted file system something that only it can answer. 0 or -errno, no
 * message. */
int fs_mountpoint_probe(const char *mountpoint) jsonl_must_check;

/* Is the topmost mount on this path the one of this device, and nobody serves it? */
bool fs_mountpoint_is_dead(const char *mountpoint, const char *device);
/* Lazily unmounts what lies on top there, with fusermount3 where that takes root. 0 or
 * -errno, no message. */
int fs_mountpoint_clear(const char *mountpoint);

/* ---- supervise.c ---- */
/* Forks. The parent stays and starts another daemon whenever one has died; this returns in
 * the daemons alone. The parent keeps nothing open of what the caller gave, hands SIGTERM,
 * SIGINT and SIGHUP on, and ends with the exit code of a daemon that ended in order.
 * `report` is that of fs_process_daemonize, `lock` that of fs_mountpoint_lock. */
int fs_supervise(struct fs_mount *m, int *report, int *lock);
/* A path to the source for fs_mount_init, also when its own leads into a dead mount. */
const char *fs_supervise_source(const struct fs_mount *m);
/* Does this daemon take over from one that has died? */
bool fs_supervise_again(void);
/* Tells the parent that a mount of this device will be in the place of the dead one. */
void fs_supervise_mounting(const char *device);
/* Tells the parent that the dead mount stays below the new one, to be cleared in the end.
 * False: there are too many already; all are to be cleared now. */
bool fs_supervise_bury(void);
/* Tells the parent that the mount of this device is served: whoever dies now dies in the
 * midst of work. Does nothing where there is no parent. */
void fs_supervise_serving(const char *device);

/* ---- remount.c ---- */
/* Is a parent to stay that mounts again? */
bool fs_remount_allowed(const struct fs_mount *m, const struct fs_options *o);
/* Mounts m->se on m->mountpoint in the place of the dead mount there, programs seeing the
 * bare directory at no moment where root mounts and the kernel can do it. */
int fs_remount(struct fs_mount *m, const struct fs_options *o);
/* Unmounts m->se, however it was mounted. `severed`: somebody else has. No exit code. */
void fs_remount_end(struct fs_mount *m, bool severed);

/* ---- bypass.c ---- */
/* Has the programs logged that hold governed files open for writing since before the mount:
 * their descriptors go round it. A thread does it, for which nothing waits. `device`: what
 * fs_mountpoint_device said after the mount. */
void fs_bypass_start(struct fs_mount *m, const char *device);
void fs_bypass_stop(struct fs_mount *m);

/* ---- process.c ---- */
/* Closes what was inherited, and opens /dev/null in place of standard descriptors that
 * the caller had closed. First thing in main: a file that is opened as descriptor 2 would
 * receive messages. */
void fs_process_descriptors(void);
/* Limits, umask, signal dispositions, OOM score: what must not be inherited. */
void fs_process_limits(void);
/* Forks. The parent waits until the child reports, asks the mount point itself whether
 * the mount works, and exits; this returns in the child alone, with the pipe to report
 * on. */
int fs_process_daemonize(const char *mountpoint, int *report);
/* Tells the parent that requests are being served from now on; leaves its terminal and
 * directory. */
void fs_process_ready(int *report);
/* Gives up what serving does not need. Before any thread is started. */
void fs_process_privileges(const struct fs_mount *m);
/* Blocks SIGTERM, SIGINT and SIGHUP, and them alone, in all threads and starts one that
 * waits for them and ends the session, or has the configuration read again. */
int fs_process_signals(struct fs_mount *m);
/* Does this signal, sent by somebody, ask to read the configuration again? Else it ends
 * the mount. */
bool fs_process_reloads(const struct fs_mount *m, int signal);
/* The session has ended: signals no longer interrupt the calling thread. Returns the
 * signal that ended it, or 0. */
int fs_process_signals_end(void);
/* Is the connection gone (unmounted or aborted), so that no request comes any more? */
bool fs_process_severed(struct fuse_session *se);
/* fs_mount_drain, watched: a thread of ours that is within a call into the kernel may
 * wait for a request that nobody serves any more. `device`: as for fs_mountpoint_abort.
 */
void fs_process_drain(struct fs_mount *m, const char *device);

#endif
