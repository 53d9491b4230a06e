/* SPDX-License-Identifier: MIT */
/* Reads logs, for handles that are open for reading and for those that write, too. Any
 * thread; each operation answers its request once. */
#ifndef FS_LOG_READER_H
#define FS_LOG_READER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"

struct fs_handle;
struct fs_inode;
struct fs_mount;
struct fs_openlog;
struct fs_reading;
struct jsonl_settings;

/* Opens a log for reading, whose rules are those of `path`; `created`: this request has
 * just made it. 0 or -errno. */
int fs_reader_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi,
		   const char *path, const struct jsonl_settings *settings,
		   bool created) jsonl_must_check;

/* ---- for the other kinds, too ---- */
void fs_log_read(fuse_req_t req, struct fs_openlog *log,
		 const struct jsonl_settings *settings, struct fs_reading *reading,
		 size_t size, off_t off);
/* Answers a seek: a log has no holes for a reader. */
void fs_log_lseek(fuse_req_t req, struct fs_openlog *log, struct fs_reading *reading,
		  off_t off, int whence);
void fs_log_seek(fuse_req_t req, off_t visible, off_t off, int whence);
/* Checks that the log may be opened with these flags. 0, or -EPERM, which is logged. */
int fs_log_allowed(fuse_req_t req, const struct jsonl_settings *settings,
		   const char *path, int flags, off_t visible) jsonl_must_check;
/* Links the handle, unless a rename has changed the file's class since the open began and
 * found no writer. 0 or -ESTALE. */
int fs_log_link(struct fs_mount *m, struct fs_handle *h, struct fs_inode *i,
		bool created) jsonl_must_check;

#endif
