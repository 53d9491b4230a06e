/* SPDX-License-Identifier: MIT */
/* Class text: a request from which fewer bytes can be had than it has announced. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fuse.h"
#include "base/program.h"
#include "check.h"
#include "rig.h"
#include "text/textlog.h"
#include "tree/handles.h"

static struct fuse_file_info fi;
static struct fs_inode *inode;

static struct fs_handle *begin(void)
{
	rig_begin("{\"rules\": [{\"match\": \"*.log\", \"class\": \"text\"}]}");
	rig_put("a.log", "");
	inode = rig_lookup(&rig_mount.tree.root, "a.log");
	CHECK(inode && inode->class == JSONL_CLASS_TEXT);
	fi = (struct fuse_file_info){.flags = O_WRONLY | O_APPEND};
	CHECK(fs_text_open(rig_request(), inode,
			   openat(rig_dir_fd, "a.log", O_RDWR | O_CLOEXEC), &fi,
			   NULL) == 0);
	return fs_handle_of(&fi);
}

static void end(struct fs_handle *h, const char *content)
{
	h->ops->release(rig_request(), h, &fi);
	CHECK(rig_holds("a.log", content));
	fs_inode_unref(&rig_mount, inode);
	rig_end();
}

/* A WRITE of 100 bytes, of which 6 come. */
static void write_short(struct fs_handle *h)
{
	struct fuse_bufvec in = FUSE_BUFVEC_INIT(100);
	int pipes[2];

	CHECK(pipe2(pipes, O_CLOEXEC) == 0);
	CHECK(write(pipes[1], "hello\n", 6) == 6 && close(pipes[1]) == 0);
	in.buf[0].flags = FUSE_BUF_IS_FD;
	in.buf[0].fd = pipes[0];
	h->ops->write_buf(rig_request(), h, &in, 0, &fi);
	for (int n = 0; n < 2000 && !rig_answered(); n++)
		usleep(10000);
	CHECK(rig_answered() == 1 && !rig_answer.error && rig_answer.written == 6,
	      "%d, %zu", rig_answer.error, rig_answer.written);
	close(pipes[0]);
}

static void test_short(void)
{
	struct fs_handle *h = begin();

	write_short(h);
	end(h, "hello\n");
}

/* A shell that waits until *until is closed. */
static pid_t shell(int *until)
{
	char name[16];
	int pipes[2];
	pid_t pid;

	CHECK(pipe2(pipes, O_CLOEXEC) == 0);
	pid = fork();
	if (pid == 0) {
		dup2(pipes[0], 0);
		execlp("sh", "sh", "-c", "read x", NULL);
		_exit(1);
	}
	close(pipes[0]);
	*until = pipes[1];
	for (int n = 0; n < 2000 && !fs_program_short(pid, name, sizeof(name)); n++)
		usleep(10000);
	return pid;
}

/* The first one of a program whose script is asked for by the pool. */
static void test_short_named(void)
{
	struct fs_handle *h = begin();
	int until, status;
	const pid_t pid = shell(&until);

	rig_caller.pid = pid;
	write_short(h);
	rig_caller.pid = getpid();
	close(until);
	CHECK(waitpid(pid, &status, 0) == pid);
	end(h, "hello\n");
}

int main(void)
{
	test_short();
	test_short_named();
	return check_done();
}
