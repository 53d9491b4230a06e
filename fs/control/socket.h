/* SPDX-License-Identifier: MIT */
/* Listens on the control socket of a running mount, by which jsonlfsctl asks the daemon.
 * It is a SOCK_SEQPACKET socket in /run/jsonlfs (root's mounts), or in
 * $XDG_RUNTIME_DIR/jsonlfs or /tmp/jsonlfs-UID (others'), named after the vault's root
 * directory: DEVICE-INODE. It is not in the state directory, because a socket cannot be
 * connected to through a FUSE mount, and a mount over itself hides the directory below.
 * status.json has the path, for users that see the mount but not the vault.
 *
 * Each connection carries one request: a packet with one JSON object, {"verb": NAME,
 * ...}, and file descriptors where the verb takes them (SCM_RIGHTS). One packet comes
 * back, {"error": ERRNO, ...}; only "watch" is answered by packets without end. The
 * peer's credentials, which the kernel reports, decide what it may do. Every client has a
 * thread; their number is bounded, for each uid too, and so are the size of a request and
 * the time that a client may take for one: nothing here can hold the mount up.
 *
 * A verb runs on its client's thread and may take any lock as a worker does, but may not
 * access the mount itself. */
#ifndef FS_CONTROL_SOCKET_H
#define FS_CONTROL_SOCKET_H

struct fs_mount;

#define FS_CONTROL_PACKET  65536 /* bytes of a request or answer */
#define FS_CONTROL_CLIENTS 32

/* Makes the socket and starts to listen. Never fails the mount: if there is no socket it
 * logs the reason. Call it when the mount is there. */
void fs_control_start(struct fs_mount *m);
/* Accepts no more requests; waits for the verbs that are under way. */
void fs_control_stop(struct fs_mount *m);

#endif
