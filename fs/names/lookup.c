/* SPDX-License-Identifier: MIT */
#include "names/lookup.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fuse.h"
#include "rules/policy.h"
#include "tree/inode.h"
#include "tree/lookup.h"
#include "tree/mount.h"
#include "tree/stat.h"
#include "vault/hosts.h"

void fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fuse_entry_param e;
	struct fs_inode *i;
	struct stat st;
	struct fs_inode *dir = fs_inode_of(m, parent);
	int r = fs_inode_lookup(m, dir, name, &i, &st);

	if (r == -ENOENT && m->vault.config.entry_timeout > 0 && !dir->state &&
	    !(fs_shared(&m->vault) &&
	      jsonl_policy_may_govern(m->vault.policy, name))) {
		/* Lets the kernel remember that there is no such file, where only we
		 * could make one. */
		memset(&e, 0, sizeof(e));
		e.entry_timeout = m->vault.config.entry_timeout;
		fuse_reply_entry(req, &e);
		return;
	}
	if (r) {
		fuse_reply_err(req, -r);
		return;
	}
	fs_entry_fill(m, i, &st, &e);
	fs_inode_to_kernel(m, i);
	if (fuse_reply_entry(req, &e))
		fs_inode_forget(m, i, 1);
}

void fs_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct fs_mount *m = fs_mount_of(req);

	fs_inode_forget(m, fs_inode_of(m, ino), nlookup);
	fuse_reply_none(req);
}

void fs_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs_mount *m = fs_mount_of(req);

	for (size_t k = 0; k < count; k++)
		fs_inode_forget(m, fs_inode_of(m, forgets[k].ino), forgets[k].nlookup);
	fuse_reply_none(req);
}
