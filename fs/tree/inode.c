/* SPDX-License-Identifier: MIT */
/* Keeps the nodes: one for each backing file and class that the kernel, a handle or a
 * child knows; and where directories were last found. */
#include "tree/inode.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fuse.h"
#include "rules/config.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/edition.h"
#include "tree/identity.h"
#include "tree/inode_table.h"
#include "tree/listing.h"
#include "tree/mount.h"

#define TABLE_FIRST_SIZE 1024
#define ALIGNED(size)	 (((size) + 15) & ~(size_t)15)

struct node {
	struct fs_inode inode;
	struct fs_inode_private priv; /* ends with the file handle */
};

static void class_free(struct fs_mount *m, struct fs_inode *i)
{
	const struct fs_class_ops *ops = fs_class_of(m, i);

	if (ops->inode_free)
		ops->inode_free(i);
	fs_listing_free(i->priv->listing);
}

void fs_node_free(struct fs_mount *m, struct fs_inode *i)
{
	fs_descriptor_drop(m, i);
	class_free(m, i);
	pthread_mutex_destroy(&i->lock);
	free(i->name);
	free((struct node *)i);
}

/* Drops `refs` and `nlookup`, and with the last one the node, and so on upwards. Called
 * and left with inodes_lock held; nodes to be freed are collected in *dead. */
static void release_locked(struct fs_mount *m, struct fs_inode *i, uint64_t refs,
			   uint64_t nlookup, struct fs_inode **dead)
{
	while (i && i != &m->tree.root) {
		struct fs_inode *parent = i->parent;

		i->refs -= refs;
		i->nlookup -= nlookup < i->nlookup ? nlookup : i->nlookup;
		if (i->refs || i->nlookup)
			return;
		fs_inode_table_remove(m->tree.inodes, i);
		i->hash_next = *dead;
		*dead = i;
		i = parent;
		refs = 1;
		nlookup = 0;
	}
}

/* Frees the collected nodes, without inodes_lock. */
static void nodes_free(struct fs_mount *m, struct fs_inode *dead)
{
	while (dead) {
		struct fs_inode *next = dead->hash_next;

		fs_node_free(m, dead);
		dead = next;
	}
}

static void release(struct fs_mount *m, struct fs_inode *i, uint64_t refs,
		    uint64_t nlookup)
{
	struct fs_inode *dead = NULL;

	pthread_mutex_lock(&m->tree.inodes->lock);
	release_locked(m, i, refs, nlookup, &dead);
	pthread_mutex_unlock(&m->tree.inodes->lock);
	nodes_free(m, dead);
}

struct fs_inode *fs_inode_ref(struct fs_mount *m, struct fs_inode *i)
{
	pthread_mutex_lock(&m->tree.inodes->lock);
	i->refs++;
	pthread_mutex_unlock(&m->tree.inodes->lock);
	return i;
}

void fs_inode_unref(struct fs_mount *m, struct fs_inode *i)
{
	if (i)
		release(m, i, 1, 0);
}

void fs_inode_to_kernel(struct fs_mount *m, struct fs_inode *i)
{
	pthread_mutex_lock(&m->tree.inodes->lock);
	i->nlookup++;
	if (i != &m->tree.root)
		i->refs--;
	pthread_mutex_unlock(&m->tree.inodes->lock);
}

void fs_inode_forget(struct fs_mount *m, struct fs_inode *i, uint64_t nlookup)
{
	/* The kernel has forgotten the node, so its file may be deleted, and must not be
	 * kept open. */
	const struct fs_class_ops *ops = fs_class_of(m, i);
	bool last = false;

	if (ops->forgotten) {
		pthread_mutex_lock(&m->tree.inodes->lock);
		last = i->nlookup <= nlookup;
		i->refs += last;
		pthread_mutex_unlock(&m->tree.inodes->lock);
	}
	release(m, i, 0, nlookup);
	if (last) {
		ops->forgotten(m, i);
		fs_inode_unref(m, i);
	}
}

struct fs_inode *fs_inode_of(struct fs_mount *m, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID
		   ? &m->tree.root
		   : (struct fs_inode *)(uintptr_t)(ino & ~FS_EDITION_MASK);
}

fuse_ino_t fs_inode_number(const struct fs_mount *m, const struct fs_inode *i)
{
	return i == &m->tree.root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)i | i->edition;
}

struct fs_inode *fs_inode_find(struct fs_mount *m, dev_t dev, ino_t ino,
			       enum jsonl_class class)
{
	struct fs_inode *i;

	pthread_mutex_lock(&m->tree.inodes->lock);
	i = fs_inode_table_find(m->tree.inodes, dev, ino, class);
	if (i)
		i->refs++;
	pthread_mutex_unlock(&m->tree.inodes->lock);
	return i;
}

struct fs_inode *fs_inodes_find(struct fs_mount *m, bool (*fn)(const struct fs_inode *i))
{
	struct fs_inode_table *t = m->tree.inodes;
	struct fs_inode *found = NULL;

	pthread_mutex_lock(&t->lock);
	for (size_t k = 0; k < t->size && !found; k++)
		for (struct fs_inode *i = t->slots[k]; i && !found; i = i->hash_next)
			if (fn(i))
				found = i;
	if (found)
		found->refs++;
	pthread_mutex_unlock(&t->lock);
	return found;
}

fuse_ino_t fs_inode_number_as(struct fs_mount *m, const struct fs_inode *i,
			      enum jsonl_class class)
{
	const struct fs_inode *other;
	fuse_ino_t number;

	pthread_mutex_lock(&m->tree.inodes->lock);
	other = fs_inode_table_find(m->tree.inodes, i->dev, i->ino, class);
	/* We hold no reference: it may be forgotten once the lock is released. */
	number = other ? fs_inode_number(m, other) : 0;
	pthread_mutex_unlock(&m->tree.inodes->lock);
	return number;
}

/* ---- names ---- */

/* Returns true when the place of a node must be known: directories make the paths of
 * others, the depth of links says where they lead, governed files are named in the log,
 * and without file handles there is no other way back to a file. */
static bool is_placed(const struct fs_mount *m, const struct fs_inode *i)
{
	return i->type == S_IFDIR ||
	       (i->type == S_IFLNK && m->vault.config.links == JSONL_LINKS_INSIDE) ||
	       i->class != JSONL_CLASS_PLAIN || !fs_identity_handles(m);
}

/* Notes where the node was found last. Under inodes_lock; a parent that is no longer
 * needed goes to *dead. Without memory the old place stays. */
static void place(struct fs_mount *m, struct fs_inode *i, struct fs_inode *parent,
		  const char *name, struct fs_inode **dead)
{
	struct fs_inode *old = i->parent;
	char *copy;

	if (i == &m->tree.root || i == parent)
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
	struct fs_inode *dead = NULL;

	if (!is_placed(m, dir))
		return;
	pthread_mutex_lock(&m->tree.inodes->lock);
	place(m, dir, parent, name, &dead);
	pthread_mutex_unlock(&m->tree.inodes->lock);
	nodes_free(m, dead);
}

/* ---- finding nodes ---- */

/* Makes the lock recursive: opening the file with the lock held may ask the file's
 * handles (descriptor.c). */
static void lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(lock, &attr);
	pthread_mutexattr_destroy(&attr);
}

struct fs_inode *fs_node_new(struct fs_mount *m, const struct stat *st,
			     enum jsonl_class class, const struct fs_file_handle *h)
{
	const size_t class_at = ALIGNED(sizeof(struct node) + h->bytes);
	struct node *n = calloc(1, class_at + m->tree.classes[class]->node_size);

	if (!n)
		return NULL;
	n->inode.dev = st->st_dev;
	n->inode.ino = st->st_ino;
	n->inode.class = class;
	n->inode.type = st->st_mode & S_IFMT;
	n->inode.priv = &n->priv;
	n->inode.of_class = (char *)n + class_at;
	lock_init(&n->inode.lock);
	n->priv.fd = -1;
	n->priv.mount = (signed char)h->mount;
	n->priv.handle_bytes = (unsigned char)h->bytes;
	n->priv.handle_type = h->type;
	memcpy(n->priv.handle, h->data, h->bytes);
	return &n->inode;
}

struct fs_inode *fs_node_enter(struct fs_mount *m, struct fs_inode *parent,
			       const char *name, struct fs_inode **spare,
			       const struct fs_file_handle *h)
{
	struct fs_inode *want = *spare, *i, *dead = NULL;

	pthread_mutex_lock(&m->tree.inodes->lock);
	i = fs_inode_table_find(m->tree.inodes, want->dev, want->ino, want->class);
	if (i && !fs_inode_is_file(i, want->type, h)) {
		fs_inode_table_remove(m->tree.inodes, i); /* the number has a new owner */
		i = NULL;
	}
	if (!i) {
		i = want;
		*spare = NULL;
		fs_inode_table_insert(m->tree.inodes, i);
	}
	i->refs++;
	if (is_placed(m, i))
		place(m, i, parent, name, &dead);
	pthread_mutex_unlock(&m->tree.inodes->lock);
	nodes_free(m, dead);
	return i;
}

void fs_inode_rebind(struct fs_mount *m, struct fs_inode *i,
		     const struct fs_file_handle *h, ino_t ino, int fd)
{
	struct fs_inode *other;

	pthread_mutex_lock(&m->tree.inodes->lock);
	fs_inode_table_remove(m->tree.inodes, i);
	/* If another node has this number its file is gone, whoever still holds the
	 * node. */
	other = fs_inode_table_find(m->tree.inodes, i->dev, ino, i->class);
	if (other)
		fs_inode_table_remove(m->tree.inodes, other);
	i->was[2] = i->was[1];
	i->was[1] = i->was[0];
	i->was[0] = i->ino;
	i->ino = ino;
	fs_descriptor_rebind(m, i, h->data, fd);
	fs_inode_table_insert(m->tree.inodes, i);
	pthread_mutex_unlock(&m->tree.inodes->lock);
}

/* ---- beginning and end ---- */

int fs_inode_table_init(struct fs_mount *m)
{
	struct fs_inode_table *t = calloc(1, sizeof(*t));
	struct fs_inode *root = &m->tree.root;
	struct stat st;

	if (!t)
		return -ENOMEM;
	t->slots = calloc(TABLE_FIRST_SIZE, sizeof(struct fs_inode *));
	root->of_class = calloc(1, m->tree.classes[JSONL_CLASS_PLAIN]->node_size);
	if (!t->slots || !root->of_class || fstat(m->vault.root_fd, &st)) {
		int r = t->slots && root->of_class ? -errno : -ENOMEM;

		free(root->of_class);
		free(t->slots);
		free(t);
		return r;
	}
	t->size = TABLE_FIRST_SIZE;
	pthread_mutex_init(&t->lock, NULL);
	m->tree.inodes = t;
	root->dev = st.st_dev;
	root->ino = st.st_ino;
	root->class = JSONL_CLASS_PLAIN;
	root->type = S_IFDIR;
	root->refs = 1;
	root->priv = &t->root;
	root->priv->fd = m->vault.root_fd;
	root->priv->mount = -1;
	root->priv->device = (unsigned char)fs_identity_device(m, st.st_dev);
	lock_init(&root->lock);
	fs_inode_table_insert(m->tree.inodes, root);
	return 0;
}

void fs_inode_table_deinit(struct fs_mount *m)
{
	struct fs_inode_table *t = m->tree.inodes;

	if (!t)
		return;
	for (size_t k = 0; k < t->size; k++) {
		for (struct fs_inode *i = t->slots[k], *next; i; i = next) {
			next = i->hash_next;
			if (i != &m->tree.root)
				fs_node_free(m, i);
		}
	}
	class_free(m, &m->tree.root);
	free(m->tree.root.of_class);
	pthread_mutex_destroy(&m->tree.root.lock);
	pthread_mutex_destroy(&t->lock);
	free(t->slots);
	free(t);
	m->tree.inodes = NULL;
}
