/* SPDX-License-Identifier: MIT */
/* Reads requests from the kernel and has them done. */
#ifndef FS_START_LOOP_H
#define FS_START_LOOP_H

struct fuse_session;

/* Serves until the file system is unmounted or fuse_session_exit was called and a signal
 * interrupts the calling thread. At most `most` requests are in hand at a time. Afterwards
 * no thread of the loop is left. Returns 0 or -errno, as fuse_session_loop_mt does. Once in
 * a process. */
int fs_loop(struct fuse_session *se, unsigned most);

#endif
