/* SPDX-License-Identifier: MIT */
/* Retries requests that meet a lease (fcntl(2), F_SETLEASE) on a backing file: the
 * lease's holder, who owns the file, may keep everybody waiting for the kernel's
 * lease-break-time. The pool tries again, so that no worker waits. */
#ifndef FS_OPS_LEASED_H
#define FS_OPS_LEASED_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fuse.h"
#include "vault/deferred.h"

struct fs_leased {
	struct fs_job job; /* leased.c's */
	/* 0, or -errno: -EWOULDBLOCK while there is a lease. */
	int (*attempt)(struct fs_leased *l);
	void (*answer)(struct fs_leased *l, int rc);
	fuse_req_t req;
	fuse_ino_t ino;
	struct fuse_file_info fi;
	/* Of a setattr: */
	struct stat attr;
	int to_set;
};

/* Queues more attempts after one that met a lease, until one succeeds, the program is
 * interrupted, or the kernel must have ended the lease; then the request is answered.
 * Takes a copy. False: the caller answers. */
bool fs_leased_park(const struct fs_leased *l) jsonl_must_check;

#endif
