/* SPDX-License-Identifier: MIT */
/* Calls on behalf of a user are those of the file system, not always of one host. */
#include "base/payer.h"

#include <fcntl.h>
#include <unistd.h>

#include "check.h"

static unsigned writes, reservations;

static ssize_t spy_writev(const struct jsonl_io *io, int fd, const struct iovec *iov, int n)
{
	writes++;
	return jsonl_io_system.writev(io, fd, iov, n);
}

static int spy_reserve(const struct jsonl_io *io, int fd, off_t off, off_t len)
{
	reservations++;
	return jsonl_io_system.reserve(io, fd, off, len);
}

int main(void)
{
	struct jsonl_io system = jsonl_io_remote;
	struct iovec iov = {.iov_base = (char *)"1\n", .iov_len = 2};
	struct fs_payer_io p;
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600);

	system.writev = spy_writev;
	system.reserve = spy_reserve;
	fs_payer_io(&p, &system);
	CHECK(p.io.writev(&p.io, fd, &iov, 1) == 2 && writes == 1);
	(void)p.io.reserve(&p.io, fd, 2, 4096);
	CHECK(reservations == 1);
	CHECK(p.io.fstat == jsonl_io_remote.fstat && p.io.unlock == jsonl_io_remote.unlock);
	close(fd);
	return check_done();
}
