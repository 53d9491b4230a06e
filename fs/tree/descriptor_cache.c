/* SPDX-License-Identifier: MIT */
#include "tree/descriptor_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "tree/inode.h"

/* Keeps a descriptor that could not be made to refer to the file that has taken the
 * place of another. Its present users go on with the old file. */
struct outlived {
	struct outlived *next;
	int fd;
	unsigned pins;
};

struct fs_descriptors {
	const struct jsonl_io *io;
	pthread_mutex_t lock; /* a leaf: nothing is taken under it */
	struct outlived *outlived;
	struct fs_inode_private *lru_first, *lru_last;
	size_t cached, cached_max; /* descriptors in the cache, pinned ones included */
};

/* ---- under the lock ---- */

static void lru_remove(struct fs_descriptors *t, struct fs_inode_private *p)
{
	*(p->lru_prev ? &p->lru_prev->lru_next : &t->lru_first) = p->lru_next;
	*(p->lru_next ? &p->lru_next->lru_prev : &t->lru_last) = p->lru_prev;
	p->lru_prev = p->lru_next = NULL;
}

static void lru_append(struct fs_descriptors *t, struct fs_inode_private *p)
{
	p->lru_prev = t->lru_last;
	p->lru_next = NULL;
	*(t->lru_last ? &t->lru_last->lru_next : &t->lru_first) = p;
	t->lru_last = p;
}

/* Takes the oldest descriptor that nobody uses out of the cache; -1: there is none. */
static int lru_evict(struct fs_descriptors *t)
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

/* Takes the descriptor away from the node. Returns it if the caller must close it, else
 * -1. Without memory it stays open until the daemon ends. */
static int outlive(struct fs_descriptors *t, struct fs_inode_private *p)
{
	struct outlived *o = p->pins ? malloc(sizeof(*o)) : NULL;
	int fd = p->fd;

	if (!p->pins && !p->keep)
		lru_remove(t, p);
	if (o) {
		*o = (struct outlived){t->outlived, fd, p->pins};
		t->outlived = o;
	}
	if (p->pins)
		fd = -1;
	p->pins = 0;
	p->fd = -1;
	t->cached--;
	return fd;
}

/* Ends one use of such a number; returns it when that was the last, else -1. */
static int outlived_put(struct fs_descriptors *t, int fd)
{
	for (struct outlived **at = &t->outlived; *at; at = &(*at)->next) {
		struct outlived *o = *at;

		if (o->fd != fd)
			continue;
		if (--o->pins)
			return -1;
		*at = o->next;
		free(o);
		return fd;
	}
	return -1;
}

/* ---- the cache ---- */

struct fs_descriptors *fs_descriptors_new(const struct jsonl_io *io, size_t max)
{
	struct fs_descriptors *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->io = io;
	t->cached_max = max;
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void fs_descriptors_free(struct fs_descriptors *t)
{
	if (!t)
		return;
	for (struct outlived *o = t->outlived, *next; o; o = next) {
		next = o->next;
		close(o->fd);
		free(o);
	}
	pthread_mutex_destroy(&t->lock);
	free(t);
}

int fs_descriptors_pin(struct fs_descriptors *t, struct fs_inode_private *p)
{
	int fd;

	pthread_mutex_lock(&t->lock);
	fd = p->fd;
	if (fd >= 0 && !p->pins++ && !p->keep)
		lru_remove(t, p);
	pthread_mutex_unlock(&t->lock);
	return fd;
}

void fs_descriptors_unpin(struct fs_descriptors *t, struct fs_inode_private *p, int fd)
{
	cleanup_close int victim = -1; /* which keeps errno for the caller */

	pthread_mutex_lock(&t->lock);
	if (fd != p->fd) {
		victim = outlived_put(t, fd);
	} else if (!--p->pins && !p->keep) {
		lru_append(t, p);
		if (t->cached > t->cached_max)
			victim = lru_evict(t);
	}
	pthread_mutex_unlock(&t->lock);
}

int fs_descriptors_enter(struct fs_descriptors *t, struct fs_inode_private *p, int fd,
			 bool pin)
{
	int victim = -1;

	pthread_mutex_lock(&t->lock);
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
	pthread_mutex_unlock(&t->lock);
	if (victim >= 0)
		close(victim);
	return fd;
}

void fs_descriptors_keep(struct fs_descriptors *t, struct fs_inode_private *p)
{
	pthread_mutex_lock(&t->lock);
	p->keep = true; /* pinned at this moment, so in no list */
	pthread_mutex_unlock(&t->lock);
}

void fs_descriptors_rebind(struct fs_descriptors *t, struct fs_inode_private *p,
			   const void *handle, int fd)
{
	cleanup_close int old = -1;

	pthread_mutex_lock(&t->lock);
	memcpy(p->handle, handle, p->handle_bytes);
	if (p->fd >= 0 && t->io->refer(t->io, fd, p->fd))
		old = outlive(t, p);
	pthread_mutex_unlock(&t->lock);
	(void)fs_descriptors_enter(t, p, fd, false);
}

void fs_descriptors_drop(struct fs_descriptors *t, struct fs_inode_private *p)
{
	cleanup_close int fd = -1;

	pthread_mutex_lock(&t->lock);
	fd = p->fd;
	if (fd >= 0) {
		if (!p->pins && !p->keep)
			lru_remove(t, p);
		p->fd = -1;
		t->cached--;
	}
	pthread_mutex_unlock(&t->lock);
}

bool fs_descriptors_shrink(struct fs_descriptors *t)
{
	size_t n = 0, want;
	int fd = 0;

	pthread_mutex_lock(&t->lock);
	for (want = t->cached / 2 + 1; n < want && fd >= 0; n++) {
		fd = lru_evict(t);
		if (fd >= 0)
			close(fd);
	}
	pthread_mutex_unlock(&t->lock);
	return n > 1;
}

void fs_descriptors_handle(struct fs_descriptors *t, const struct fs_inode_private *p,
			   void *handle)
{
	pthread_mutex_lock(&t->lock);
	memcpy(handle, p->handle, p->handle_bytes);
	pthread_mutex_unlock(&t->lock);
}
