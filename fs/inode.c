/* The inode table: one node for each backing file and class that the kernel, a handle or
 * a child knows; what class a name gives a file; and where directories were last found.
 */
#include "inode.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

#define TABLE_FIRST_SIZE 1024

struct node {
	struct fs_inode inode;
	struct fs_inode_private priv; /* ends with the file handle */
};

static size_t key_hash(const struct fs_mount *m, dev_t dev, ino_t ino)
{
	uint64_t h = ((uint64_t)ino ^ ((uint64_t)dev << 40)) * 0x9e3779b97f4a7c15ULL;

	return (size_t)(h >> 20) & (m->inodes_size - 1);
}

/* ---- the table; all under inodes_lock ---- */

static void table_grow(struct fs_mount *m)
{
	size_t old_size = m->inodes_size;
	struct fs_inode **old = m->inodes;
	struct fs_inode **new = calloc(old_size * 2, sizeof(struct fs_inode *));

	if (!new)
		return; /* longer chains */
	m->inodes = new;
	m->inodes_size = old_size * 2;
	for (size_t k = 0; k < old_size; k++) {
		for (struct fs_inode *i = old[k], *next; i; i = next) {
			struct fs_inode **head = &m->inodes[key_hash(m, i->dev, i->ino)];

			next = i->hash_next;
			i->hash_next = *head;
			*head = i;
		}
	}
	free(old);
}

static void table_insert(struct fs_mount *m, struct fs_inode *i)
{
	struct fs_inode **head;

	if (m->inodes_count >= m->inodes_size)
		table_grow(m);
	head = &m->inodes[key_hash(m, i->dev, i->ino)];
	i->hash_next = *head;
	*head = i;
	i->priv->hashed = true;
	m->inodes_count++;
}

static void table_remove(struct fs_mount *m, struct fs_inode *i)
{
	struct fs_inode **at = &m->inodes[key_hash(m, i->dev, i->ino)];

	if (!i->priv->hashed)
		return;
	while (*at != i)
		at = &(*at)->hash_next;
	*at = i->hash_next;
	i->priv->hashed = false;
	m->inodes_count--;
}

static struct fs_inode *table_find(struct fs_mount *m, dev_t dev, ino_t ino,
				   enum jsonl_class class)
{
	struct fs_inode *i = m->inodes[key_hash(m, dev, ino)];

	while (i && (i->dev != dev || i->ino != ino || i->class != class))
		i = i->hash_next;
	return i;
}

/* Inode numbers are used again; the file handle tells whether it is still the same file.
 * Without one a descriptor is held, or the path is walked and the number compared; what is
 * of another type is another file. */
static bool same_file(const struct fs_inode *i, mode_t type, const struct fs_file_handle *h)
{
	const struct fs_inode_private *p = i->priv;

	if (i->type != type)
		return false;
	if (!p->handle_bytes || !h->bytes)
		return true;
	return p->handle_bytes == h->bytes && p->handle_type == h->type &&
	       memcmp(p->handle, h->data, h->bytes) == 0;
}

static void node_free(struct fs_mount *m, struct fs_inode *i)
{
	fs_descriptor_drop(m, i);
	fs_plain_state_free(i->priv->plain);
	fs_listing_free(i->priv->listing);
	free(i->visible);
	pthread_mutex_destroy(&i->lock);
	free(i->name);
	free((struct node *)i);
}

/* Drops `refs` and `nlookup`, and with the last one the node, and so on upwards. Called
 * and left with inodes_lock held; nodes to be freed are collected in *dead. */
static void release_locked(struct fs_mount *m, struct fs_inode *i, uint64_t refs,
			   uint64_t nlookup, struct fs_inode **dead)
{
	while (i && i != &m->root) {
		struct fs_inode *parent = i->parent;

		i->refs -= refs;
		i->nlookup -= nlookup < i->nlookup ? nlookup : i->nlookup;
		if (i->refs || i->nlookup)
			return;
		table_remove(m, i);
		i->hash_next = *dead;
		*dead = i;
		i = parent;
		refs = 1;
		nlookup = 0;
	}
}

static void release(struct fs_mount *m, struct fs_inode *i, uint64_t refs,
		    uint64_t nlookup)
{
	struct fs_inode *dead = NULL, *next;

	pthread_mutex_lock(&m->inodes_lock);
	release_locked(m, i, refs, nlookup, &dead);
	pthread_mutex_unlock(&m->inodes_lock);
	for (; dead; dead = next) {
		next = dead->hash_next;
		node_free(m, dead);
	}
}

struct fs_inode *fs_inode_ref(struct fs_mount *m, struct fs_inode *i)
{
	pthread_mutex_lock(&m->inodes_lock);
	i->refs++;
	pthread_mutex_unlock(&m->inodes_lock);
	return i;
}

void fs_inode_unref(struct fs_mount *m, struct fs_inode *i)
{
	if (i)
		release(m, i, 1, 0);
}

void fs_inode_to_kernel(struct fs_mount *m, struct fs_inode *i)
{
	pthread_mutex_lock(&m->inodes_lock);
	i->nlookup++;
	if (i != &m->root)
		i->refs--;
	pthread_mutex_unlock(&m->inodes_lock);
}

void fs_inode_forget(struct fs_mount *m, struct fs_inode *i, uint64_t nlookup)
{
	/* The kernel knows it no more: it may be gone, and nobody must keep it open. */
	bool last = false;

	if (i->class == JSONL_CLASS_GOVERNED) {
		pthread_mutex_lock(&m->inodes_lock);
		last = i->nlookup <= nlookup;
		i->refs += last;
		pthread_mutex_unlock(&m->inodes_lock);
	}
	release(m, i, 0, nlookup);
	if (last) {
		fs_idle_drop(m, i);
		fs_inode_unref(m, i);
	}
}

struct fs_inode *fs_inode_of(struct fs_mount *m, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &m->root : (struct fs_inode *)(uintptr_t)ino;
}

fuse_ino_t fs_inode_number(const struct fs_mount *m, const struct fs_inode *i)
{
	return i == &m->root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)i;
}

struct fs_inode *fs_inode_find(struct fs_mount *m, dev_t dev, ino_t ino,
			       enum jsonl_class class)
{
	struct fs_inode *i;

	pthread_mutex_lock(&m->inodes_lock);
	i = table_find(m, dev, ino, class);
	if (i)
		i->refs++;
	pthread_mutex_unlock(&m->inodes_lock);
	return i;
}

fuse_ino_t fs_inode_number_as(struct fs_mount *m, const struct fs_inode *i,
			      enum jsonl_class class)
{
	const struct fs_inode *other;

	pthread_mutex_lock(&m->inodes_lock);
	other = table_find(m, i->dev, i->ino, class);
	pthread_mutex_unlock(&m->inodes_lock);
	return other ? fs_inode_number(m, other) : 0;
}

/* ---- names ---- */

/* Directories make the paths of others, governed files are named in the log, and without
 * file handles there is no other way back to a file. */
static bool is_placed(const struct fs_mount *m, const struct fs_inode *i)
{
	return i->type == S_IFDIR || i->class != JSONL_CLASS_PLAIN ||
	       !m->table->handles;
}

/* Where the node was found last. Under inodes_lock; a parent that nobody else needs any
 * more goes to *dead. Out of memory the old place stays. */
static void place(struct fs_mount *m, struct fs_inode *i, struct fs_inode *parent,
		  const char *name, struct fs_inode **dead)
{
	struct fs_inode *old = i->parent;
	char *copy;

	if (i == &m->root || i == parent)
		return;
	if (!i->name || strcmp(i->name, name) != 0) {
		copy = strdup(name);
		if (!copy)
			return;
		free(i->name);
		i->name = copy;
	}
	if (old == parent)
		return;
	parent->refs++;
	i->parent = parent;
	if (old)
		release_locked(m, old, 1, 0, dead);
}

void fs_inode_moved(struct fs_mount *m, struct fs_inode *dir, struct fs_inode *parent,
		    const char *name)
{
	struct fs_inode *dead = NULL, *next;

	if (!is_placed(m, dir))
		return;
	pthread_mutex_lock(&m->inodes_lock);
	place(m, dir, parent, name, &dead);
	pthread_mutex_unlock(&m->inodes_lock);
	for (; dead; dead = next) {
		next = dead->hash_next;
		node_free(m, dead);
	}
}

int fs_inode_place(struct fs_mount *m, struct fs_inode *i, struct fs_inode **dir,
		   char **name)
{
	int r = -ENOENT;

	pthread_mutex_lock(&m->inodes_lock);
	if (i->parent && i->name) {
		*name = strdup(i->name);
		r = *name ? 0 : -ENOMEM;
	}
	if (!r) {
		*dir = i->parent;
		i->parent->refs++;
	}
	pthread_mutex_unlock(&m->inodes_lock);
	return r;
}

int fs_inode_path(struct fs_mount *m, struct fs_inode *dir, const char *name, char *buf,
		  size_t size)
{
	char *end = buf + size, *at = end;
	int r = 0;

	if (!size)
		return -ENAMETOOLONG;
	*--at = '\0';
	pthread_mutex_lock(&m->inodes_lock);
	for (struct fs_inode *i = dir;;) {
		size_t len;

		if (!name) {
			if (!i || !i->name)
				break;
			name = i->name;
			i = i->parent;
		}
		len = strlen(name);
		if (len + 1 > (size_t)(at - buf)) {
			r = -ENAMETOOLONG;
			break;
		}
		if (*at)
			*--at = '/';
		at -= len;
		memcpy(at, name, len);
		name = NULL;
	}
	pthread_mutex_unlock(&m->inodes_lock);
	if (!r)
		memmove(buf, at, (size_t)(end - at));
	return r;
}

static int class_of(struct fs_mount *m, struct fs_inode *parent, const char *name,
		    const struct stat *st, enum jsonl_class *class)
{
	char path[PATH_MAX];
	int r;

	*class = JSONL_CLASS_PLAIN;
	if (!S_ISREG(st->st_mode) || !jsonl_policy_may_govern(m->policy, name))
		return 0;
	r = fs_inode_path(m, parent, name, path, sizeof(path));
	if (!r)
		*class = jsonl_policy_classify(m->policy, path);
	return r;
}

/* ---- finding nodes ---- */

/* Who holds it may open the file, and that may ask the file's handles (descriptor.c). */
static void lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(lock, &attr);
	pthread_mutexattr_destroy(&attr);
}

static struct fs_inode *node_new(const struct stat *st, enum jsonl_class class,
				 const struct fs_file_handle *h)
{
	struct node *n = calloc(1, sizeof(*n) + h->bytes);

	if (!n)
		return NULL;
	n->inode.dev = st->st_dev;
	n->inode.ino = st->st_ino;
	n->inode.class = class;
	n->inode.type = st->st_mode & S_IFMT;
	n->inode.priv = &n->priv;
	lock_init(&n->inode.lock);
	n->priv.fd = -1;
	n->priv.mount = (signed char)h->mount;
	n->priv.handle_bytes = (unsigned char)h->bytes;
	n->priv.handle_type = h->type;
	memcpy(n->priv.handle, h->data, h->bytes);
	return &n->inode;
}

/* The node with this key and handle, with a reference; *spare is used when it is new. */
static struct fs_inode *node_enter(struct fs_mount *m, struct fs_inode *parent,
				   const char *name, struct fs_inode **spare,
				   const struct fs_file_handle *h)
{
	struct fs_inode *want = *spare, *i, *dead = NULL, *next;

	pthread_mutex_lock(&m->inodes_lock);
	i = table_find(m, want->dev, want->ino, want->class);
	if (i && !same_file(i, want->type, h)) {
		table_remove(m, i); /* the number has a new owner */
		i = NULL;
	}
	if (!i) {
		i = want;
		*spare = NULL;
		table_insert(m, i);
	}
	i->refs++;
	if (is_placed(m, i))
		place(m, i, parent, name, &dead);
	pthread_mutex_unlock(&m->inodes_lock);
	for (; dead; dead = next) {
		next = dead->hash_next;
		node_free(m, dead);
	}
	return i;
}

static bool is_state(const struct fs_mount *m, const struct fs_inode *parent,
		     const struct stat *st)
{
	return parent->state ||
	       (st->st_dev == m->state_dev && st->st_ino == m->state_ino);
}

int fs_inode_adopt(struct fs_mount *m, struct fs_inode *parent, const char *name, int fd,
		   struct fs_inode **inode, struct stat *st)
{
	cleanup_close int own = fd;
	struct fs_inode *spare, *i;
	enum jsonl_class class;
	struct fs_file_handle h;
	unsigned serial;
	bool state;
	int r;

	/* First, because of what must not be asked anything if it is our own mount. */
	r = fs_descriptor_identify(m, fd, &h);
	if (r)
		return r;
	if (fstat(fd, st))
		return -errno;
	state = is_state(m, parent, st);
	class = JSONL_CLASS_PLAIN;
	/* Before the question: one that comes between makes it ask once more. */
	serial = jsonl_policy_serial(m->policy);
	if (!state)
		r = class_of(m, parent, name, st, &class);
	if (r)
		return r;
	spare = node_new(st, class, &h);
	if (!spare)
		return -ENOMEM;
	spare->state = state;
	spare->serial = serial;
	spare->priv->device = (unsigned char)fs_descriptor_device(m, st->st_dev);
	i = node_enter(m, parent, name, &spare, &h);
	i->serial = serial;
	if (spare) {
		node_free(m, spare);
		pthread_mutex_lock(&i->lock);
		if (!i->seized)
			i->stale = false; /* it has a name of its class again */
		pthread_mutex_unlock(&i->lock);
	}
	fs_descriptor_offer(m, i, steal_fd(&own));
	/* What can neither be opened by a handle nor be found by a path stays open. */
	if (m->table->handles && i->priv->mount < 0)
		fs_descriptor_keep(m, i);
	*inode = i;
	return 0;
}

/* status.json and writers.json have no backing file. */
static int lookup_virtual(struct fs_mount *m, struct fs_inode *parent, const char *name,
			  enum fs_virtual what, struct fs_inode **inode, struct stat *st)
{
	struct fs_file_handle none = {.mount = -1};
	struct stat key = {.st_ino = (ino_t)what, .st_mode = S_IFREG};
	struct fs_inode *spare = node_new(&key, JSONL_CLASS_PLAIN, &none);

	if (!spare)
		return -ENOMEM;
	spare->state = true;
	spare->virtual = (int)what;
	*inode = node_enter(m, parent, name, &spare, &none);
	if (spare)
		node_free(m, spare);
	fs_state_stat(m, *inode, st);
	return 0;
}

int fs_inode_may_rebind(struct fs_mount *m, const struct fs_inode *i, int fd,
			struct fs_file_handle *h)
{
	const struct fs_inode_private *p = i->priv;
	struct stat st;
	int rc = fs_descriptor_identify(m, fd, h);

	if (rc)
		return rc;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != i->dev || h->bytes != p->handle_bytes || h->mount != p->mount ||
	    (h->bytes && h->type != p->handle_type))
		return -EXDEV;
	return 0;
}

void fs_inode_rebind(struct fs_mount *m, struct fs_inode *i,
		     const struct fs_file_handle *h, ino_t ino, int fd)
{
	struct fs_inode *other;

	pthread_mutex_lock(&m->inodes_lock);
	table_remove(m, i);
	/* A number that was somebody else's: he is gone, whoever still holds the node. */
	other = table_find(m, i->dev, ino, i->class);
	if (other)
		table_remove(m, other);
	i->ino = ino;
	fs_descriptor_rebind(m, i, h->data, fd);
	table_insert(m, i);
	pthread_mutex_unlock(&m->inodes_lock);
}

static int lookup_backing(struct fs_mount *m, struct fs_inode *parent, const char *name,
			  struct fs_inode **inode, struct stat *st)
{
	int dir, fd;

	if (parent == &m->root && strcmp(name, FS_STATE_NAME) == 0) {
		/* A vault that is mounted read-only may never have had one. */
		fd = m->state_fd < 0 ? -ENOENT :
				       fs_descriptor_openat(m, m->state_fd, ".",
							    O_PATH | O_DIRECTORY, 0);
	} else {
		dir = fs_inode_fd_get(m, parent);
		if (dir < 0)
			return dir;
		fd = fs_descriptor_openat(m, dir, name, O_PATH | O_NOFOLLOW, 0);
		fs_inode_fd_put(m, parent, dir);
	}
	return fd < 0 ? fd : fs_inode_adopt(m, parent, name, fd, inode, st);
}

int fs_inode_lookup(struct fs_mount *m, struct fs_inode *parent, const char *name,
		    struct fs_inode **inode, struct stat *st)
{
	int rc;

	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return -EINVAL;
	if (parent->state) {
		enum fs_virtual what = fs_state_virtual(m, parent, name);

		if (what != FS_VIRTUAL_NONE)
			return lookup_virtual(m, parent, name, what, inode, st);
	}
	if (!jsonl_policy_may_govern(m->policy, name))
		return lookup_backing(m, parent, name, inode, st);
	/* The file that is found must not be replaced before its node is. */
	pthread_rwlock_rdlock(&m->tree_lock);
	rc = lookup_backing(m, parent, name, inode, st);
	pthread_rwlock_unlock(&m->tree_lock);
	return rc;
}

/* ---- handles ---- */

static unsigned *handles_like(struct fs_inode *inode, const struct fs_handle *h)
{
	return (h->flags & O_ACCMODE) != O_RDONLY ? &inode->writers : &inode->readers;
}

void fs_handle_link(struct fs_mount *m, struct fs_handle *h, struct fs_inode *inode)
{
	h->inode = fs_inode_ref(m, inode);
	pthread_mutex_lock(&inode->lock);
	h->next_of_inode = inode->handles;
	h->pprev_of_inode = &inode->handles;
	if (h->next_of_inode)
		h->next_of_inode->pprev_of_inode = &h->next_of_inode;
	inode->handles = h;
	(*handles_like(inode, h))++;
	pthread_mutex_unlock(&inode->lock);
	pthread_mutex_lock(&m->handles_lock);
	h->next = m->handles;
	h->pprev = &m->handles;
	if (h->next)
		h->next->pprev = &h->next;
	m->handles = h;
	pthread_mutex_unlock(&m->handles_lock);
}

void fs_handle_unlink(struct fs_mount *m, struct fs_handle *h)
{
	struct fs_inode *inode = h->inode;

	pthread_mutex_lock(&m->handles_lock);
	*h->pprev = h->next;
	if (h->next)
		h->next->pprev = h->pprev;
	pthread_mutex_unlock(&m->handles_lock);
	pthread_mutex_lock(&inode->lock);
	*h->pprev_of_inode = h->next_of_inode;
	if (h->next_of_inode)
		h->next_of_inode->pprev_of_inode = h->pprev_of_inode;
	(*handles_like(inode, h))--;
	pthread_mutex_unlock(&inode->lock);
	h->inode = NULL;
	fs_inode_unref(m, inode);
}

/* ---- beginning and end ---- */

int fs_inode_table_init(struct fs_mount *m)
{
	struct stat st;

	if (fstat(m->root_fd, &st))
		return -errno;
	m->table = calloc(1, sizeof(*m->table));
	if (!m->table)
		return -ENOMEM;
	m->inodes = calloc(TABLE_FIRST_SIZE, sizeof(struct fs_inode *));
	if (!m->inodes) {
		free(m->table);
		m->table = NULL;
		return -ENOMEM;
	}
	m->inodes_size = TABLE_FIRST_SIZE;
	fs_descriptor_init(m);
	m->root.dev = st.st_dev;
	m->root.ino = st.st_ino;
	m->root.class = JSONL_CLASS_PLAIN;
	m->root.type = S_IFDIR;
	m->root.refs = 1;
	m->root.priv = &m->table->root;
	m->root.priv->fd = m->root_fd;
	m->root.priv->mount = -1;
	m->root.priv->device = (unsigned char)fs_descriptor_device(m, st.st_dev);
	lock_init(&m->root.lock);
	table_insert(m, &m->root);
	return 0;
}

void fs_inode_table_deinit(struct fs_mount *m)
{
	if (!m->table)
		return;
	for (size_t k = 0; k < m->inodes_size; k++) {
		for (struct fs_inode *i = m->inodes[k], *next; i; i = next) {
			next = i->hash_next;
			if (i != &m->root)
				node_free(m, i);
		}
	}
	free(m->inodes);
	m->inodes = NULL;
	fs_plain_state_free(m->root.priv->plain);
	fs_listing_free(m->root.priv->listing);
	pthread_mutex_destroy(&m->root.lock);
	fs_descriptor_deinit(m);
	free(m->table);
	m->table = NULL;
}
