/* The control socket of a running mount: how jsonlfsctl asks the daemon for what must be
 * done by it. A SOCK_SEQPACKET socket in /run/jsonlfs (root's mounts), in
 * $XDG_RUNTIME_DIR/jsonlfs or /tmp/jsonlfs-UID (others'), named after the vault's root
 * directory: DEVICE-INODE. Not in the state directory, because a socket cannot be
 * connected to through a FUSE mount, and a mount over itself hides the directory below.
 * status.json tells the path, for who sees the mount and not the vault.
 *
 * One request a connection: a packet with one JSON object, {"verb": NAME, ...}, and file
 * descriptors where the verb takes them (SCM_RIGHTS); one packet comes back, {"error":
 * ERRNO, ...}. "watch" alone is answered by packets without end. Who may do what is
 * decided by the peer's credentials, as the kernel tells them. Every client has a thread;
 * their number is bounded, for each uid too, and so are the size of a request and the
 * time that a client may take over one: nothing here can hold the mount up.
 *
 * A verb runs on its client's thread and may take any lock as a worker does, but may not
 * touch the mount itself. */
#ifndef FS_CONTROL_H
#define FS_CONTROL_H

#include "fs.h"

struct jsonl_report;

#define FS_CONTROL_PACKET  65536 /* bytes of a request or answer */
#define FS_CONTROL_CLIENTS 32
#define FS_CONTROL_FDS	   2 /* that a request may bring */

struct fs_control_request {
	struct fs_mount *m;
	pid_t pid;
	uid_t uid;
	bool owner; /* root, or whose mount it is */
	const struct jsonl_report *args;
	int fds[FS_CONTROL_FDS]; /* -1: none; closed by the caller of the verb */
	struct jsonl_report *reply;
};

/* Makes the socket and starts to listen. Never fails the mount: without a socket it logs
 * why. Called when the mount is there. */
void fs_control_start(struct fs_mount *m);
/* No more requests; waits for the verbs that are under way. */
void fs_control_stop(struct fs_mount *m);
/* The path of the socket, "" when there is none. */
const char *fs_control_path(const struct fs_mount *m);
/* Is the mount about to end? What takes long looks here. */
bool fs_control_stopping(const struct fs_mount *m);

/* ---- control_verbs.c ---- */
/* Carries a request out: 0 or -errno, or a verdict; adds to r->reply. */
int fs_control_run(struct fs_control_request *r, const char *verb);

/* ---- control_events.c: log lines as they come, for `watch` ---- */
void fs_control_events_init(void);
/* Sends them to `fd` until the peer goes, or has not taken one for too long, or
 * fs_control_events_end was called. */
void fs_control_events_follow(int fd);
void fs_control_events_end(void);

#endif
