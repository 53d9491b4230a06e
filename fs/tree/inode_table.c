/* SPDX-License-Identifier: MIT */
#include "tree/inode_table.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tree/identity.h"

static size_t key_hash(const struct fs_inode_table *t, dev_t dev, ino_t ino)
{
	uint64_t h = ((uint64_t)ino ^ ((uint64_t)dev << 40)) * 0x9e3779b97f4a7c15ULL;

	return (size_t)(h >> 20) & (t->size - 1);
}

static void table_grow(struct fs_inode_table *t)
{
	size_t old_size = t->size;
	struct fs_inode **old = t->slots;
	struct fs_inode **new = calloc(old_size * 2, sizeof(struct fs_inode *));

	if (!new)
		return; /* longer chains */
	t->slots = new;
	t->size = old_size * 2;
	for (size_t k = 0; k < old_size; k++) {
		for (struct fs_inode *i = old[k], *next; i; i = next) {
			struct fs_inode **head = &t->slots[key_hash(t, i->dev, i->ino)];

			next = i->hash_next;
			i->hash_next = *head;
			*head = i;
		}
	}
	free(old);
}

void fs_inode_table_insert(struct fs_inode_table *t, struct fs_inode *i)
{
	struct fs_inode **head;

	if (t->count >= t->size)
		table_grow(t);
	head = &t->slots[key_hash(t, i->dev, i->ino)];
	i->hash_next = *head;
	*head = i;
	i->priv->hashed = true;
	t->count++;
}

void fs_inode_table_remove(struct fs_inode_table *t, struct fs_inode *i)
{
	struct fs_inode **at = &t->slots[key_hash(t, i->dev, i->ino)];

	if (!i->priv->hashed)
		return;
	while (*at != i)
		at = &(*at)->hash_next;
	*at = i->hash_next;
	i->priv->hashed = false;
	t->count--;
}

struct fs_inode *fs_inode_table_find(struct fs_inode_table *t, dev_t dev, ino_t ino,
				     enum jsonl_class class)
{
	struct fs_inode *i = t->slots[key_hash(t, dev, ino)];

	while (i && (i->dev != dev || i->ino != ino || i->class != class))
		i = i->hash_next;
	return i;
}

bool fs_inode_is_file(const struct fs_inode *i, mode_t type,
		      const struct fs_file_handle *h)
{
	const struct fs_inode_private *p = i->priv;

	if (i->type != type)
		return false;
	if (!p->handle_bytes || !h->bytes)
		return true;
	return p->handle_bytes == h->bytes && p->handle_type == h->type &&
	       memcmp(p->handle, h->data, h->bytes) == 0;
}
