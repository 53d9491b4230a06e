/* Files of class text: logs of any text that programs append to. What a handle that was
 * opened with O_APPEND writes is staged (stage.h) until the process that opened it closes
 * its last descriptor of it, or the handle is gone, and lands then as one block. All else
 * is as on a plain file. Readers are direct: a cache beside a writer shows NULs. */
#ifndef FS_TEXTLOG_H
#define FS_TEXTLOG_H

#include "fs.h"
#include "stage.h"

/* As fs_plain_open, which it calls for any other handle; takes `fd` over. `created_in`: as
 * for fs_governed_open. */
int fs_textlog_open(fuse_req_t req, struct fs_inode *i, int fd, struct fuse_file_info *fi,
		    struct fs_inode *created_in) jsonl_must_check;
/* After a crash: appends what is staged for this file, unless it ends with that. 0 or
 * -errno, then nothing has been appended. */
int fs_textlog_recover(struct fs_mount *m, const char *path,
		       struct jsonl_stage *stage) jsonl_must_check;

#endif
