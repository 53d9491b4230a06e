/* SPDX-License-Identifier: MIT */
/* The verbs "archive-restore" and "quarantine-restore", for the owner of the
 * vault (control/request.h): what he cannot read goes back to the file that it is of, and
 * nowhere else, with owner and mode, so that he still cannot read it. On the client's
 * thread. */
#ifndef FS_CONTROL_RESTORE_H
#define FS_CONTROL_RESTORE_H

#include "base/error.h"

struct fs_control_request;

/* Puts the entry that the request names back where it was; it is kept. 0; -EEXIST:
 * something is there; -EINVAL: the name does not say where; a verdict: not all of its
 * lines are records; -errno. */
int fs_control_archive_restore(struct fs_control_request *r) jsonl_must_check;
/* Appends the records of the entry "name" to the log that it is of, or makes the log
 * anew; the entry is kept. Replies {"path", "records", "noted": false when the index does
 * not say so}. 0; -EALREADY: it was restored before, and "again" is not set; -EINVAL: the
 * index does not name a log; -EACCES: more people read the log than the entry; a verdict:
 * not all of its lines are records; -errno. */
int fs_control_quarantine_restore(struct fs_control_request *r) jsonl_must_check;

#endif
