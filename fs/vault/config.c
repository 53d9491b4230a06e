/* SPDX-License-Identifier: MIT */
#include "vault/config.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "rules/config.h"
#include "vault/vault.h"

const struct jsonl_config *fs_config_get(struct fs_vault *v)
{
	pthread_mutex_lock(&v->snapshot.lock);
	return v->snapshot.fresh ? &v->snapshot.config : &v->config;
}

void fs_config_put(struct fs_vault *v)
{
	pthread_mutex_unlock(&v->snapshot.lock);
}

void fs_snapshot_init(struct fs_snapshot *s)
{
	pthread_mutex_init(&s->lock, NULL);
}

void fs_snapshot_deinit(struct fs_snapshot *s)
{
	if (s->fresh)
		jsonl_config_deinit(&s->config);
	pthread_mutex_destroy(&s->lock);
}

void fs_snapshot_set(struct fs_snapshot *s, const struct jsonl_config *config)
{
	pthread_mutex_lock(&s->lock);
	if (s->fresh)
		jsonl_config_deinit(&s->config);
	s->config = *config;
	s->fresh = true;
	pthread_mutex_unlock(&s->lock);
}
