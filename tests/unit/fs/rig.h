/* SPDX-License-Identifier: MIT */
/* A vault in a temporary directory with all of the daemon's rooms, and no mount: requests
 * are made by the test, and what the daemon answers is noted instead of being sent. One
 * thread makes requests at a time. */
#ifndef TESTS_UNIT_FS_RIG_H
#define TESTS_UNIT_FS_RIG_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/fuse.h"
#include "tree/inode.h"
#include "tree/mount.h"

struct rig_answer {
	_Atomic unsigned replies;
	int error;	/* of fuse_reply_err */
	size_t written; /* of fuse_reply_write */
	size_t length;	/* of fuse_reply_buf */
	struct fuse_entry_param entry;
	struct stat attr;
	_Alignas(8) char data[1 << 16]; /* of fuse_reply_buf */
};

extern struct fs_mount rig_mount;
extern struct fuse_ctx rig_caller;
extern struct rig_answer rig_answer;
/* What the kernel says to the next answers: -ENOENT when the request was interrupted. */
extern int rig_reply_result;
extern char rig_dir[]; /* the vault; its path */
extern int rig_dir_fd;

/* `json`: what the configuration file says, or NULL. */
void rig_begin(const char *json);
/* Also checks that no descriptor was left open. */
void rig_end(void);
/* A request; forgets the last answer. */
fuse_req_t rig_request(void);
/* How often it was answered, by any thread. */
static inline unsigned rig_answered(void)
{
	return rig_answer.replies;
}
/* Writes a file of the vault anew. */
void rig_put(const char *name, const char *content);
bool rig_holds(const char *name, const char *content);
/* A node, with a reference that the caller gives back; NULL when there is no such name.
 */
struct fs_inode *rig_lookup(struct fs_inode *parent, const char *name);
/* Nodes in the inode table, the root among them. */
size_t rig_nodes(void);

#endif
