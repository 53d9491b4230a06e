/* SPDX-License-Identifier: MIT */
/* The verb "archive-restore", for who keeps the vault: entries that he could not have read are
 * put back by the daemon, with their owner and mode, so that he still cannot. No locks; a thread
 * of the control socket. */
#ifndef FS_CONTROL_RESTORE_H
#define FS_CONTROL_RESTORE_H

#include "base/error.h"

struct fs_control_request;

/* Puts the entry that the request names back where it was; it is kept. 0; -EEXIST: something is
 * there; -EINVAL: the name does not say where; a verdict: not all of its lines are records;
 * -errno. */
int fs_control_archive_restore(struct fs_control_request *r) jsonl_must_check;

#endif
