/* How a backing file is reached without keeping a descriptor for each that the kernel
 * knows: by its file handle where the file system has handles and the daemon may open
 * them, else by walking its path again. What was used last stays open, up to a bound. */
#include "inode.h"
#include "shared.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

union handle_buffer {
	struct file_handle h;
	char space[sizeof(struct file_handle) + FS_HANDLE_MAX];
};

static struct fs_inode_table *table_of(struct fs_mount *m)
{
	return m->table;
}

/* ---- the cache; all under cache_lock ---- */

static void lru_remove(struct fs_inode_table *t, struct fs_inode_private *p)
{
	*(p->lru_prev ? &p->lru_prev->lru_next : &t->lru_first) = p->lru_next;
	*(p->lru_next ? &p->lru_next->lru_prev : &t->lru_last) = p->lru_prev;
	p->lru_prev = p->lru_next = NULL;
}

static void lru_append(struct fs_inode_table *t, struct fs_inode_private *p)
{
	p->lru_prev = t->lru_last;
	p->lru_next = NULL;
	*(t->lru_last ? &t->lru_last->lru_next : &t->lru_first) = p;
	t->lru_last = p;
}

/* The oldest descriptor that nobody uses, out of the cache; -1 when there is none. */
static int lru_evict(struct fs_inode_table *t)
{
	struct fs_inode_private *p = t->lru_first;
	int fd;

	if (!p)
		return -1;
	lru_remove(t, p);
	fd = p->fd;
	p->fd = -1;
	t->cached--;
	return fd;
}

/* Descriptors ran out: gives half of the cache back. False when there was nothing. */
static bool cache_shrink(struct fs_mount *m)
{
	struct fs_inode_table *t = table_of(m);
	size_t n = 0, want;
	int fd = 0;

	pthread_mutex_lock(&t->cache_lock);
	for (want = t->cached / 2 + 1; n < want && fd >= 0; n++) {
		fd = lru_evict(t);
		if (fd >= 0)
			close(fd);
	}
	pthread_mutex_unlock(&t->cache_lock);
	return n > 1;
}

static bool out_of_descriptors(int r)
{
	return r == -EMFILE || r == -ENFILE;
}

int fs_descriptor_openat(struct fs_mount *m, int dir, const char *name, int flags,
			 mode_t mode)
{
	for (;;) {
		int fd = openat(dir, name, flags | O_CLOEXEC | O_NOCTTY, mode);
		int r = fd < 0 ? -errno : fd;

		if (!out_of_descriptors(r) || !cache_shrink(m))
			return r;
	}
}

/* Enters fd (taken over) for the node unless it has one already; pins it when asked and
 * then returns the node's. */
static int cache_enter(struct fs_mount *m, struct fs_inode_private *p, int fd, bool pin)
{
	struct fs_inode_table *t = table_of(m);
	int victim = -1;

	pthread_mutex_lock(&t->cache_lock);
	if (p->fd >= 0) {
		victim = fd;
		if (!p->pins && !p->keep)
			lru_remove(t, p);
	} else {
		p->fd = fd;
		if (++t->cached > t->cached_max)
			victim = lru_evict(t);
	}
	if (pin)
		p->pins++;
	if (!p->pins && !p->keep)
		lru_append(t, p);
	fd = p->fd;
	pthread_mutex_unlock(&t->cache_lock);
	if (victim >= 0)
		close(victim);
	return fd;
}

/* ---- opening ---- */

static int open_handle(struct fs_mount *m, const struct fs_inode_private *p, int flags)
{
	struct fs_inode_table *t = table_of(m);
	union handle_buffer buf;
	int mount_fd, fd, r;

	pthread_mutex_lock(&t->mounts_lock);
	mount_fd = t->mounts[p->mount].fd; /* stays open until the end */
	pthread_mutex_unlock(&t->mounts_lock);
	buf.h.handle_bytes = p->handle_bytes;
	buf.h.handle_type = p->handle_type;
	pthread_mutex_lock(&t->cache_lock);
	memcpy(buf.h.f_handle, p->handle, p->handle_bytes);
	pthread_mutex_unlock(&t->cache_lock);
	do {
		fd = open_by_handle_at(mount_fd, &buf.h, flags | O_CLOEXEC | O_NOCTTY);
		r = fd < 0 ? -errno : fd;
	} while (out_of_descriptors(r) && cache_shrink(m));
	return r;
}

/* The path of a node that is not the root, as last seen; to be freed. */
static char *node_path(struct fs_mount *m, const struct fs_inode *i)
{
	size_t len = 0;
	char *path = NULL, *at;

	pthread_mutex_lock(&m->inodes_lock);
	for (const struct fs_inode *n = i; n && n->name && len < (1U << 20);
	     n = n->parent)
		len += strlen(n->name) + 1;
	if (len && len < (1U << 20))
		path = malloc(len);
	at = path ? path + len : NULL;
	for (const struct fs_inode *n = i; at && n && n->name; n = n->parent) {
		size_t k = strlen(n->name);

		*--at = n == i ? '\0' : '/';
		at -= k;
		memcpy(at, n->name, k);
	}
	pthread_mutex_unlock(&m->inodes_lock);
	return path;
}

/* A name at a time, where a filter of system calls knows no openat2 (systemd's
 * RestrictSUIDSGID=). */
static int walk_beneath(int dir, const char *path, int flags)
{
	cleanup_close int held = -1;
	char name[NAME_MAX + 1];

	for (;;) {
		size_t length = strcspn(path, "/");
		bool last = !path[length];
		int fd;

		if (length > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path, length);
		name[length] = '\0';
		if (!length || strcmp(name, "..") == 0)
			return -EXDEV; /* as openat2 says */
		fd = openat(held >= 0 ? held : dir, name,
			    (last ? flags : O_PATH | O_DIRECTORY) | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			return -errno;
		if (last)
			return fd;
		if (held >= 0)
			close(held);
		held = fd;
		path += length + 1;
	}
}

int fs_openat_beneath(int dir, const char *path, int flags)
{
	struct open_how how = {
	    .flags = (uint64_t)(unsigned)flags | O_CLOEXEC | O_NOFOLLOW,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));

	if (fd < 0 && errno == ENOSYS)
		return walk_beneath(dir, path, flags);
	return fd < 0 ? -errno : fd;
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
		fd = fs_openat_beneath(held >= 0 ? held : dir, path, O_PATH | O_DIRECTORY);
		if (fd < 0)
			return fd;
		if (held >= 0)
			close(held);
		held = fd;
		path = cut + 1;
	}
	return fs_openat_beneath(held >= 0 ? held : dir, path, O_PATH);
}

/* Without handles: where the node was last seen, if the same file is still there. */
static int open_walk(struct fs_mount *m, const struct fs_inode *i)
{
	cleanup_free char *path = node_path(m, i);
	cleanup_close int fd = -1;
	struct stat st;

	if (!path)
		return -ESTALE;
	do
		fd = open_long(m->root_fd, path);
	while (out_of_descriptors(fd) && cache_shrink(m));
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? -ESTALE : fd;
	if (fstat(fd, &st))
		return -errno;
	if (st.st_dev != i->dev || st.st_ino != i->ino ||
	    (st.st_mode & S_IFMT) != i->type)
		return -ESTALE;
	return steal_fd(&fd);
}

/* A file without a name, or one whose name we lost, lives in the handles that are open.
 */
static int open_from_users(struct fs_inode *i)
{
	int fd = -ESTALE;

	pthread_mutex_lock(&i->lock);
	for (struct fs_handle *h = i->handles; h && fd < 0; h = h->next_of_inode) {
		int user = h->ops->fd ? h->ops->fd(h) : -1;

		if (user >= 0)
			fd = fcntl(user, F_DUPFD_CLOEXEC, 3);
	}
	/* The handles of a log share one, and give it to nobody. */
	if (fd < 0 && i->shared)
		fd = fcntl(jsonl_file_fd(fs_shared_file(i->shared)), F_DUPFD_CLOEXEC, 3);
	pthread_mutex_unlock(&i->lock);
	return fd < 0 ? -ESTALE : fd;
}

int fs_inode_fd_get(struct fs_mount *m, struct fs_inode *i)
{
	struct fs_inode_table *t = table_of(m);
	struct fs_inode_private *p = i->priv;
	int fd;

	if (i == &m->root)
		return m->root_fd;
	pthread_mutex_lock(&t->cache_lock);
	fd = p->fd;
	if (fd >= 0) {
		if (!p->pins++ && !p->keep)
			lru_remove(t, p);
		pthread_mutex_unlock(&t->cache_lock);
		return fd;
	}
	pthread_mutex_unlock(&t->cache_lock);
	if (i->virtual)
		return -ESTALE;
	if (p->mount >= 0)
		fd = open_handle(m, p, O_PATH | O_NOFOLLOW);
	else
		fd = open_walk(m, i);
	/* Also where a directory on the way has been closed to an ordinary user's daemon. */
	if (fd == -ESTALE || fd == -EACCES) {
		int user = open_from_users(i);

		fd = user < 0 ? fd : user;
	}
	return fd < 0 ? fd : cache_enter(m, p, fd, true);
}

void fs_inode_fd_put(struct fs_mount *m, struct fs_inode *i, int fd)
{
	struct fs_inode_table *t = table_of(m);
	struct fs_inode_private *p = i->priv;
	cleanup_close int victim = -1; /* which keeps errno for the caller */

	if (i == &m->root || fd < 0)
		return;
	pthread_mutex_lock(&t->cache_lock);
	if (!--p->pins && !p->keep) {
		lru_append(t, p);
		if (t->cached > t->cached_max)
			victim = lru_evict(t);
	}
	pthread_mutex_unlock(&t->cache_lock);
}

int fs_inode_open(struct fs_mount *m, struct fs_inode *i, int flags)
{
	char path[64];
	int fd, r;

	if (i->virtual || (i->type != S_IFREG && i->type != S_IFDIR))
		return -ENXIO;
	flags &= ~(O_NOFOLLOW | O_CREAT | O_TRUNC | O_EXCL);
	if (i != &m->root && i->priv->mount >= 0) {
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
	return r;
}

/* ---- what the cache is told ---- */

void fs_descriptor_offer(struct fs_mount *m, struct fs_inode *i, int fd)
{
	if (i == &m->root || fd < 0) {
		if (fd >= 0)
			close(fd);
		return;
	}
	cache_enter(m, i->priv, fd, false);
}

void fs_descriptor_keep(struct fs_mount *m, struct fs_inode *i)
{
	struct fs_inode_table *t = table_of(m);
	int fd = fs_inode_fd_get(m, i);

	if (fd < 0 || i == &m->root)
		return;
	pthread_mutex_lock(&t->cache_lock);
	i->priv->keep = true; /* pinned at this moment, so in no list */
	pthread_mutex_unlock(&t->cache_lock);
	fs_inode_fd_put(m, i, fd);
}

void fs_descriptor_rebind(struct fs_mount *m, struct fs_inode *i, const void *handle,
			  int fd)
{
	struct fs_inode_table *t = table_of(m);
	struct fs_inode_private *p = i->priv;

	pthread_mutex_lock(&t->cache_lock);
	memcpy(p->handle, handle, p->handle_bytes);
	/* Who uses the number at this moment goes on with it. */
	if (p->fd >= 0)
		while (dup3(fd, p->fd, O_CLOEXEC) < 0 && errno == EBUSY)
			;
	pthread_mutex_unlock(&t->cache_lock);
	fs_descriptor_offer(m, i, fd);
}

void fs_descriptor_drop(struct fs_mount *m, struct fs_inode *i)
{
	struct fs_inode_table *t = table_of(m);
	struct fs_inode_private *p = i->priv;
	int fd;

	pthread_mutex_lock(&t->cache_lock);
	fd = p->fd;
	if (fd >= 0) {
		if (!p->pins && !p->keep)
			lru_remove(t, p);
		p->fd = -1;
		t->cached--;
	}
	pthread_mutex_unlock(&t->cache_lock);
	if (fd >= 0)
		close(fd);
}

/* ---- mounts, devices, identity ---- */

/* Is this mount our own? By mountinfo, which asks no file system anything. */
static bool mount_is_own(const struct fs_mount *m, int id)
{
	cleanup_free char *line = NULL;
	size_t size = 0;
	bool own = false;
	FILE *f = fopen("/proc/self/mountinfo", "re");

	while (f && !own && getline(&line, &size, f) > 0) {
		char point[PATH_MAX];
		char *type = strstr(line, " - ");
		int this;

		/* Escaped characters make names differ; a daemon that is mounted on such
		 * a path inside its own source still answers, one level deeper. */
		if (type && sscanf(line, "%d %*d %*s %*s %4095s", &this, point) == 2)
			own = this == id && strncmp(type, " - fuse", 7) == 0 &&
			      m->mountpoint && strcmp(point, m->mountpoint) == 0;
	}
	if (f)
		fclose(f);
	return own;
}

/* Finds or enters the mount with this id. `fd` is something in it; the first directory
 * serves to open handles. Returns its index when handles can be opened on it, else -1; or
 * -ELOOP when it is our own. */
static int mount_find(struct fs_mount *m, int id, int fd)
{
	struct fs_inode_table *t = table_of(m);
	struct fs_mount_point *p = NULL;
	int r = -1;

	pthread_mutex_lock(&t->mounts_lock);
	for (int k = 0; k < t->nmounts && !p; k++) {
		if (t->mounts[k].id == id)
			p = &t->mounts[k];
	}
	if (!p && t->nmounts < FS_MOUNTS_MAX) {
		p = &t->mounts[t->nmounts++];
		p->id = id;
		p->fd = -1;
		p->own = mount_is_own(m, id);
	}
	if (p && !p->own && p->fd < 0 && t->handles)
		p->fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
	if (p && p->own)
		r = -ELOOP;
	else if (p && p->fd >= 0)
		r = (int)(p - t->mounts);
	pthread_mutex_unlock(&t->mounts_lock);
	return r;
}

/* The mount id where handles do not tell it. */
static int mount_id(int fd)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &sx) ||
	    !(sx.stx_mask & STATX_MNT_ID))
		return -1;
	return (int)sx.stx_mnt_id;
}

int fs_descriptor_identify(struct fs_mount *m, int fd, struct fs_file_handle *h)
{
	struct fs_inode_table *t = table_of(m);
	union handle_buffer buf;
	int id = -1, k;

	h->bytes = 0;
	h->mount = -1;
	buf.h.handle_bytes = FS_HANDLE_MAX;
	if (t->handles && !name_to_handle_at(fd, "", &buf.h, &id, AT_EMPTY_PATH)) {
		h->bytes = buf.h.handle_bytes;
		h->type = buf.h.handle_type;
		memcpy(h->data, buf.h.f_handle, h->bytes);
	} else {
		id = mount_id(fd);
	}
	if (id < 0)
		return 0;
	k = mount_find(m, id, fd);
	if (k == -ELOOP)
		return -ELOOP;
	if (h->bytes)
		h->mount = k;
	return 0;
}

unsigned fs_descriptor_device(struct fs_mount *m, dev_t dev)
{
	struct fs_inode_table *t = table_of(m);
	int k;

	pthread_mutex_lock(&t->mounts_lock);
	for (k = 0; k < t->ndevices && t->devices[k] != dev; k++)
		;
	if (k == t->ndevices) {
		if (k < FS_DEVICES_MAX)
			t->devices[t->ndevices++] = dev;
		else
			k = FS_DEVICES_MAX; /* the rest share one */
	}
	pthread_mutex_unlock(&t->mounts_lock);
	return (unsigned)k;
}

/* Handles are used only where one of the root can really be opened again. */
static bool handles_work(struct fs_mount *m)
{
	cleanup_close int real = -1, again = -1;
	union handle_buffer buf;
	int id;

	buf.h.handle_bytes = FS_HANDLE_MAX;
	if (name_to_handle_at(m->root_fd, "", &buf.h, &id, AT_EMPTY_PATH))
		return false;
	real = openat(m->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (real < 0)
		return false;
	again = open_by_handle_at(real, &buf.h, O_PATH | O_CLOEXEC);
	return again >= 0;
}

void fs_descriptor_init(struct fs_mount *m)
{
	struct fs_inode_table *t = table_of(m);
	struct rlimit limit = {.rlim_cur = 1024};
	struct fs_file_handle root;

	pthread_mutex_init(&t->cache_lock, NULL);
	pthread_mutex_init(&t->mounts_lock, NULL);
	getrlimit(RLIMIT_NOFILE, &limit);
	/* The other three quarters are for what programs hold open. */
	t->cached_max = limit.rlim_cur / 4;
	if (t->cached_max > FS_CACHED_FD_MAX)
		t->cached_max = FS_CACHED_FD_MAX;
	if (t->cached_max < FS_CACHED_FD_MIN)
		t->cached_max = FS_CACHED_FD_MIN;
	t->handles = handles_work(m);
	/* Enters the root's mount and device as the first ones. */
	if (fs_descriptor_identify(m, m->root_fd, &root) || root.mount < 0)
		t->handles = false;
	FS_LOG(LOG_INFO, (uid_t)-1, "descriptors",
	       FS_STR("reached-by", t->handles ? "file handle" : "path"),
	       FS_INT("limit", limit.rlim_cur > INT64_MAX ? -1 : (int64_t)limit.rlim_cur),
	       FS_INT("cached", t->cached_max));
}

void fs_descriptor_deinit(struct fs_mount *m)
{
	struct fs_inode_table *t = table_of(m);

	for (int k = 0; k < t->nmounts; k++) {
		if (t->mounts[k].fd >= 0)
			close(t->mounts[k].fd);
	}
	pthread_mutex_destroy(&t->cache_lock);
	pthread_mutex_destroy(&t->mounts_lock);
}
