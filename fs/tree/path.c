/* SPDX-License-Identifier: MIT */
#include "tree/path.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tree/inode.h"
#include "tree/inode_table.h"
#include "tree/mount.h"

void fs_path_of(struct fs_mount *m, struct fs_inode *i, char *buf, size_t size)
{
	int rc = fs_inode_path(m, i, NULL, buf, size);

	if (rc)
		snprintf(buf, size, "(inode %llu: %s)", (unsigned long long)i->ino,
			 jsonl_error_text(rc));
}

char *fs_inode_long_path(struct fs_mount *m, const struct fs_inode *i)
{
	size_t len = 0;
	char *path = NULL, *at;

	pthread_mutex_lock(&m->tree.inodes->lock);
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
	pthread_mutex_unlock(&m->tree.inodes->lock);
	return path;
}

int fs_inode_place(struct fs_mount *m, struct fs_inode *i, struct fs_inode **dir,
		   char **name)
{
	int r = -ENOENT;

	pthread_mutex_lock(&m->tree.inodes->lock);
	if (i->parent && i->name) {
		*name = strdup(i->name);
		r = *name ? 0 : -ENOMEM;
	}
	if (!r) {
		*dir = i->parent;
		i->parent->refs++;
	}
	pthread_mutex_unlock(&m->tree.inodes->lock);
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
	pthread_mutex_lock(&m->tree.inodes->lock);
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
	pthread_mutex_unlock(&m->tree.inodes->lock);
	if (!r)
		memmove(buf, at, (size_t)(end - at));
	return r;
}
