#include "seen.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"

struct seen_entry {
	uint64_t path;	/* hash; 0: free */
	uint64_t start; /* of the process */
	pid_t tgid;
	struct fs_version version;
	uint64_t used; /* by the clock below */
};

struct fs_seen {
	pthread_mutex_t lock;
	uint64_t clock;
	struct seen_entry sets[FS_SEEN_SETS][FS_SEEN_WAYS];
};

int fs_seen_init(struct fs_mount *m)
{
	m->seen = calloc(1, sizeof(*m->seen));
	if (!m->seen)
		return -ENOMEM;
	pthread_mutex_init(&m->seen->lock, NULL);
	return 0;
}

void fs_seen_deinit(struct fs_mount *m)
{
	if (!m->seen)
		return;
	pthread_mutex_destroy(&m->seen->lock);
	free(steal_ptr(&m->seen));
}

static uint64_t hash_path(const char *s)
{
	uint64_t h = jsonl_hash(JSONL_HASH_START, s, strlen(s));

	return h ? h : 1;
}

/* Under lock. The entry of this pair, or with `make` the one to be used for it; NULL. */
static struct seen_entry *entry_find(struct fs_seen *t, const char *path,
				     const struct fs_process *p, bool make)
{
	uint64_t hash = hash_path(path);
	struct seen_entry *set =
	    t->sets[(hash ^ (hash >> 32) ^ (uint64_t)p->tgid) % FS_SEEN_SETS];
	struct seen_entry *oldest = set;

	for (int k = 0; k < FS_SEEN_WAYS; k++) {
		if (set[k].path == hash && set[k].tgid == p->tgid &&
		    set[k].start == p->start)
			return &set[k];
		if (set[k].used < oldest->used)
			oldest = &set[k];
	}
	if (!make)
		return NULL;
	*oldest = (struct seen_entry){.path = hash, .tgid = p->tgid, .start = p->start};
	return oldest;
}

void fs_seen_note(struct fs_mount *m, const char *path, const struct fs_process *p,
		  const struct fs_version *v)
{
	struct fs_seen *t = m->seen;
	struct seen_entry *e;

	pthread_mutex_lock(&t->lock);
	e = entry_find(t, path, p, true);
	e->version = *v;
	e->used = ++t->clock;
	pthread_mutex_unlock(&t->lock);
}

bool fs_seen_find(struct fs_mount *m, const char *path, const struct fs_process *p,
		  struct fs_version *v)
{
	struct fs_seen *t = m->seen;
	struct seen_entry *e;

	pthread_mutex_lock(&t->lock);
	e = entry_find(t, path, p, false);
	if (e)
		*v = e->version;
	pthread_mutex_unlock(&t->lock);
	return e;
}

void fs_seen_forget(struct fs_mount *m, const char *path, const struct fs_process *p)
{
	struct fs_seen *t = m->seen;
	struct seen_entry *e;

	pthread_mutex_lock(&t->lock);
	e = entry_find(t, path, p, false);
	if (e)
		*e = (struct seen_entry){0};
	pthread_mutex_unlock(&t->lock);
}
