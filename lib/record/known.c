/* SPDX-License-Identifier: MIT */
#include "record/known.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/hash.h"

#define HEADS (JSONL_KNOWN_LINES / 2)

/* A ring of lines, found by chains. Links are indices plus one; 0 ends a chain. */
struct share {
	struct jsonl_known_line lines[JSONL_KNOWN_LINES];
	uint16_t next[JSONL_KNOWN_LINES];
	uint16_t heads[HEADS];
	size_t count; /* lines ever added */
};

struct jsonl_known {
	pthread_mutex_t lock;
	uint64_t seed;
	struct share *shares[JSONL_KNOWN_SHARES]; /* NULL: no bad line so far */
};

int jsonl_known_new(struct jsonl_known **known)
{
	struct jsonl_known *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	pthread_mutex_init(&k->lock, NULL);
	if (getrandom(&k->seed, sizeof(k->seed), GRND_NONBLOCK) != sizeof(k->seed))
		k->seed = JSONL_HASH_START ^ (uint64_t)time(NULL);
	*known = k;
	return 0;
}

void jsonl_known_free(struct jsonl_known *k)
{
	if (!k)
		return;
	for (int i = 0; i < JSONL_KNOWN_SHARES; i++)
		free(k->shares[i]);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

uint64_t jsonl_known_seed(const struct jsonl_known *k)
{
	return k->seed;
}

static uint16_t *head_of(struct share *s, const struct jsonl_known_line *line)
{
	return &s->heads[jsonl_hash(line->hash, line, sizeof(*line)) % HEADS];
}

static bool share_find(struct share *s, const struct jsonl_known_line *line)
{
	for (uint16_t at = *head_of(s, line); at; at = s->next[at - 1]) {
		const struct jsonl_known_line *have = &s->lines[at - 1];

		if (have->source == line->source && have->hash == line->hash &&
		    have->len == line->len)
			return true;
	}
	return false;
}

static void share_add(struct share *s, const struct jsonl_known_line *line)
{
	size_t slot = s->count++ % JSONL_KNOWN_LINES;
	uint16_t *link;

	if (s->count > JSONL_KNOWN_LINES) {
		link = head_of(s, &s->lines[slot]);
		while (*link != slot + 1)
			link = &s->next[*link - 1];
		*link = s->next[slot];
	}
	s->lines[slot] = *line;
	link = head_of(s, line);
	s->next[slot] = *link;
	*link = (uint16_t)(slot + 1);
}

bool jsonl_known_find(struct jsonl_known *k, uint64_t share,
		      const struct jsonl_known_line *line, bool add)
{
	struct share **s = &k->shares[share % JSONL_KNOWN_SHARES];
	bool known;

	pthread_mutex_lock(&k->lock);
	known = *s && share_find(*s, line);
	if (!known && add && !*s)
		*s = calloc(1, sizeof(**s));
	if (!known && add && *s)
		share_add(*s, line);
	pthread_mutex_unlock(&k->lock);
	return known;
}
