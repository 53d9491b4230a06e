/* SPDX-License-Identifier: MIT */
#include "ctl/repair/guard.h"

#include <fcntl.h>
#include <signal.h>

#include "ctl/repair/holder.h"

static int look_around(int fd)
{
	char comm[32];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return ctl_holder(&st, comm) ? -EBUSY : 0;
}

int ctl_guard_take(struct ctl_guard *g, int fd)
{
	*g = (struct ctl_guard){.fd = fd};
	/* The kernel sends this signal when somebody waits for the lease; by default it kills. */
	(void)signal(SIGIO, SIG_IGN);
	if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
		g->lease = true;
		return 0;
	}
	/* Not every file system has leases, nor every user the right to one. */
	return errno == EAGAIN ? -EBUSY : look_around(fd);
}

int ctl_guard_check(const struct ctl_guard *g)
{
	if (!g->lease)
		return look_around(g->fd);
	return fcntl(g->fd, F_GETLEASE) == F_RDLCK ? 0 : -EBUSY;
}

void ctl_guard_release(struct ctl_guard *g)
{
	if (g->lease)
		(void)fcntl(g->fd, F_SETLEASE, F_UNLCK);
	g->lease = false;
}
