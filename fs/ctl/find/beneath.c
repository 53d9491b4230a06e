/* SPDX-License-Identifier: MIT */
#include "ctl/find/beneath.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/path.h"

#define LINKS_MAX  40 /* as the kernel has it */
#define STATE_NAME ".jsonlfs"
#define O_STEP	   (O_PATH | O_NOFOLLOW | O_CLOEXEC)

/* ---- opening ---- */

int ctl_open_beneath(int dir, const char *path, int flags, mode_t mode)
{
	return fs_walk_beneath(dir, path, flags | O_NONBLOCK | O_NOCTTY, mode);
}

int ctl_open_file(int dir, const char *path, int flags, mode_t mode)
{
	cleanup_close int fd = ctl_open_beneath(dir, path, flags, mode);
	struct stat st;

	/* ENXIO: a FIFO that nobody reads, opened for writing. */
	if (fd < 0)
		return fd == -ENXIO ? -EINVAL : fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? steal_fd(&fd) : -EINVAL;
}

int ctl_open_parent(int dir, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *above = slash ? strndup(path, (size_t)(slash - path)) : NULL;

	*name = slash ? slash + 1 : path;
	if (slash && !above)
		return -ENOMEM;
	return ctl_open_beneath(dir, above ? above : ".", O_RDONLY | O_DIRECTORY, 0);
}

/* ---- whose it is ---- */

static bool trusts(const struct stat *st)
{
	return (st->st_uid == 0 || st->st_uid == geteuid()) &&
	       !(st->st_mode & (S_IWGRP | S_IWOTH));
}

bool ctl_is_trusted(int fd, uid_t *owner)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	if (owner)
		*owner = st.st_uid;
	return trusts(&st);
}

/* ---- finding what a path means ---- */

struct search {
	struct ctl_spot *s;
	const struct ctl_mounts *mounts;
	enum ctl_links links;
	unsigned expanded;
	bool climbing; /* towards the root: a vault found before is nearer */
	char *rest;    /* of the path */
	int at;	       /* a directory, O_PATH */
};

static void forget_vault(struct ctl_spot *s)
{
	if (s->root >= 0)
		(void)close(steal_fd(&s->root));
	s->trusted = false;
}

/* Takes a directory as the vault's root if it has a state directory; but an untrusted
 * one does not replace a trusted one further out. In a mount such names mean nothing. */
static int look_for_state(struct search *f, int dir)
{
	struct ctl_spot *s = f->s;
	struct stat st;

	if (ctl_mounts_of(f->mounts, dir) ||
	    fstatat(dir, STATE_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISDIR(st.st_mode))
		return 0;
	if (s->root >= 0 && !trusts(&st) && (s->trusted || f->climbing))
		return 0;
	forget_vault(s);
	s->root = fcntl(dir, F_DUPFD_CLOEXEC, 3);
	if (s->root < 0)
		return -errno;
	s->trusted = trusts(&st);
	s->owner = st.st_uid;
	return 0;
}

static bool is_same(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* Finds the vault by climbing from the current directory: at the start, and after
 * "..". */
static int look_above(struct search *f)
{
	cleanup_close int dir = fcntl(f->at, F_DUPFD_CLOEXEC, 3);
	int rc = dir < 0 ? -errno : 0;

	forget_vault(f->s);
	f->climbing = true;
	while (rc == 0) {
		int up;

		rc = look_for_state(f, dir);
		if (rc || f->s->trusted)
			break;
		up = openat(dir, "..", O_STEP | O_DIRECTORY);
		if (up < 0 || is_same(up, dir)) {
			if (up >= 0)
				(void)close(up);
			break;
		}
		(void)close(dir);
		dir = up;
	}
	f->climbing = false;
	return rc;
}

/* Goes on in directory `fd`, which is taken over. */
static void enter(struct search *f, int fd)
{
	if (f->at >= 0)
		(void)close(f->at);
	f->at = fd;
}

static int go_up(struct search *f)
{
	int fd = openat(f->at, "..", O_STEP | O_DIRECTORY);

	if (fd < 0)
		return -errno;
	enter(f, fd);
	return look_above(f);
}

static int begin(struct search *f, const char *from)
{
	int fd = open(from, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	enter(f, fd);
	return fstat(fd, &st) < 0 ? -errno : look_above(f);
}

/* Puts the target of a link before the rest of the path. */
static int expand(struct search *f, int link, const struct stat *st)
{
	cleanup_free char *target = malloc(PATH_MAX);
	char *rest;
	ssize_t n;

	if (f->s->root >= 0 || ctl_mounts_of(f->mounts, f->at) ||
	    ++f->expanded > LINKS_MAX ||
	    (f->links == CTL_LINKS_OWN && st->st_uid != 0 && st->st_uid != geteuid()))
		return -ELOOP;
	if (!target)
		return -ENOMEM;
	n = readlinkat(link, "", target, PATH_MAX - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	if (asprintf(&rest, "%s/%s", target, f->rest) < 0)
		return -ENOMEM;
	free(f->rest);
	f->rest = rest;
	return rest[0] == '/' ? begin(f, "/") : 0;
}

/* Takes the next name off the rest. False: there is none. */
static bool next_name(struct search *f, char name[NAME_MAX + 1], int *rc)
{
	char *from = f->rest + strspn(f->rest, "/");
	size_t length = strcspn(from, "/");

	*rc = length > NAME_MAX ? -ENAMETOOLONG : 0;
	if (!length || *rc)
		return false;
	memcpy(name, from, length);
	name[length] = '\0';
	memmove(f->rest, from + length, strlen(from + length) + 1);
	return true;
}

/* Follows one name. 1: the path ends here; 0: there is more; or -errno. */
static int step(struct search *f, const char *name)
{
	bool last = f->rest[strspn(f->rest, "/")] == '\0';
	cleanup_close int fd = -1;
	struct stat st;

	if (strcmp(name, ".") == 0)
		return 0;
	if (strcmp(name, "..") == 0)
		return go_up(f);
	fd = openat(f->at, name, O_STEP);
	if (fd < 0 && errno == ENOENT && last) {
		(void)snprintf(f->s->name, sizeof(f->s->name), "%s", name);
		f->s->missing = true;
		return 1;
	}
	if (fd < 0)
		return -errno;
	/* A dead mount, or one closed to us, says so at this first request. */
	if (fstatat(fd, "", &st, AT_EMPTY_PATH) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return expand(f, fd, &st);
	if (S_ISDIR(st.st_mode)) {
		enter(f, steal_fd(&fd));
		return look_for_state(f, f->at);
	}
	if (!last)
		return -ENOTDIR;
	(void)snprintf(f->s->name, sizeof(f->s->name), "%s", name);
	return 1;
}

int ctl_spot_find(struct ctl_spot *s, const char *path, const struct ctl_mounts *mounts,
		  enum ctl_links links)
{
	struct search f = {
	    .s = s, .mounts = mounts, .links = links, .at = -1, .rest = strdup(path)};
	char name[NAME_MAX + 1];
	int rc = f.rest ? 0 : -ENOMEM, bad = 0;

	*s = (struct ctl_spot){.dir = -1, .root = -1, .name = "."};
	if (rc == 0)
		rc = path[0] ? begin(&f, path[0] == '/' ? "/" : ".") : -ENOENT;
	while (rc == 0 && next_name(&f, name, &bad))
		rc = step(&f, name);
	rc = rc < 0 ? rc : bad;
	free(f.rest);
	s->dir = f.at;
	if (rc < 0)
		ctl_spot_close(s);
	return rc;
}

void ctl_spot_close(struct ctl_spot *s)
{
	forget_vault(s);
	if (s->dir >= 0)
		(void)close(steal_fd(&s->dir));
}
