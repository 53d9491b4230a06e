/* SPDX-License-Identifier: MIT */
/* Acts as the calling user, on the serving thread alone. Pair each with
 * fs_caller_restore. */
#ifndef FS_BASE_CALLER_H
#define FS_BASE_CALLER_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"

struct fs_mount;

struct fs_ids {
	uid_t uid;
	gid_t gid;
};
struct fs_caller {
	uid_t uid; /* identity of the thread before */
	gid_t gid;
	mode_t umask;
	bool masked, switched, weakened;
};
/* Notes the user that the daemon runs as. Call it before anything else here. */
void fs_caller_init(uid_t uid);
/* Returns true for a daemon of root; for any other the functions below change nothing. */
bool fs_caller_may_switch(void);
struct fs_ids fs_caller_ids(fuse_req_t req);
/* Takes on fsuid, fsgid and umask of the caller for what is created next, on this thread
 * alone (raw system calls). 0 or -errno. */
int fs_caller_become(fuse_req_t req, struct fs_caller *saved) jsonl_must_check;
/* Takes on the caller's ids for a change of content of the open file `fd`. The
 * capabilities that depend on root's ids go with them, so the backing file system clears
 * suid and sgid and applies quotas and reserved blocks as for the caller itself. Costs
 * nothing for root's requests. */
int fs_caller_content(fuse_req_t req, int fd, struct fs_caller *saved) jsonl_must_check;
/* Takes on the ids of `who` but keeps every capability, for an operation that is allowed
 * already and takes up room on the disk. Some file systems keep blocks back for root,
 * whom they know by its id. */
int fs_caller_pay(const struct fs_ids *who, struct fs_caller *saved) jsonl_must_check;
/* Returns true when the file system of `fd` keeps blocks back for some users. *near:
 * other users have less than 4 GiB left, and less than is kept back. */
bool fs_caller_reserve(int fd, bool *near);
/* Takes on ids for BACKING_OPEN, whose credentials serve every later write by anybody:
 * the caller's ids, without CAP_FSETID even for root's requests; nobody's ids where
 * blocks are kept back. */
int fs_caller_backing(fuse_req_t req, int fd, struct fs_caller *saved) jsonl_must_check;
void fs_caller_restore(struct fs_caller *saved);
/* Clears suid, sgid and capabilities of a file whose content an ordinary user has
 * changed, as chmod(2) and capabilities(7) describe. With direct I/O the kernel leaves
 * that to the daemon. Returns true when the mode has changed. */
bool fs_caller_clear_privileges(int fd);
/* Returns true when the caller of this request is in the group, by its gid or by a
 * supplementary group. */
bool fs_caller_in_group(fuse_req_t req, gid_t gid);

#endif
