/* SPDX-License-Identifier: MIT */
#include "tree/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "base/io.h"
#include "base/lock.h"
#include "tree/mount.h"
#include "vault/deferred.h"
#include "vault/hosts.h"

#define HOLD_MS 5000

bool fs_hold_may_wait(struct fs_mount *m)
{
	return fs_shared(&m->vault) && !m->vault.single && !fs_defer_here();
}

static bool is_late(void *until)
{
	return jsonl_now_ms() >= *(const int64_t *)until;
}

int fs_hold_fd(struct fs_mount *m, int fd)
{
	int64_t until;
	int rc;

	if (!fs_shared(&m->vault) || flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	/* Waits in the queue, because other daemons may release it for moments only. */
	until = jsonl_now_ms() + HOLD_MS;
	rc = errno == EWOULDBLOCK ? fs_lock_turn(fd, is_late, &until) : -errno;
	return rc == -ECANCELED ? -EAGAIN : rc;
}

void fs_hold_end(struct fs_mount *m, int fd)
{
	if (fs_shared(&m->vault))
		(void)flock(fd, LOCK_UN);
}

int fs_hold(struct fs_mount *m, int dir_fd, const char *name, int *fd)
{
	*fd = -1;
	while (fs_shared(&m->vault)) {
		cleanup_close int held = openat(
		    dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		struct stat st;
		int rc;

		if (held < 0)
			return errno == ENOENT || errno == ELOOP ? 0 : -errno;
		if (fstat(held, &st) < 0)
			return -errno;
		if (!S_ISREG(st.st_mode))
			return 0;
		rc = fs_hold_fd(m, held);
		if (rc)
			return rc;
		/* Another daemon may have put another file in its place meanwhile. */
		if (jsonl_io_is_named(held, dir_fd, name, AT_SYMLINK_NOFOLLOW)) {
			*fd = steal_fd(&held);
			return 0;
		}
	}
	return 0;
}

off_t fs_hold_size(int fd)
{
	struct stat st;
	int rc = jsonl_io_remote.fstat(&jsonl_io_remote, fd, &st);

	return rc ? rc : st.st_size;
}
