/* SPDX-License-Identifier: MIT */
#include "rules/policy.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "rules/ruleset.h"

/* One combination of settings. There are few, however many the files; each is kept as
 * long as the policy, and files and handles point to it. */
struct interned {
	struct jsonl_settings settings;
	struct interned *next;
};

struct jsonl_policy {
	pthread_rwlock_t lock;
	struct jsonl_ruleset *set; /* under lock */
	_Atomic unsigned serial;
	uint64_t longest; /* see jsonl_policy_longest */
	pthread_mutex_t interned_lock;
	struct interned *interned; /* under interned_lock */
};

int jsonl_policy_new(const struct jsonl_config *config, struct jsonl_policy **policy,
		     char **error)
{
	pthread_rwlockattr_t attr;
	struct jsonl_policy *p;
	int r;

	if (error)
		*error = NULL;
	p = calloc(1, sizeof(*p));
	r = p ? jsonl_ruleset_new(config, &p->set, error) : -ENOMEM;
	if (r) {
		free(p);
		return r;
	}
	/* Writers have priority: a reload must get the lock although readers come all
	 * the time. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&p->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&p->interned_lock, NULL);
	*policy = p;
	return 0;
}

void jsonl_policy_free(struct jsonl_policy *policy)
{
	if (!policy)
		return;
	jsonl_ruleset_free(policy->set);
	for (struct interned *i = policy->interned, *next; i; i = next) {
		next = i->next;
		free(i);
	}
	pthread_rwlock_destroy(&policy->lock);
	pthread_mutex_destroy(&policy->interned_lock);
	free(policy);
}

int jsonl_policy_reload(struct jsonl_policy *policy, const struct jsonl_config *config,
			char **error)
{
	struct jsonl_ruleset *new, *old;
	int r;

	if (error)
		*error = NULL;
	r = jsonl_ruleset_new(config, &new, error);
	if (r)
		return r;
	pthread_rwlock_wrlock(&policy->lock);
	old = policy->set;
	policy->set = new;
	policy->serial++;
	pthread_rwlock_unlock(&policy->lock);
	jsonl_ruleset_free(old);
	return 0;
}

unsigned jsonl_policy_serial(const struct jsonl_policy *policy)
{
	return policy->serial;
}

/* ---- asking ---- */

/* Returns the current set, which stays valid until set_put. */
static const struct jsonl_ruleset *set_get(const struct jsonl_policy *policy)
{
	pthread_rwlock_rdlock((pthread_rwlock_t *)&policy->lock);
	return policy->set;
}

static void set_put(const struct jsonl_policy *policy)
{
	pthread_rwlock_unlock((pthread_rwlock_t *)&policy->lock);
}

enum jsonl_class jsonl_policy_classify(const struct jsonl_policy *policy,
				       const char *path)
{
	enum jsonl_class class = jsonl_ruleset_class(set_get(policy), path);

	set_put(policy);
	return class;
}

const struct jsonl_settings *jsonl_policy_settings(struct jsonl_policy *policy,
						   const char *path)
{
	struct jsonl_settings want;
	struct interned *i;

	jsonl_ruleset_settings(set_get(policy), path, &want);
	set_put(policy);
	want.limits.longest = policy->longest;
	pthread_mutex_lock(&policy->interned_lock);
	i = policy->interned;
	/* config.h: the padding is zeroed.
	 * NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
	while (i && memcmp(&i->settings, &want, sizeof(want)) != 0)
		i = i->next;
	if (!i && (i = malloc(sizeof(*i)))) {
		memcpy(&i->settings, &want, sizeof(want));
		i->next = policy->interned;
		policy->interned = i;
	}
	pthread_mutex_unlock(&policy->interned_lock);
	return i ? &i->settings : NULL;
}

void jsonl_policy_longest(struct jsonl_policy *policy, uint64_t bytes)
{
	policy->longest = bytes;
}

uint64_t jsonl_policy_maxrecord(const struct jsonl_policy *policy)
{
	uint64_t max = set_get(policy)->maxrecord;

	set_put(policy);
	return max;
}

bool jsonl_policy_rule_matches(const struct jsonl_policy *policy, size_t n,
			       const char *path)
{
	bool matches = jsonl_ruleset_rule_matches(set_get(policy), n, path);

	set_put(policy);
	return matches;
}

enum jsonl_class jsonl_policy_reason(const struct jsonl_policy *policy, const char *path,
				     struct jsonl_policy_reason *reason)
{
	enum jsonl_class class = jsonl_ruleset_reason(set_get(policy), path, reason);

	set_put(policy);
	return class;
}

bool jsonl_policy_may_govern(const struct jsonl_policy *policy, const char *name)
{
	bool may = jsonl_ruleset_may_govern(set_get(policy), name);

	set_put(policy);
	return may;
}

bool jsonl_policy_is_generation(const struct jsonl_policy *policy, const char *path)
{
	bool is = jsonl_ruleset_is_generation(set_get(policy), path);

	set_put(policy);
	return is;
}

bool jsonl_policy_may_be_generation(const struct jsonl_policy *policy, const char *name)
{
	bool may = jsonl_ruleset_may_be_generation(set_get(policy), name);

	set_put(policy);
	return may;
}

bool jsonl_policy_live_of(const struct jsonl_policy *policy, const char *path,
			  size_t *live)
{
	bool is = jsonl_ruleset_live_of(set_get(policy), path, live);

	set_put(policy);
	return is;
}

bool jsonl_policy_generation_of(const struct jsonl_policy *policy, const char *live,
				const char *gen)
{
	bool is = jsonl_ruleset_generation_of(set_get(policy), live, gen);

	set_put(policy);
	return is;
}

bool jsonl_policy_rename_may_cross(const struct jsonl_policy *policy, const char *from,
				   const char *to)
{
	bool may = jsonl_ruleset_rename_may_cross(set_get(policy), from, to);

	set_put(policy);
	return may;
}
