/* SPDX-License-Identifier: MIT */
/* Reading directories: what is listed, from where it goes on, and what the kernel holds
 * afterwards, also when it did not get the answer. */
#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "ops/readdir.h"
#include "rig.h"

#define FILES 40

static struct fuse_file_info fi;

static void opened(void)
{
	memset(&fi, 0, sizeof(fi));
	fs_op_opendir(rig_request(), FUSE_ROOT_ID, &fi);
	CHECK(rig_answer.replies == 1 && !rig_answer.error);
}

static void closed(void)
{
	fs_op_releasedir(rig_request(), FUSE_ROOT_ID, &fi);
	CHECK(rig_answer.replies == 1 && !rig_answer.error);
}

/* Counts the entries of the last answer, and the nodes named in it, which are forgotten
 * if asked; *next: where it ends. */
static unsigned entries(bool plus, bool forget, unsigned *nodes, off_t *next)
{
	unsigned n = 0;

	*nodes = 0;
	for (size_t at = 0; at < rig_answer.length; n++) {
		const struct fuse_direntplus *p = (const void *)(rig_answer.data + at);
		const struct fuse_dirent *e =
		    plus ? &p->dirent : (const void *)(rig_answer.data + at);

		*next = (off_t)e->off;
		at += plus ? FUSE_DIRENTPLUS_SIZE(p) : FUSE_DIRENT_SIZE(e);
		if (!plus || !p->entry_out.nodeid)
			continue;
		*nodes += 1;
		if (forget)
			fs_inode_forget(&rig_mount,
					fs_inode_of(&rig_mount, p->entry_out.nodeid), 1);
	}
	return n;
}

static void read_at(off_t off, size_t size, bool plus)
{
	fuse_req_t req = rig_request();

	if (plus)
		fs_op_readdirplus(req, FUSE_ROOT_ID, size, off, &fi);
	else
		fs_op_readdir(req, FUSE_ROOT_ID, size, off, &fi);
	CHECK(rig_answer.replies == 1 && !rig_answer.error);
}

/* In pieces of `size` bytes; how many entries there are. */
static unsigned read_all(size_t size, bool plus)
{
	unsigned all = 0, nodes, n;
	off_t off = 0;

	do {
		read_at(off, size, plus);
		n = entries(plus, false, &nodes, &off);
		all += n;
	} while (n);
	return all;
}

static void make_files(void)
{
	char name[32];

	for (int n = 0; n < FILES; n++) {
		snprintf(name, sizeof(name), "%d.%s", n, n % 2 ? "jsonl" : "txt");
		rig_put(name, "");
	}
}

static void test_names(void)
{
	off_t off;
	unsigned nodes;

	rig_begin(NULL);
	make_files();
	opened();
	/* With . and .., without the state directory. */
	for (size_t size = 64; size <= 4096; size *= 4)
		CHECK(read_all(size, false) == FILES + 2, "%zu", size);
	CHECK(rig_nodes() == 1);
	/* Back to where it was. */
	read_at(0, 256, false);
	CHECK(entries(false, false, &nodes, &off) > 2);
	read_at(0, 4096, false);
	CHECK(entries(false, false, &nodes, &off) == FILES + 2);
	closed();
	rig_end();
}

static void test_nodes(void)
{
	off_t off;
	unsigned nodes;

	rig_begin(NULL);
	make_files();
	opened();
	read_at(0, sizeof(rig_answer.data), true);
	CHECK(rig_nodes() == FILES + 1, "%zu", rig_nodes());
	CHECK(entries(true, true, &nodes, &off) == FILES + 2 && nodes == FILES);
	CHECK(rig_nodes() == 1, "%zu", rig_nodes());
	/* The reader was interrupted: the kernel knows none of them, and forgets none. */
	rig_reply_result = -ENOENT;
	read_at(0, sizeof(rig_answer.data), true);
	CHECK(rig_nodes() == 1, "%zu nodes for nobody", rig_nodes());
	rig_reply_result = 0;
	closed();
	rig_end();
}

int main(void)
{
	test_names();
	test_nodes();
	return check_done();
}
