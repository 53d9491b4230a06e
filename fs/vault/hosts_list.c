/* SPDX-License-Identifier: MIT */
#include "vault/hosts_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "base/path.h"
#include "report/report.h"

#define LIST_LOCK ".lock"
#define LOCK	  "lock"
#define SHARED	  "shared"
#define LIST_MS	  10000 /* longest wait for the lock of a list */

/* Calls fn for each name in a directory, until it returns true. 1: it did, 0, or -errno:
 * the directory cannot be read. */
static int each_name(int at, bool (*fn)(int at, const char *name, void *ctx), void *ctx)
{
	struct dirent *e;
	int found;
	DIR *dir = fs_directory_open(at, &found);

	if (!dir)
		return found;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): our own stream */
	while (!found && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			found = fn(at, e->d_name, ctx);
	closedir(dir);
	return found;
}

/* ---- one daemon ---- */

static int open_part(int list, const char *id, const char *part, int flags)
{
	char path[NAME_MAX + 8];

	(void)snprintf(path, sizeof(path), "%s/%s", id, part);
	return openat(list, path, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

/* Returns true when a daemon lives. Nobody else holds its lock, except for the moment of
 * such a look. */
static bool is_alive(int list, const char *id)
{
	cleanup_close int fd = open_part(list, id, LOCK, O_RDONLY);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

bool fs_host_list_acknowledged(const struct fs_host_list *l, const char *other)
{
	cleanup_close int fd = open_part(l->fd, other, SHARED, O_RDONLY);

	return fd >= 0;
}

void fs_host_list_acknowledge(const struct fs_host_list *l)
{
	int fd =
	    openat(l->own, SHARED, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
}

void fs_host_list_read(const struct fs_host_list *l, const char *other,
		       char says[FS_HOST_SAYS], time_t *seen)
{
	cleanup_close int fd = open_part(l->fd, other, LOCK, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : pread(fd, says, FS_HOST_SAYS - 1, 0);
	struct stat st;

	says[n > 0 ? n : 0] = '\0';
	*seen = fd >= 0 && fstat(fd, &st) == 0 ? st.st_mtim.tv_sec : 0;
}

/* ---- all of them ---- */

struct visit {
	const struct fs_host_list *l;
	const char *id;
	bool (*fn)(const struct fs_host_list *l, const char *other, void *ctx);
	void *ctx;
};

static bool visit(int at, const char *name, void *ctx)
{
	const struct visit *v = ctx;

	return name[0] != '.' && strcmp(name, v->id) != 0 && is_alive(at, name) &&
	       v->fn(v->l, name, v->ctx);
}

static bool is_mounted(const char *mountpoint)
{
	FILE *table = setmntent("/proc/self/mounts", "re");
	char line[2 * PATH_MAX];
	struct mntent entry;
	bool found = false;

	while (table && !found && getmntent_r(table, &entry, line, sizeof(line)))
		found = strcmp(entry.mnt_dir, mountpoint) == 0;
	if (table)
		endmntent(table);
	return found;
}

bool fs_host_is_ending(const char *says)
{
	struct jsonl_report *r = jsonl_report_parse(says);
	const char *host = jsonl_report_get_string(r, "host");
	const char *mountpoint = jsonl_report_get_string(r, "mountpoint");
	char own[HOST_NAME_MAX + 1] = "";
	bool ending;

	(void)gethostname(own, sizeof(own) - 1);
	ending = host && mountpoint && strcmp(host, own) == 0 && !is_mounted(mountpoint);
	jsonl_report_free(r);
	return ending;
}

bool fs_host_list_each(const struct fs_host_list *l, const char *id,
		       bool (*fn)(const struct fs_host_list *l, const char *other,
				  void *ctx),
		       void *ctx)
{
	struct visit v = {l, id, fn, ctx};

	return each_name(l->fd, visit, &v) > 0;
}

/* ---- what dead ones have left ---- */

struct move {
	int to;
	const char *prefix;
	bool really; /* else: is one of the names taken? */
};

static bool move_one(int at, const char *name, void *ctx)
{
	const struct move *m = ctx;

	if (strncmp(name, m->prefix, strlen(m->prefix)) != 0)
		return false;
	return m->really ? renameat(at, name, m->to, name) < 0
			 : faccessat(m->to, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Takes over what a dead daemon has left. Intents come first: without its intent a
 * staged block counts as one that was never begun. */
static bool take_over(int from, int to)
{
	static const char *const prefixes[] = {"intent-", "stage-"};
	int stopped = 0;

	for (int really = 0; really < 2; really++)
		for (int n = 0; !stopped && n < 2; n++) {
			struct move m = {to, prefixes[n], really};

			stopped = each_name(from, move_one, &m);
		}
	return !stopped;
}

struct bury {
	const struct fs_host_list *l;
	const char *id;
};

static bool bury(int at, const char *name, void *ctx)
{
	const struct bury *b = ctx;
	cleanup_close int lock = -1, dir = -1;

	if (name[0] == '.' || strcmp(name, b->id) == 0)
		return false;
	lock = open_part(at, name, LOCK, O_RDWR);
	if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0)
		return false;
	dir = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || !take_over(dir, b->l->own))
		return false;
	(void)unlinkat(dir, SHARED, 0);
	(void)unlinkat(dir, LOCK, 0);
	(void)unlinkat(at, name, AT_REMOVEDIR);
	return false;
}

/* ---- entering and leaving ---- */

/* Takes the lock of the list. Descriptor, or -errno. */
static int list_lock(int list)
{
	for (;;) {
		cleanup_close int fd = openat(
		    list, LIST_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		struct stat st;
		int rc = fd < 0 ? -errno : fs_lock_wait(fd, LIST_MS);

		if (!rc && fstat(fd, &st) < 0)
			rc = -errno;
		/* It has no name if whoever left last has just removed it. */
		if (rc || st.st_nlink)
			return rc ? rc : steal_fd(&fd);
	}
}

/* Returns true when two descriptors of one file exclude each other. */
static bool locks_work(int list, const char *id)
{
	cleanup_close int second = open_part(list, id, LOCK, O_RDWR);

	return second >= 0 && flock(second, LOCK_EX | LOCK_NB) < 0 &&
	       errno == EWOULDBLOCK;
}

static void hidden_name(const char *id, char name[FS_HOST_ID + 1])
{
	(void)snprintf(name, FS_HOST_ID + 1, ".%s", id);
}

static int make_entry(struct fs_host_list *l, const char *id, const char *says)
{
	char temp[FS_HOST_ID + 1];

	hidden_name(id, temp);
	if (mkdirat(l->fd, temp, 0700) < 0)
		return -errno;
	l->own = openat(l->fd, temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (l->own < 0)
		return -errno;
	l->lock = openat(l->own, LOCK, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			 0600);
	if (l->lock < 0)
		return -errno;
	if (flock(l->lock, LOCK_EX | LOCK_NB) < 0 || !locks_work(l->fd, temp))
		return -ENOLCK;
	if (write(l->lock, says, strlen(says)) < 0 ||
	    renameat(l->fd, temp, l->fd, id) < 0)
		return -errno;
	return 0;
}

int fs_host_list_enter(struct fs_host_list *l, const char *id, const char *says,
		       int daemon)
{
	cleanup_close int lock = list_lock(l->fd);
	struct bury b = {l, id};
	int rc = lock < 0 ? lock : make_entry(l, id, says);

	if (rc || daemon < 0)
		return rc;
	(void)take_over(daemon, l->own);
	rc = each_name(l->fd, bury, &b);
	return rc < 0 ? rc : 0;
}

static bool is_entry(int at, const char *name, void *ctx)
{
	(void)at;
	(void)ctx;
	return strcmp(name, LIST_LOCK) != 0;
}

void fs_host_list_leave(struct fs_host_list *l, const char *id)
{
	cleanup_close int lock = list_lock(l->fd);
	char temp[FS_HOST_ID + 1];

	hidden_name(id, temp);
	if (l->own >= 0) {
		(void)unlinkat(l->own, SHARED, 0);
		/* Without its lock file a daemon counts as dead. */
		(void)unlinkat(l->own, LOCK, 0);
	}
	(void)unlinkat(l->fd, id, AT_REMOVEDIR);
	(void)unlinkat(l->fd, temp, AT_REMOVEDIR);
	if (lock >= 0 && each_name(l->fd, is_entry, NULL) == 0)
		(void)unlinkat(l->fd, LIST_LOCK, 0);
	if (l->lock >= 0)
		close(l->lock);
	if (l->own >= 0)
		close(l->own);
	close(l->fd);
}
