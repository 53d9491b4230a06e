/* SPDX-License-Identifier: MIT */
/* Reaches backing files without a descriptor for each that the kernel knows: by the file
 * handle where the file system has handles and the daemon may open them, else by walking
 * the path again. Descriptors that were used last stay open, up to a bound. */
#include "tree/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/path.h"
#include "base/syslog.h"
#include "tree/classes.h"
#include "tree/descriptor_cache.h"
#include "tree/handles.h"
#include "tree/identity.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"

#define CACHED_MAX 4096
#define CACHED_MIN 16

/* With these flags no lease can make an open wait: it gets EWOULDBLOCK instead. */
#define OPEN_ALWAYS (O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

static bool out_of_descriptors(int r)
{
	return r == -EMFILE || r == -ENFILE;
}

int fs_descriptor_openat(struct fs_mount *m, int dir, const char *name, int flags,
			 mode_t mode)
{
	for (;;) {
		int fd = openat(dir, name, flags | OPEN_ALWAYS, mode);
		int r = fd < 0 ? -errno : fd;

		if (!out_of_descriptors(r) || !fs_descriptors_shrink(m->tree.descriptors))
			return r == -EMFILE ? -ENFILE : r;
	}
}

/* ---- opening ---- */

static int open_handle(struct fs_mount *m, const struct fs_inode_private *p, int flags)
{
	union fs_handle_buffer buf;
	int mount_fd, fd, r;

	mount_fd = fs_identity_mount_fd(m, p->mount);
	buf.h.handle_bytes = p->handle_bytes;
	buf.h.handle_type = p->handle_type;
	fs_descriptors_handle(m->tree.descriptors, p, buf.h.f_handle);
	do {
		fd = open_by_handle_at(mount_fd, &buf.h, flags | OPEN_ALWAYS);
		r = fd < 0 ? -errno : fd;
	} while (out_of_descriptors(r) && fs_descriptors_shrink(m->tree.descriptors));
	return r == -EMFILE ? -ENFILE : r; /* programs have too many files open */
}

/* Walks a path of any length below dir, in pieces that the kernel takes. */
static int open_long(int dir, char *path)
{
	cleanup_close int held = -1;

	while (strlen(path) >= PATH_MAX) {
		char *cut = memrchr(path, '/', PATH_MAX - 1);
		int fd;

		if (!cut)
			return -ENAMETOOLONG;
		*cut = '\0';
		fd =
		    fs_openat_beneath(held >= 0 ? held : dir, path, O_PATH | O_DIRECTORY);
		if (fd < 0)
			return fd;
		if (held >= 0)
			close(held);
		held = fd;
		path = cut + 1;
	}
	return fs_openat_beneath(held >= 0 ? held : dir, path, O_PATH);
}

/* Opens a file without a handle where it was last seen, if the same file is still there.
 */
static int open_walk(struct fs_mount *m, const struct fs_inode *i)
{
	cleanup_free char *path = fs_inode_long_path(m, i);
	cleanup_close int fd = -1;
	struct stat st;

	if (!path)
		return -ESTALE;
	do
		fd = open_long(m->vault.root_fd, path);
	while (out_of_descriptors(fd) && fs_descriptors_shrink(m->tree.descriptors));
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? -ESTALE : fd;
	if (fstat(fd, &st))
		return -errno;
	if (st.st_dev != i->dev || st.st_ino != i->ino ||
	    (st.st_mode & S_IFMT) != i->type)
		return -ESTALE;
	return steal_fd(&fd);
}

/* Returns the descriptor of a handle: the only way to a file without a name, or whose
 * name we have lost. */
static int open_from_users(const struct fs_mount *m, struct fs_inode *i)
{
	int fd = -ESTALE;

	pthread_mutex_lock(&i->lock);
	for (struct fs_handle *h = i->handles; h && fd < 0; h = h->next_of_inode) {
		int user = h->ops->fd ? h->ops->fd(h) : -1;

		if (user >= 0)
			fd = fcntl(user, F_DUPFD_CLOEXEC, 3);
	}
	/* The handles of a log share a descriptor, which is in none of them. */
	if (fd < 0 && fs_class_of(m, i)->any_fd) {
		int shared = fs_class_of(m, i)->any_fd(i);

		if (shared >= 0)
			fd = fcntl(shared, F_DUPFD_CLOEXEC, 3);
	}
	pthread_mutex_unlock(&i->lock);
	return fd < 0 ? -ESTALE : fd;
}

int fs_inode_fd_get(struct fs_mount *m, struct fs_inode *i)
{
	struct fs_descriptors *t = m->tree.descriptors;
	struct fs_inode_private *p = i->priv;
	int fd;

	if (i == &m->tree.root)
		return m->vault.root_fd;
	fd = fs_descriptors_pin(t, p);
	if (fd >= 0)
		return fd;
	if (i->virtual)
		return -ESTALE;
	if (p->mount >= 0)
		fd = open_handle(m, p, O_PATH | O_NOFOLLOW);
	else
		fd = open_walk(m, i);
	/* EACCES: a directory on the way has been closed to the daemon of an ordinary
	 * user. */
	if (fd == -ESTALE || fd == -EACCES) {
		int user = open_from_users(m, i);

		fd = user < 0 ? fd : user;
	}
	return fd < 0 ? fd : fs_descriptors_enter(t, p, fd, true);
}

void fs_inode_fd_put(struct fs_mount *m, struct fs_inode *i, int fd)
{
	if (i != &m->tree.root && fd >= 0)
		fs_descriptors_unpin(m->tree.descriptors, i->priv, fd);
}

int fs_inode_answer(const struct fs_mount *m, struct fs_inode *i, int result)
{
	struct statx sx;

	if (!m->vault.remote || (result != -ENOENT && result != -ESTALE))
		return result;
	/* A client that the servers have cut off knows no file at all. */
	if (statx(m->vault.root_fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_INO,
		  &sx) < 0)
		return errno == ENOENT || errno == ESTALE ? -ESHUTDOWN : -errno;
	i->gone = true;
	return -ESTALE;
}

int fs_inode_open(struct fs_mount *m, struct fs_inode *i, int flags)
{
	char path[64];
	int fd, r;

	if (i->virtual || (i->type != S_IFREG && i->type != S_IFDIR))
		return -ENXIO;
	flags &= ~(O_NOFOLLOW | O_CREAT | O_TRUNC | O_EXCL);
	if (i != &m->tree.root && i->priv->mount >= 0) {
		r = open_handle(m, i->priv, flags);
		if (r != -ESTALE)
			return r;
	}
	fd = fs_inode_fd_get(m, i);
	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = fs_descriptor_openat(m, AT_FDCWD, path, flags, 0);
	fs_inode_fd_put(m, i, fd);
	return fs_inode_answer(m, i, r);
}

/* ---- what the cache is told ---- */

void fs_descriptor_offer(struct fs_mount *m, struct fs_inode *i, int fd)
{
	if (i == &m->tree.root || fd < 0) {
		if (fd >= 0)
			close(fd);
		return;
	}
	(void)fs_descriptors_enter(m->tree.descriptors, i->priv, fd, false);
}

void fs_descriptor_keep(struct fs_mount *m, struct fs_inode *i)
{
	int fd = fs_inode_fd_get(m, i);

	if (fd < 0 || i == &m->tree.root)
		return;
	fs_descriptors_keep(m->tree.descriptors, i->priv);
	fs_inode_fd_put(m, i, fd);
}

void fs_descriptor_rebind(struct fs_mount *m, struct fs_inode *i, const void *handle,
			  int fd)
{
	fs_descriptors_rebind(m->tree.descriptors, i->priv, handle, fd);
}

uint64_t fs_descriptor_hash(struct fs_mount *m, const struct fs_inode *i)
{
	const uint64_t number[] = {i->dev, i->ino};
	unsigned char handle[UCHAR_MAX];

	fs_descriptors_handle(m->tree.descriptors, i->priv, handle);
	return jsonl_hash(jsonl_hash(JSONL_HASH_START, number, sizeof(number)), handle,
			  i->priv->handle_bytes);
}

void fs_descriptor_drop(struct fs_mount *m, struct fs_inode *i)
{
	fs_descriptors_drop(m->tree.descriptors, i->priv);
}

/* ---- beginning and end ---- */

int fs_descriptor_init(struct fs_mount *m)
{
	struct rlimit limit = {.rlim_cur = 1024};
	size_t max;

	getrlimit(RLIMIT_NOFILE, &limit);
	/* The other three quarters are for files that programs hold open. */
	max = limit.rlim_cur / 4;
	if (max > CACHED_MAX)
		max = CACHED_MAX;
	if (max < CACHED_MIN)
		max = CACHED_MIN;
	m->tree.descriptors = fs_descriptors_new(m->vault.io, max);
	if (!m->tree.descriptors)
		return -ENOMEM;
	FS_SYSLOG(
	    LOG_INFO, (uid_t)-1, "descriptors",
	    FS_STR("reached-by", fs_identity_handles(m) ? "file handle" : "path"),
	    FS_INT("limit", limit.rlim_cur > INT64_MAX ? -1 : (int64_t)limit.rlim_cur),
	    FS_INT("cached", max));
	return 0;
}

void fs_descriptor_deinit(struct fs_mount *m)
{
	fs_descriptors_free(m->tree.descriptors);
	m->tree.descriptors = NULL;
}
