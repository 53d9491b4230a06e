/* SPDX-License-Identifier: MIT */
#include "vault/statedir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "vault/vault.h"

#define OLD_NAME   "transactions"
#define LAST_GOOD  "last-good"
#define HOSTS	   "hosts"
#define HOLD_TRIES 100 /* each 10 ms */

/* Checks that nobody but root or the daemon's user owns the directory or can write to it:
 * others could put files in the place of the daemon's. */
static int check_directory(const char *path, const struct stat *st)
{
	if (st->st_uid != 0 && st->st_uid != geteuid()) {
		fprintf(
		    stderr,
		    "jsonlfs: %s belongs to user %u: give it, with all that is in it, "
		    "to user %u\n",
		    path, (unsigned)st->st_uid, (unsigned)geteuid());
		return -EPERM;
	}
	if (st->st_mode & 022) {
		fprintf(
		    stderr,
		    "jsonlfs: %s can be written by others (mode %04o): look at what is "
		    "in it, then chmod go-w it\n",
		    path, (unsigned)(st->st_mode & 07777));
		return -EPERM;
	}
	return 0;
}

/* Makes a directory (of exactly this mode) where there is none, unless the mount is to
 * change nothing, and opens it. `path` may not end in a symbolic link. */
static int make_directory(const struct fs_vault *v, int at, const char *path, mode_t mode)
{
	cleanup_close int fd = -1;
	struct stat st;
	bool made = false;
	int rc;

	if (!v->config.readonly) {
		made = mkdirat(at, path, mode) == 0;
		if (!made && errno != EEXIST)
			return -errno;
	}
	fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		int code = errno;

		if (code == ELOOP || code == ENOTDIR)
			fprintf(
			    stderr,
			    "jsonlfs: %s is not a directory: move it out of the way\n",
			    path);
		return -code;
	}
	if ((made && fchmod(fd, mode) < 0) || fstat(fd, &st) < 0)
		return -errno;
	rc = check_directory(path, &st);
	return rc ? rc : steal_fd(&fd);
}

/* ---- what earlier versions have left ---- */

/* Moves the files of STATE/transactions, the place of earlier versions, into
 * STATE/daemon. A file whose name is taken there stays behind; so does the directory
 * then. */
static int take_over_transactions(int state, int daemon)
{
	int old =
	    openat(state, OLD_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *e;
	struct stat st;
	DIR *dir;

	if (old < 0)
		return errno == ENOENT ? 0 : -errno;
	dir = fstat(old, &st) == 0 && check_directory(OLD_NAME, &st) == 0 ? fdopendir(old)
									  : NULL;
	if (!dir) {
		close(old);
		return -EPERM;
	}
	/* One thread so far. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.' &&
		    fstatat(old, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode) &&
		    faccessat(daemon, e->d_name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
			(void)renameat(old, e->d_name, daemon, e->d_name);
	(void)fsync(daemon);
	closedir(dir);
	if (unlinkat(state, OLD_NAME, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY)
		return -errno;
	return 0;
}

/* Moves the last good versions of state files, too. */
static void take_over_last_good(int state, int daemon)
{
	struct stat st;

	if (fstatat(daemon, LAST_GOOD, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
	    fstatat(state, LAST_GOOD, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISDIR(st.st_mode) && check_directory(LAST_GOOD, &st) == 0)
		(void)renameat(state, LAST_GOOD, daemon, LAST_GOOD);
}

static int open_daemon(struct fs_vault *v, int state)
{
	int fd = make_directory(v, state, "daemon", 0700), rc;

	if (fd < 0)
		return fd;
	v->common_fd = fd;
	if (v->config.readonly)
		return 0;
	rc = take_over_transactions(state, fd);
	if (!rc)
		take_over_last_good(state, fd);
	return rc;
}

/* Makes a .gitignore, for a vault in a repository. */
static int make_gitignore(int dir)
{
	static const char all[] = "*\n";
	cleanup_close int fd =
	    openat(dir, ".gitignore",
		   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	if (write(fd, all, sizeof(all) - 1) != (ssize_t)sizeof(all) - 1)
		return -EIO;
	return 0;
}

/* Marks the directory as in use, so that no other daemon removes it. 0; -EAGAIN: one is
 * removing it just now. Where there are no locks it is never removed. */
static int hold(struct fs_vault *v, int state)
{
	struct stat st;

	if (flock(v->common_fd, LOCK_SH | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : 0;
	return fstat(state, &st) == 0 && st.st_nlink == 0 ? -EAGAIN : 0;
}

static int open_state(struct fs_vault *v)
{
	const char *path = v->state	     ? v->state
			   : v->config.state ? v->config.state
					     : FS_STATE_NAME;
	cleanup_close int state = make_directory(v, v->root_fd, path, 0755);
	cleanup_close int part = -1;
	struct stat st;
	int r;

	if (state < 0)
		return state;
	if (fstat(state, &st) < 0)
		return -errno;
	v->state_dev = st.st_dev;
	v->state_ino = st.st_ino;
	r = v->config.readonly ? 0 : make_gitignore(state);
	if (r < 0)
		return r;
	part = make_directory(v, state, "quarantine", 0711);
	if (part < 0 && part != -ENOENT)
		return part;
	v->archive_fd = make_directory(v, state, "archive", 0711);
	if (v->archive_fd < 0 && v->archive_fd != -ENOENT)
		return v->archive_fd;
	r = open_daemon(v, state);
	if (r < 0 && r != -ENOENT)
		return r;
	r = v->common_fd < 0 ? 0 : hold(v, state);
	if (r < 0)
		return r;
	v->state_fd = steal_fd(&state);
	return 0;
}

static void close_parts(struct fs_vault *v)
{
	if (v->archive_fd >= 0)
		close(steal_fd(&v->archive_fd));
	if (v->common_fd >= 0)
		close(steal_fd(&v->common_fd));
}

int fs_statedir_daemon(struct fs_vault *v)
{
	cleanup_close int state = make_directory(v, v->root_fd, FS_STATE_NAME, 0755);
	int r = state < 0 ? state : make_gitignore(state);

	return r < 0 ? r : make_directory(v, state, "daemon", 0700);
}

int fs_statedir_init(struct fs_vault *v)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	int r = -EAGAIN;

	v->state_fd = v->archive_fd = v->common_fd = -1;
	for (int tries = 0; r == -EAGAIN && tries < HOLD_TRIES; tries++) {
		if (tries)
			nanosleep(&pause, NULL);
		r = open_state(v);
		if (r < 0)
			close_parts(v);
		/* Another daemon that ends may have removed it between two of our
		 * steps. */
		if (r == -ENOENT && !v->config.readonly && !v->state && !v->config.state)
			r = -EAGAIN;
	}
	/* On a disk that is read-only and was never mounted by us there is nothing to
	 * keep, and no way to keep it. */
	if (r == -ENOENT && v->config.readonly)
		return 0;
	return r;
}

/* ---- leaving nothing behind ---- */

/* Lists remains that do not matter: a file of this size, or an empty directory. */
struct remains {
	const char *name;
	off_t size; /* -1: a directory */
};

static bool only(int at, const char *path, const struct remains *may, size_t n)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	bool ok = true;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return fd < 0 && errno == ENOENT;
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): our own stream */
	while (ok && (e = readdir(dir))) {
		struct stat st;
		size_t i = 0;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		while (i < n && strcmp(may[i].name, e->d_name) != 0)
			i++;
		ok = i < n && fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0;
		if (ok && may[i].size < 0)
			ok = S_ISDIR(st.st_mode) && only(fd, e->d_name, NULL, 0);
		else if (ok)
			ok = S_ISREG(st.st_mode) && st.st_size == may[i].size;
	}
	closedir(dir);
	return ok;
}

/* Removes the parts of a state directory, if there is nothing in them. `daemon`: the part
 * of that name. */
static void remove_empty(struct fs_vault *v, int state, int daemon)
{
	static const struct remains kept[] = {{LAST_GOOD, -1}, {HOSTS, -1}};
	static const struct remains parts[] = {{".gitignore", 2},
					       {"quarantine.jsonl", 0},
					       {"archive", -1},
					       {"quarantine", -1}};
	static const size_t n = sizeof(parts) / sizeof(parts[0]);
	struct remains all[sizeof(parts) / sizeof(parts[0]) + 1];

	if (flock(daemon, LOCK_EX | LOCK_NB) < 0 || !only(state, "daemon", kept, 2))
		return;
	for (size_t i = 0; i < 2; i++)
		(void)unlinkat(daemon, kept[i].name, AT_REMOVEDIR);
	memcpy(all, parts, sizeof(parts));
	all[n] = (struct remains){"daemon", -1};
	if (!only(state, ".", all, n + 1))
		return;
	for (size_t i = n + 1; i--;)
		(void)unlinkat(state, all[i].name, all[i].size < 0 ? AT_REMOVEDIR : 0);
	(void)unlinkat(v->root_fd, FS_STATE_NAME, AT_REMOVEDIR);
}

void fs_statedir_leave(struct fs_vault *v)
{
	cleanup_close int state = -1, daemon = -1;

	if (v->state_fd < 0 || v->common_fd < 0 || v->config.readonly)
		return;
	if (!v->state && !v->config.state) {
		remove_empty(v, v->state_fd, v->common_fd);
		return;
	}
	/* The directory that state= names is not ours to remove. */
	state = openat(v->root_fd, FS_STATE_NAME,
		       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	daemon = state < 0 ? -1
			   : openat(state, "daemon",
				    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (daemon >= 0)
		remove_empty(v, state, daemon);
}
