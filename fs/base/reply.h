/* SPDX-License-Identifier: MIT */
/* Answers READ requests, from a buffer that each worker thread keeps, and FSYNC; takes the
 * bytes of WRITE requests. */
#ifndef FS_BASE_REPLY_H
#define FS_BASE_REPLY_H

#include <sys/types.h>

#include "base/fuse.h"

/* Returns how many of `size` bytes at `off` are in a file of this length. */
size_t fs_bytes_there(off_t length, size_t size, off_t off);
/* Reads up to `size` bytes at `off` into the buffer of this thread, which is valid until
 * the thread reads again. Bytes or -errno. */
ssize_t fs_reply_fetch(int fd, size_t size, off_t off, char **bytes);
/* Answers a READ with `n` bytes, or with the error -n. */
void fs_reply_bytes(fuse_req_t req, const char *bytes, ssize_t n);
/* Answers a READ with the bytes at `off`, fewer at the end of the file. */
void fs_reply_read(fuse_req_t req, int fd, size_t size, off_t off);
/* Answers an FSYNC when the file or directory is durable: fsync(2), or fdatasync(2). */
void fs_reply_sync(fuse_req_t req, int fd, int datasync);

/* Returns the number of bytes of a WRITE, which may be smaller than announced, or -errno.
 * *bytes points to them as one piece: into the request, or to *copy, which is to be
 * freed. */
ssize_t fs_request_bytes(struct fuse_bufvec *in, const char **bytes, char **copy);

#endif
