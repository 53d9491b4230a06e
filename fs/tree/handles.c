/* SPDX-License-Identifier: MIT */
#include "tree/handles.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "rules/config.h"
#include "tree/classes.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "vault/account.h"
#include "vault/vault.h"

struct fs_handle_list {
	pthread_mutex_t lock; /* a leaf */
	struct fs_handle *first;
};

int fs_handles_init(struct fs_mount *m)
{
	struct fs_handle_list *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	pthread_mutex_init(&l->lock, NULL);
	m->tree.handles = l;
	return 0;
}

void fs_handles_deinit(struct fs_mount *m)
{
	struct fs_handle_list *l = m->tree.handles;

	if (!l)
		return;
	pthread_mutex_destroy(&l->lock);
	free(l);
	m->tree.handles = NULL;
}

void fs_handles_each(struct fs_mount *m, bool (*fn)(struct fs_handle *h, void *ctx),
		     void *ctx)
{
	struct fs_handle_list *l = m->tree.handles;

	pthread_mutex_lock(&l->lock);
	for (struct fs_handle *h = l->first; h && fn(h, ctx); h = h->next)
		;
	pthread_mutex_unlock(&l->lock);
}

struct fs_handle *fs_handles_first(struct fs_mount *m)
{
	struct fs_handle *h;

	pthread_mutex_lock(&m->tree.handles->lock);
	h = m->tree.handles->first;
	pthread_mutex_unlock(&m->tree.handles->lock);
	return h;
}

static unsigned *handles_like(struct fs_inode *inode, const struct fs_handle *h)
{
	return (h->flags & O_ACCMODE) != O_RDONLY ? &inode->writers : &inode->readers;
}

void fs_handle_link(struct fs_mount *m, struct fs_handle *h, struct fs_inode *inode)
{
	h->inode = fs_inode_ref(m, inode);
	h->edition = inode->edition;
	if (!h->opened) /* keeps the number that the kernel opened */
		h->opened = inode->ino;
	pthread_mutex_lock(&inode->lock);
	h->next_of_inode = inode->handles;
	h->pprev_of_inode = &inode->handles;
	if (h->next_of_inode)
		h->next_of_inode->pprev_of_inode = &h->next_of_inode;
	inode->handles = h;
	(*handles_like(inode, h))++;
	pthread_mutex_unlock(&inode->lock);
	pthread_mutex_lock(&m->tree.handles->lock);
	h->next = m->tree.handles->first;
	h->pprev = &m->tree.handles->first;
	if (h->next)
		h->next->pprev = &h->next;
	m->tree.handles->first = h;
	pthread_mutex_unlock(&m->tree.handles->lock);
}

void fs_handle_unlink(struct fs_mount *m, struct fs_handle *h)
{
	struct fs_inode *inode = h->inode;

	pthread_mutex_lock(&m->tree.handles->lock);
	*h->pprev = h->next;
	if (h->next)
		h->next->pprev = h->pprev;
	pthread_mutex_unlock(&m->tree.handles->lock);
	pthread_mutex_lock(&inode->lock);
	*h->pprev_of_inode = h->next_of_inode;
	if (h->next_of_inode)
		h->next_of_inode->pprev_of_inode = h->pprev_of_inode;
	(*handles_like(inode, h))--;
	pthread_mutex_unlock(&inode->lock);
	h->inode = NULL;
	fs_account_descriptor_close(h->payer);
	h->payer = NULL;
	fs_inode_unref(m, inode);
}

int fs_handle_pay(fuse_req_t req, const struct fs_inode *i, struct fs_account **payer)
{
	struct fs_mount *m = fs_mount_of(req);

	*payer = NULL;
	if (!i->virtual && fs_class_of(m, i)->any_fd)
		return 0;
	return fs_account_descriptor(&m->vault, fuse_req_ctx(req)->uid, payer);
}

static bool is_written(struct fs_mount *m, dev_t dev, ino_t ino, enum jsonl_class class)
{
	struct fs_inode *i = fs_inode_find(m, dev, ino, class);
	bool is;

	if (!i)
		return false;
	pthread_mutex_lock(&i->lock);
	is = i->writers > 0;
	pthread_mutex_unlock(&i->lock);
	fs_inode_unref(m, i);
	return is;
}

bool fs_inode_is_written(struct fs_vault *v, dev_t dev, ino_t ino)
{
	struct fs_mount *m = (struct fs_mount *)v;

	return is_written(m, dev, ino, JSONL_CLASS_GOVERNED) ||
	       is_written(m, dev, ino, JSONL_CLASS_PLAIN);
}
