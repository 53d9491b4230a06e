/* SPDX-License-Identifier: MIT */
#include "base/seen.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/process.h"
#include "base/version.h"

struct seen_entry {
	uint64_t path;	/* hash; 0: free */
	uint64_t start; /* of the process */
	pid_t tgid;
	uid_t uid;
	struct fs_version version;
	uint64_t used; /* by the clock below */
};

struct fs_seen {
	pthread_mutex_t lock;
	uint64_t clock;
	struct seen_entry sets[FS_SEEN_SETS][FS_SEEN_WAYS];
};

struct fs_seen *fs_seen_new(void)
{
	struct fs_seen *t = calloc(1, sizeof(*t));

	if (t)
		pthread_mutex_init(&t->lock, NULL);
	return t;
}

void fs_seen_free(struct fs_seen *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static uint64_t hash_path(const char *s)
{
	uint64_t h = jsonl_hash(JSONL_HASH_START, s, strlen(s));

	return h ? h : 1;
}

static int count_of(const struct seen_entry *set, uid_t uid)
{
	int count = 0;

	for (int k = 0; k < FS_SEEN_WAYS; k++)
		count += set[k].path && set[k].uid == uid;
	return count;
}

/* Returns the entry of a set that makes room for one of this user. */
static struct seen_entry *entry_to_reuse(struct seen_entry *set, uid_t uid)
{
	struct seen_entry *best = NULL;
	int most = 0;

	for (int k = 0; k < FS_SEEN_WAYS; k++) {
		int count = count_of(set, set[k].uid) + (set[k].uid == uid);

		if (!set[k].path)
			return &set[k];
		if (!best || count > most || (count == most && set[k].used < best->used)) {
			best = &set[k];
			most = count;
		}
	}
	return best;
}

/* Finds an entry, under the lock. NULL: there is none. */
static struct seen_entry *entry_find(struct fs_seen *t, const char *path,
				     const struct fs_process *p, struct seen_entry **in)
{
	uint64_t hash = hash_path(path);
	struct seen_entry *set =
	    t->sets[(hash ^ (hash >> 32) ^ (uint64_t)p->tgid) % FS_SEEN_SETS];

	for (int k = 0; k < FS_SEEN_WAYS; k++) {
		if (set[k].path == hash && set[k].tgid == p->tgid &&
		    set[k].start == p->start)
			return &set[k];
	}
	if (in)
		*in = set;
	return NULL;
}

void fs_seen_note(struct fs_seen *t, const char *path, const struct fs_process *p,
		  uid_t uid, const struct fs_version *v)
{
	struct seen_entry *e, *set = NULL;

	pthread_mutex_lock(&t->lock);
	e = entry_find(t, path, p, &set);
	if (!e) {
		e = entry_to_reuse(set, uid);
		*e = (struct seen_entry){.path = hash_path(path),
					 .start = p->start,
					 .tgid = p->tgid,
					 .uid = uid};
	}
	e->version = *v;
	e->used = ++t->clock;
	pthread_mutex_unlock(&t->lock);
}

bool fs_seen_find(struct fs_seen *t, const char *path, const struct fs_process *p,
		  struct fs_version *v)
{
	struct seen_entry *e;

	pthread_mutex_lock(&t->lock);
	e = entry_find(t, path, p, NULL);
	if (e)
		*v = e->version;
	pthread_mutex_unlock(&t->lock);
	return e;
}

void fs_seen_forget(struct fs_seen *t, const char *path, const struct fs_process *p)
{
	struct seen_entry *e;

	pthread_mutex_lock(&t->lock);
	e = entry_find(t, path, p, NULL);
	if (e)
		*e = (struct seen_entry){0};
	pthread_mutex_unlock(&t->lock);
}
