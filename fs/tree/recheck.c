/* SPDX-License-Identifier: MIT */
#include "tree/recheck.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/path.h"
#include "rules/policy.h"
#include "tree/descriptor.h"
#include "tree/inode.h"
#include "tree/mount.h"

/* Finds the path of a node's file; false when it is not known, or one of several. */
static bool backing_path(struct fs_mount *m, struct fs_inode *i, char path[PATH_MAX])
{
	char root[PATH_MAX];
	struct stat st;
	int fd = fs_inode_fd_get(m, i);
	bool known;

	if (fd < 0)
		return false;
	known = fstat(fd, &st) == 0 && st.st_nlink == 1 &&
		fs_path_of_descriptor(m->vault.root_fd, root) &&
		fs_path_below(root, fd, path);
	fs_inode_fd_put(m, i, fd);
	return known;
}

int fs_recheck(struct fs_mount *m, struct fs_inode *i)
{
	unsigned serial = jsonl_policy_serial(m->vault.policy);
	char path[PATH_MAX];

	if (i->serial == serial || i->type != S_IFREG || i->state)
		return 0;
	if (backing_path(m, i, path)) {
		if (jsonl_policy_classify(m->vault.policy, path) != i->class)
			return -ESTALE;
	} else if (atomic_exchange(&i->asked, serial) != serial) {
		/* The kernel then looks the name up, which shows which name is meant.
		 * Opens without a name (/proc/self/fd) come back at once. */
		return -ESTALE;
	}
	i->serial = serial;
	return 0;
}
