/* SPDX-License-Identifier: MIT */
/* Reads and serves requests from the kernel. */
#ifndef FS_START_LOOP_H
#define FS_START_LOOP_H

struct fuse_session;

/* Serves until the file system is unmounted, or fuse_session_exit was called and a
 * signal interrupts the calling thread; at most `most` requests at a time. All threads
 * of the loop have ended then. Returns 0 or -errno, as fuse_session_loop_mt does. Once
 * in a process. */
int fs_loop(struct fuse_session *se, unsigned most);

#endif
