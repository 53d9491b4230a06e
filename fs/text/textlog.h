/* SPDX-License-Identifier: MIT */
/* Serves files of class text: logs of any text that programs append to. What a handle
 * opened with O_APPEND writes is staged (stage.h) until the process that opened it
 * closes its last descriptor of it, or the handle is gone, and is then appended as one
 * block. All else is as for a plain file. Readers are direct: a cache beside a writer
 * shows NULs. */
#ifndef FS_TEXT_TEXTLOG_H
#define FS_TEXT_TEXTLOG_H

#include "base/error.h"
#include "base/fuse.h"
#include "tree/classes.h"

struct fs_inode;
struct fs_mount;

/* Opens a file for appending; calls fs_plain_open for any other handle. Takes `fd` over.
 * `created_in`: as for fs_log_open. 0 or -errno. */
int fs_text_open(fuse_req_t req, struct fs_inode *i, int fd, struct fuse_file_info *fi,
		 struct fs_inode *created_in) jsonl_must_check;
extern const struct fs_class_ops fs_text_class;

#endif
