/* SPDX-License-Identifier: MIT */
/* Reads the attributes of files as programs see them. Any thread. */
#ifndef FS_TREE_STAT_H
#define FS_TREE_STAT_H

#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"
#include "base/process.h"

struct fs_handle;
struct fs_inode;
struct fs_mount;

/* Fills the fuse_entry_param of a node: attributes, timeouts. `st`: as fs_inode_lookup
 * filled it. */
void fs_entry_fill(struct fs_mount *m, struct fs_inode *i, const struct stat *st,
		   struct fuse_entry_param *e);
/* Reads the attributes of a node through its descriptor; the length of a log as readers
 * see it. */
int fs_inode_stat(struct fs_mount *m, struct fs_inode *i,
		  struct stat *st) jsonl_must_check;
/* Logs the reason if a call with `mode` ended with -EPERM (`rc`) because a filter of
 * system calls, put over the daemon by the service manager, lets nobody set suid and
 * sgid. `name`: in directory i; NULL: i itself. */
void fs_tell_special_bits(fuse_req_t req, const char *operation, struct fs_inode *i,
			  const char *name, mode_t mode, int rc);
/* Changes st to what programs see: inode numbers of other devices are kept apart. */
void fs_stat_public(const struct fs_inode *i, struct stat *st);
/* Returns the numbers that the kernel may show for an open file (/proc/PID/fdinfo,
 * fstat): it keeps the number of its last look, even if the file has been replaced since.
 */
void fs_handle_numbers(const struct fs_handle *h, ino_t numbers[FS_CLOSING_NUMBERS]);
void fs_reply_attr(fuse_req_t req, struct fs_mount *m, fuse_ino_t ino,
		   const struct fuse_file_info *fi);

/* Returns true when the file has other names. The answer of a network file system or a
 * FUSE one may be old; then it is asked for again. */
bool fs_has_other_names(int dir_fd, const char *name, const struct stat *st);

#endif
