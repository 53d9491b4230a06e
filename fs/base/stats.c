/* SPDX-License-Identifier: MIT */
#include "base/stats.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_SIZE 4096 /* number of chains; a power of two */

#define TABLE_USERS 256  /* chains of shares */
#define TABLE_TOP   1024 /* entries beyond the maximum; each user gets */
#define TABLE_LEAST 16	 /* so many of them */

struct entry {
	struct fs_writer_stats stats; /* the first member: see fs_stats_next */
	struct entry *next;	      /* in its chain */
	struct entry *older;	      /* in the list of all; constant */
};

/* Counts the entries of a user. */
struct share {
	uid_t uid;
	size_t count;
	struct share *next;
};

struct fs_stats_table {
	uid_t owner; /* constant */
	pthread_mutex_t lock;
	/* Under lock; entries stay until fs_stats_deinit: */
	struct entry *chains[TABLE_SIZE];
	struct entry *all; /* newest first */
	size_t count;
	struct share *shares[TABLE_USERS];
	struct entry
	    /* counts everything without an entry of its own; constant but for its
	     * counters */
	    other;
};

int fs_stats_init(struct fs_stats *s, uid_t owner)
{
	struct fs_stats_table *t = calloc(1, sizeof(*t));

	memset(s, 0, sizeof(*s));
	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	t->owner = owner;
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

		t->all = e->older;
		free(e);
	}
	for (size_t i = 0; i < TABLE_USERS; i++) {
		while (t->shares[i]) {
			struct share *share = t->shares[i];

			t->shares[i] = share->next;
			free(share);
		}
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

/* Makes an entry in one allocation, with its two texts behind it. */
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

static struct share *share_of(struct fs_stats_table *t, uid_t uid)
{
	struct share **list = &t->shares[uid % TABLE_USERS], *share = *list;

	while (share && share->uid != uid)
		share = share->next;
	/* A new writer gets an entry with it: so shares are bounded, too. */
	if (share || t->count >= FS_STATS_MAX_WRITERS + TABLE_TOP ||
	    !(share = calloc(1, sizeof(*share))))
		return share;
	share->uid = uid;
	share->next = *list;
	*list = share;
	return share;
}

/* Returns true when this user may have one more entry. A few remain for each user, and
 * the last of those counts for all programs without an entry of their own. */
static bool has_room(const struct fs_stats_table *t, const struct share *share, bool rest)
{
	const size_t left =
	    t->count < FS_STATS_MAX_WRITERS ? FS_STATS_MAX_WRITERS - t->count : 0;

	if (rest || share->count < TABLE_LEAST - 1) /* a user has one such rest */
		return t->count < FS_STATS_MAX_WRITERS + TABLE_TOP;
	return share->uid == 0 || share->uid == t->owner ? left > 0 : share->count < left;
}

/* Makes an entry, under the lock. NULL: there is no room for it, or no memory. */
static struct entry *find_or_make(struct fs_stats_table *t, const char *program, uid_t uid,
				  const char *path, bool rest)
{
	size_t chain = hash_text(hash_text(2166136261U ^ uid, program) * 31, path);
	struct share *share;
	struct entry *e;

	chain = (chain ^ chain >> 16) % TABLE_SIZE;
	for (e = t->chains[chain]; e; e = e->next)
		if (e->stats.uid == uid && strcmp(e->stats.program, program) == 0 &&
		    strcmp(e->stats.path, path) == 0)
			return e;
	share = share_of(t, uid);
	if (!share || !has_room(t, share, rest) || !(e = entry_new(program, uid, path)))
		return NULL;
	e->next = t->chains[chain];
	t->chains[chain] = e;
	e->older = t->all;
	t->all = e;
	t->count++;
	share->count++;
	return e;
}

struct fs_writer_stats *fs_stats_writer(struct fs_stats *s, const char *program,
					uid_t uid, const char *path)
{
	struct fs_stats_table *t = s->table;
	struct entry *e;

	pthread_mutex_lock(&t->lock);
	e = find_or_make(t, program, uid, path, false);
	if (!e)
		e = find_or_make(t, t->other.stats.program, uid, "", true);
	pthread_mutex_unlock(&t->lock);
	return e ? &e->stats : &t->other.stats;
}

/* Returns the counters of the rest; NULL until something had to be counted there. */
static const struct fs_writer_stats *others(struct fs_stats_table *t)
{
	const struct fs_writer_stats *w = &t->other.stats;

	return atomic_load(&w->opens) || atomic_load(&w->records) || atomic_load(&w->refused)
		   ? w
		   : NULL;
}

const struct fs_writer_stats *fs_stats_first(struct fs_stats *s)
{
	struct fs_stats_table *t = s->table;
	const struct entry *e;

	pthread_mutex_lock(&t->lock);
	e = t->all;
	pthread_mutex_unlock(&t->lock);
	return e ? &e->stats : others(t);
}

const struct fs_writer_stats *fs_stats_next(struct fs_stats *s,
					    const struct fs_writer_stats *w)
{
	const struct entry *e = (const struct entry *)w;

	if (w == &s->table->other.stats)
		return NULL;
	return e->older ? &e->older->stats : others(s->table);
}
