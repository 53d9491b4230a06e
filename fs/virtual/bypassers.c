/* SPDX-License-Identifier: MIT */
#include "virtual/bypassers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define BYPASSERS_MAX 256

struct fs_bypassers {
	pthread_mutex_t lock; /* lock of the rest */
	struct fs_bypasser list[BYPASSERS_MAX];
	size_t count;
};

struct fs_bypassers *fs_bypassers_new(void)
{
	struct fs_bypassers *b = calloc(1, sizeof(*b));

	if (b)
		pthread_mutex_init(&b->lock, NULL);
	return b;
}

void fs_bypassers_free(struct fs_bypassers *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->count; i++) {
		free((char *)b->list[i].program);
		free((char *)b->list[i].path);
	}
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static bool add_locked(struct fs_bypassers *b, const struct fs_bypasser *one)
{
	struct fs_bypasser *new = &b->list[b->count];

	for (size_t i = 0; i < b->count; i++) {
		if (b->list[i].pid == one->pid && strcmp(b->list[i].path, one->path) == 0)
			return false;
	}
	if (b->count == BYPASSERS_MAX)
		return false;
	*new = *one;
	new->program = strdup(one->program);
	new->path = strdup(one->path);
	if (!new->program || !new->path) {
		free((char *)new->program);
		free((char *)new->path);
		return false;
	}
	b->count++;
	return true;
}

bool fs_bypassers_add(struct fs_bypassers *b, const struct fs_bypasser *one)
{
	bool added;

	if (!b)
		return true; /* it is not remembered, but reported */
	pthread_mutex_lock(&b->lock);
	added = add_locked(b, one);
	pthread_mutex_unlock(&b->lock);
	return added;
}

size_t fs_bypassers_each(struct fs_bypassers *b,
			 void (*each)(void *ctx, const struct fs_bypasser *one),
			 void *ctx)
{
	size_t alive = 0;

	if (!b)
		return 0;
	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; i < b->count; i++) {
		if (kill(b->list[i].pid, 0) && errno == ESRCH)
			continue;
		alive++;
		if (each)
			each(ctx, &b->list[i]);
	}
	pthread_mutex_unlock(&b->lock);
	return alive;
}
