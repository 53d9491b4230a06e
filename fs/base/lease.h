/* SPDX-License-Identifier: MIT */
/* Asks the kernel whether a file is open for writing. Any thread, no lock. */
#ifndef FS_BASE_LEASE_H
#define FS_BASE_LEASE_H

#include "base/error.h"

/* Returns 1 when any process, also one outside the mount, has the file open for writing,
 * else 0: a read lease shows it (fcntl(2), F_SETLEASE). -errno: it cannot be known here.
 */
int fs_has_writers(int fd) jsonl_must_check;

#endif
