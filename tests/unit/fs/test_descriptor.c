/* SPDX-License-Identifier: MIT */
/* Descriptors of nodes: another file takes the place of the one behind a node. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "rig.h"
#include "tree/descriptor.h"
#include "tree/identity.h"
#include "tree/lookup.h"

static ino_t number(int fd)
{
	struct stat st = {0};

	CHECK(fstat(fd, &st) == 0);
	return st.st_ino;
}

static void limit(rlim_t n)
{
	struct rlimit r;

	CHECK(getrlimit(RLIMIT_NOFILE, &r) == 0);
	r.rlim_cur = n;
	CHECK(setrlimit(RLIMIT_NOFILE, &r) == 0);
}

/* `used`: somebody uses the descriptor at this moment. `refused`: the kernel does not let
 * its number be given to the new file. */
static void test_rebind(bool used, bool refused)
{
	struct fs_mount *m = &rig_mount;
	struct fs_file_handle handle;
	struct rlimit before;
	struct fs_inode *i;
	ino_t old, new;
	int fd, mine, again;

	rig_begin(NULL);
	rig_put("a.jsonl", "[1]\n");
	rig_put("b", "[2]\n");
	i = rig_lookup(&m->tree.root, "a.jsonl");
	mine = fs_inode_fd_get(m, i);
	old = number(mine);
	if (!used)
		fs_inode_fd_put(m, i, mine);
	fd = openat(rig_dir_fd, "b", O_PATH | O_CLOEXEC);
	new = number(fd);
	CHECK(fs_inode_may_rebind(m, i, fd, &handle) == 0);
	CHECK(renameat(rig_dir_fd, "b", rig_dir_fd, "a.jsonl") == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
	if (refused)
		limit((rlim_t)mine);
	fs_inode_rebind(m, i, &handle, new, fd);
	limit(before.rlim_cur);
	again = fs_inode_fd_get(m, i);
	CHECK(number(again) == new);
	fs_inode_fd_put(m, i, again);
	if (used) {
		CHECK(number(mine) == (refused ? old : new));
		fs_inode_fd_put(m, i, mine);
	}
	again = fs_inode_fd_get(m, i);
	CHECK(number(again) == new);
	fs_inode_fd_put(m, i, again);
	fs_inode_unref(m, i);
	rig_end();
}

int main(void)
{
	for (int k = 0; k < 4; k++)
		test_rebind(k & 1, k & 2);
	return check_done();
}
