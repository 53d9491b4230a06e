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
#include "base/path.h"
#include "tree/mount.h"
#include "vault/deferred.h"
#include "vault/hosts.h"

#define HOLD_MS	   5000
#define HOLD_TRIES 100 /* another daemon replaces the file again and again */

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

/* Returns true when a call on a file that has just been opened by its name says that
 * there is no such file: between hosts the name may lead to one that another host has
 * replaced. */
static bool is_gone(const struct fs_mount *m, int rc)
{
	return m->vault.remote && (rc == -ENOENT || rc == -ESTALE);
}

/* As fstat(2), past what this host has cached. Between hosts a client may say for a second
 * what it remembers, but a sync, even without dirty data, fetches what the servers say
 * (DESIGN.md). */
static int stat_now(const struct fs_mount *m, int fd, struct stat *st)
{
	int rc;

	if (m->vault.remote && fsync(fd) < 0)
		return -errno;
	rc = m->vault.io->fstat(m->vault.io, fd, st);
	if (m->vault.remote)
		jsonl_io_let_go(fd);
	return rc;
}

/* One try of fs_hold: -ESTALE when the name led to another file. */
static int hold_once(struct fs_mount *m, int dir_fd, const char *name, bool first,
		     int *fd)
{
	cleanup_close int held =
	    openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int rc;

	if (held < 0)
		return first && is_gone(m, -errno)	   ? -ESTALE
		       : errno == ENOENT || errno == ELOOP ? 0
							   : -errno;
	if (fstat(held, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	rc = fs_hold_fd(m, held);
	if (rc)
		return is_gone(m, rc) ? -ESTALE : rc;
	/* Another daemon may have put another file in its place meanwhile. What reading
	 * the directory says may be older than what it said to another thread. */
	if (m->vault.remote) {
		rc = stat_now(m, held, &st);
		if (rc || !st.st_nlink)
			return !rc || is_gone(m, rc) ? -ESTALE : rc;
		fs_name_ask(dir_fd, name);
	}
	if (!jsonl_io_is_named(held, dir_fd, name, AT_SYMLINK_NOFOLLOW))
		return -ESTALE;
	*fd = steal_fd(&held);
	return 0;
}

int fs_hold(struct fs_mount *m, int dir_fd, const char *name, int *fd)
{
	int rc = -ESTALE;

	*fd = -1;
	if (!fs_shared(&m->vault))
		return 0;
	for (int tried = 0; rc == -ESTALE && tried < HOLD_TRIES; tried++) {
		if (tried && m->vault.remote)
			fs_name_ask(dir_fd, name);
		rc = hold_once(m, dir_fd, name, !tried, fd);
	}
	return rc == -ESTALE ? -EAGAIN : rc;
}

off_t fs_hold_size(const struct fs_mount *m, int fd)
{
	struct stat st;
	int rc = stat_now(m, fd, &st);

	return rc ? rc : st.st_size;
}
