/* SPDX-License-Identifier: MIT */
/* Holds the present configuration, which a reload changes. Any thread. */
#ifndef FS_VAULT_CONFIG_H
#define FS_VAULT_CONFIG_H

#include <pthread.h>
#include <stdbool.h>

#include "rules/config.h"

struct fs_vault;

/* Returns the present configuration, valid until _put; for reports. */
const struct jsonl_config *fs_config_get(struct fs_vault *v);
void fs_config_put(struct fs_vault *v);

/* The configuration that a reload has read; embedded in struct fs_vault. */
struct fs_snapshot {
	pthread_mutex_t lock; /* a leaf, not held while the file is read; under it: */
	bool fresh;	      /* `config` counts; else that of the mount */
	struct jsonl_config config;
};

void fs_snapshot_init(struct fs_snapshot *s);
void fs_snapshot_deinit(struct fs_snapshot *s);
/* Makes this the present configuration; taken over. */
void fs_snapshot_set(struct fs_snapshot *s, const struct jsonl_config *config);

#endif
