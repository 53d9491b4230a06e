#include "stats.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_SIZE 4096 /* chains; power of two */

struct entry {
	struct fs_writer_stats stats;
	struct entry *next;	  /* in its chain */
	struct entry *next_added; /* all of them, newest first */
};

struct fs_stats_table {
	pthread_mutex_t lock;
	/* Under lock; entries stay until fs_stats_deinit: */
	struct entry *chains[TABLE_SIZE];
	struct entry *all;
	size_t count;
	struct entry
	    other; /* what has no entry of its own; constant but for its counters */
};

int fs_stats_init(struct fs_stats *s)
{
	struct fs_stats_table *t = calloc(1, sizeof(*t));

	memset(s, 0, sizeof(*s));
	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	t->other.stats.program = "(other)";
	t->other.stats.path = "";
	t->other.stats.uid = (uid_t)-1;
	s->table = t;
	return 0;
}

void fs_stats_deinit(struct fs_stats *s)
{
	struct fs_stats_table *t = s->table;

	if (!t)
		return;
	while (t->all) {
		struct entry *e = t->all;

		t->all = e->next_added;
		free(e);
	}
	pthread_mutex_destroy(&t->lock);
	free(t);
	s->table = NULL;
}

static size_t hash_text(size_t h, const char *s)
{
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x01000193U;
	return h;
}

/* One allocation: the entry and, behind it, its two texts. */
static struct entry *entry_new(const char *program, uid_t uid, const char *path)
{
	size_t plen = strlen(program) + 1, flen = strlen(path) + 1;
	struct entry *e = calloc(1, sizeof(*e) + plen + flen);
	char *texts;

	if (!e)
		return NULL;
	texts = (char *)(e + 1);
	e->stats.program = memcpy(texts, program, plen);
	e->stats.path = memcpy(texts + plen, path, flen);
	e->stats.uid = uid;
	return e;
}

struct fs_writer_stats *fs_stats_writer(struct fs_stats *s, const char *program,
					uid_t uid, const char *path)
{
	struct fs_stats_table *t = s->table;
	size_t chain = hash_text(hash_text(2166136261U ^ uid, program) * 31, path);
	struct entry *e;

	chain = (chain ^ chain >> 16) % TABLE_SIZE;
	pthread_mutex_lock(&t->lock);
	for (e = t->chains[chain]; e; e = e->next)
		if (e->stats.uid == uid && strcmp(e->stats.program, program) == 0 &&
		    strcmp(e->stats.path, path) == 0)
			break;
	if (!e && t->count < FS_STATS_MAX_WRITERS &&
	    (e = entry_new(program, uid, path))) {
		e->next = t->chains[chain];
		t->chains[chain] = e;
		e->next_added = t->all;
		t->all = e;
		t->count++;
	}
	pthread_mutex_unlock(&t->lock);
	return e ? &e->stats : &t->other.stats;
}

void fs_stats_each(struct fs_stats *s,
		   void (*fn)(void *ctx, const struct fs_writer_stats *w), void *ctx)
{
	struct fs_stats_table *t = s->table;

	pthread_mutex_lock(&t->lock);
	for (const struct entry *e = t->all; e; e = e->next_added)
		fn(ctx, &e->stats);
	/* Only when something had to be counted there. */
	if (atomic_load(&t->other.stats.opens) || atomic_load(&t->other.stats.records) ||
	    atomic_load(&t->other.stats.refused))
		fn(ctx, &t->other.stats);
	pthread_mutex_unlock(&t->lock);
}
