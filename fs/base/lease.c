/* SPDX-License-Identifier: MIT */
#include "base/lease.h"

#include <errno.h>
#include <fcntl.h>

int fs_has_writers(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN ? 1 : -errno;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return 0;
}
