/* SPDX-License-Identifier: MIT */
/* Handles state files that are no document when they are opened, and keeps the last good
 * content for that case. */
#ifndef FS_DOCUMENT_BROKEN_H
#define FS_DOCUMENT_BROKEN_H

#include <sys/stat.h>

#include "base/error.h"

struct fs_inode;
struct fs_mount;
struct jsonl_settings;

/* Checks, before the file is read or changed, that it is a document. One that is not is
 * renamed to NAME.bak-UTCSTAMP, unless a program outside may be in the middle of writing
 * it, and `onbroken` says what replaces it. 0: open it; -ESTALE: look the name up again;
 * -EBADMSG, -errno. */
int fs_document_broken(struct fs_mount *m, struct fs_inode *i,
		       const struct jsonl_settings *settings, int fd,
		       const struct stat *st) jsonl_must_check;
/* Keeps good content for onbroken=last-good. Best effort; a failure is logged. */
void fs_document_keep(struct fs_mount *m, const struct jsonl_settings *settings,
		      const char *path, int fd);

#endif
