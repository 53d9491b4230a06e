/* SPDX-License-Identifier: MIT */
#include "ctl/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Waits until the child has ended, for at most `limit` milliseconds. 0 or -errno. */
static int wait_for_end(pid_t child, int limit)
{
	cleanup_close int fd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int n;

	if (fd < 0)
		return -errno;
	do
		n = poll(&p, 1, limit);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
}

int ctl_child(int (*run)(void *ctx), void *ctx, int out, int limit)
{
	pid_t child;
	int status = 0, rc;

	(void)fflush(NULL); /* or both processes write what is buffered */
	child = fork();
	if (child < 0)
		return -errno;
	if (child == 0) {
		if (out >= 0 && dup2(out, STDOUT_FILENO) < 0)
			_exit(127);
		status = run(ctx);
		_exit(fflush(stdout) == 0 ? status : 127);
	}
	rc = wait_for_end(child, limit);
	if (rc < 0) {
		/* Not waited for: a child that asks a hung daemon may take long to
		 * die. */
		(void)kill(child, SIGKILL);
		(void)waitpid(child, &status, WNOHANG);
		return rc;
	}
	if (waitpid(child, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}
