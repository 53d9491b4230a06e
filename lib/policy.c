#include "policy.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "generation.h"
#include "glob.h"

/* One glob of an option. Most are a star and an ending: those are compared directly. */
struct pattern {
	char *text;
	const char *ending; /* of the simple form: what follows the star; else NULL */
	size_t ending_len;
	const char *last; /* the part that a file name alone must match; NULL: any name */
	bool path;	  /* has a slash: matched against the path from the root */
};

struct patterns {
	struct pattern *items;
	size_t n;
	bool path; /* one of them has a slash */
};

struct rule {
	struct patterns match;
	bool classes; /* it gives a class */
	struct jsonl_rule values;
};

/* All that a reload exchanges. */
struct rules {
	struct patterns match, exclude, generations;
	struct jsonl_settings standard;
	struct rule *rules;
	size_t n;
	uint64_t maxrecord;
};

/* Settings are few, whatever the number of files: each combination is kept once, for
 * good, so that files and handles can point to theirs. */
struct interned {
	struct jsonl_settings settings;
	struct interned *next;
};

struct jsonl_policy {
	pthread_rwlock_t lock;
	struct rules *rules; /* under lock */
	_Atomic unsigned serial;
	pthread_mutex_t interned_lock;
	struct interned *interned; /* under interned_lock */
};

static bool is_literal(const char *s)
{
	return !strpbrk(s, "*?[\\/");
}

/* `**` and a slash before a plain file name pattern change nothing. */
static const char *skip_any_directory(const char *text)
{
	while (strncmp(text, "**/", 3) == 0)
		text += 3;
	return text;
}

static int pattern_init(struct pattern *p, const char *text, size_t len)
{
	const char *s, *slash;

	p->text = strndup(text, len);
	if (!p->text)
		return -ENOMEM;
	s = skip_any_directory(p->text);
	slash = strrchr(s, '/');
	p->path = slash != NULL;
	p->last = slash ? slash + 1 : s;
	if (strstr(p->last, "**") && p->path)
		p->last = NULL;
	if (!p->path) {
		memmove(p->text, s, strlen(s) + 1);
		p->last = p->text;
	}
	if (!p->path && p->text[0] == '*' && is_literal(p->text + 1)) {
		p->ending = p->text + 1;
		p->ending_len = strlen(p->ending);
	}
	return 0;
}

static int patterns_init(struct patterns *ps, const char *list)
{
	const char *next = list;
	size_t most = 1;

	for (const char *c = list; *c; c++)
		most += *c == ':';
	ps->items = calloc(most, sizeof(*ps->items));
	if (!ps->items)
		return -ENOMEM;
	while (next) {
		const char *text = next;
		size_t len = jsonl_glob_split(text, &next);
		int r;

		if (len == 0)
			continue;
		r = pattern_init(&ps->items[ps->n], text, len);
		if (r)
			return r;
		ps->path = ps->path || ps->items[ps->n].path;
		ps->n++;
	}
	return 0;
}

static void patterns_deinit(struct patterns *ps)
{
	for (size_t i = 0; i < ps->n; i++)
		free(ps->items[i].text);
	free(ps->items);
}

static bool name_matches(const struct pattern *p, const char *glob, const char *name,
			 size_t len)
{
	if (p->ending)
		return len >= p->ending_len &&
		       memcmp(name + len - p->ending_len, p->ending, p->ending_len) == 0;
	return !glob || jsonl_glob_match(glob, name, len);
}

/* path[0..len), whose file name begins at path + base. */
static bool patterns_match(const struct patterns *ps, const char *path, size_t base,
			   size_t len)
{
	for (size_t i = 0; i < ps->n; i++) {
		const struct pattern *p = &ps->items[i];

		if (p->path ? jsonl_glob_match(p->text, path, len)
			    : name_matches(p, p->text, path + base, len - base))
			return true;
	}
	return false;
}

/* By file name alone: false is certain where a pattern has a slash. */
static bool patterns_may_match(const struct patterns *ps, const char *name, size_t len)
{
	for (size_t i = 0; i < ps->n; i++) {
		if (name_matches(&ps->items[i], ps->items[i].last, name, len))
			return true;
	}
	return false;
}

/* Is there a directory .git among the first `len` bytes of a path, which end in a slash
 * or are none? This is exclude's standing entry. */
static bool below_git(const char *path, size_t len)
{
	const char *p = path, *end = path + len, *slash;

	while ((slash = memchr(p, '/', (size_t)(end - p)))) {
		if (slash - p == 4 && memcmp(p, ".git", 4) == 0)
			return true;
		p = slash + 1;
	}
	return false;
}

static size_t base_of(const char *path, size_t len)
{
	const char *slash = memrchr(path, '/', len);

	return slash ? (size_t)(slash + 1 - path) : 0;
}

static bool excluded(const struct rules *rules, const char *path, size_t base, size_t len)
{
	return below_git(path, base) || patterns_match(&rules->exclude, path, base, len);
}

/* What the rules and match= say. */
static enum jsonl_class matched_class(const struct rules *rules, const char *path,
				      size_t base, size_t len,
				      struct jsonl_policy_reason *reason)
{
	for (size_t i = rules->n; i--;) {
		const struct rule *rule = &rules->rules[i];

		if (!rule->classes || !patterns_match(&rule->match, path, base, len))
			continue;
		*reason = (struct jsonl_policy_reason){.why = JSONL_WHY_RULE, .rule = i};
		return (enum jsonl_class)rule->values.values.class;
	}
	if (patterns_match(&rules->match, path, base, len)) {
		reason->why = JSONL_WHY_MATCH;
		return JSONL_CLASS_GOVERNED;
	}
	reason->why = JSONL_WHY_NOTHING;
	return JSONL_CLASS_PLAIN;
}

/* The same and what exclude= says, before generations are taken out. A generation of a
 * generation is one of the governed name too, so the stem need not be asked again. */
static enum jsonl_class named_class(const struct rules *rules, const char *path,
				    size_t base, size_t len)
{
	struct jsonl_policy_reason reason;
	enum jsonl_class class = matched_class(rules, path, base, len, &reason);

	return class != JSONL_CLASS_PLAIN && excluded(rules, path, base, len)
		   ? JSONL_CLASS_PLAIN
		   : class;
}

struct stem {
	const struct rules *rules;
	const char *path;
	size_t base;
};

static bool stem_is_named(void *ctx, size_t len)
{
	const struct stem *s = ctx;

	return len > 0 && named_class(s->rules, s->path, s->base, s->base + len) ==
			      JSONL_CLASS_GOVERNED;
}

static bool is_generation(const struct rules *rules, const char *path, size_t base,
			  size_t len)
{
	struct stem stem = {rules, path, base};

	if (jsonl_generation_stems(path + base, len - base, stem_is_named, &stem))
		return true;
	return patterns_match(&rules->generations, path, base, len) &&
	       !excluded(rules, path, base, len);
}

static enum jsonl_class class_of(const struct rules *rules, const char *path)
{
	size_t len = strlen(path), base = base_of(path, len);
	enum jsonl_class class = named_class(rules, path, base, len);

	return class != JSONL_CLASS_PLAIN && is_generation(rules, path, base, len)
		   ? JSONL_CLASS_PLAIN
		   : class;
}

/* ---- building ---- */

static void rules_free(struct rules *rules)
{
	if (!rules)
		return;
	patterns_deinit(&rules->match);
	patterns_deinit(&rules->exclude);
	patterns_deinit(&rules->generations);
	for (size_t i = 0; i < rules->n; i++)
		patterns_deinit(&rules->rules[i].match);
	free(rules->rules);
	free(rules);
}

/* A list of globs that may be missing; *error names it when it is bad. */
static int list_init(struct patterns *ps, const char *list, char **error)
{
	const char *why = list ? jsonl_glob_check_list(list) : NULL;

	if (!why)
		return patterns_init(ps, list ? list : "");
	if (error && asprintf(error, "%s: %s", list, why) < 0)
		*error = NULL;
	return -EINVAL;
}

static int rules_fill(struct rules *rules, const struct jsonl_config *config,
		      char **error)
{
	int r = list_init(&rules->match, config->match, error);

	if (!r)
		r = list_init(&rules->exclude, config->exclude, error);
	if (!r)
		r = list_init(&rules->generations, config->generations, error);
	rules->standard = config->file;
	rules->maxrecord = jsonl_config_maxrecord(config);
	rules->rules = calloc(config->nrules + 1, sizeof(*rules->rules));
	if (!rules->rules)
		return r ? r : -ENOMEM;
	for (size_t i = 0; i < config->nrules && !r; i++) {
		struct rule *rule = &rules->rules[i];

		rule->values = config->rules[i];
		rule->values.match = rule->values.file = NULL; /* the configuration's */
		rule->classes = jsonl_config_rules_class(&config->rules[i]);
		r = list_init(&rule->match, config->rules[i].match, error);
		rules->n = i + 1;
	}
	return r;
}

static int rules_new(const struct jsonl_config *config, struct rules **rules,
		     char **error)
{
	struct rules *new = calloc(1, sizeof(*new));
	int r = new ? rules_fill(new, config, error) : -ENOMEM;

	if (r)
		rules_free(new);
	else
		*rules = new;
	return r;
}

int jsonl_policy_new(const struct jsonl_config *config, struct jsonl_policy **policy,
		     char **error)
{
	pthread_rwlockattr_t attr;
	struct jsonl_policy *p;
	int r;

	if (error)
		*error = NULL;
	p = calloc(1, sizeof(*p));
	r = p ? rules_new(config, &p->rules, error) : -ENOMEM;
	if (r) {
		free(p);
		return r;
	}
	/* A reload must come through however many ask. */
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
	rules_free(policy->rules);
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
	struct rules *new, *old;
	int r;

	if (error)
		*error = NULL;
	r = rules_new(config, &new, error);
	if (r)
		return r;
	pthread_rwlock_wrlock(&policy->lock);
	old = policy->rules;
	policy->rules = new;
	policy->serial++;
	pthread_rwlock_unlock(&policy->lock);
	rules_free(old);
	return 0;
}

unsigned jsonl_policy_serial(const struct jsonl_policy *policy)
{
	return policy->serial;
}

/* ---- asking ---- */

/* The set that holds now, until _put. */
static const struct rules *rules_get(const struct jsonl_policy *policy)
{
	pthread_rwlock_rdlock((pthread_rwlock_t *)&policy->lock);
	return policy->rules;
}

static void rules_put(const struct jsonl_policy *policy)
{
	pthread_rwlock_unlock((pthread_rwlock_t *)&policy->lock);
}

enum jsonl_class jsonl_policy_classify(const struct jsonl_policy *policy,
				       const char *path)
{
	enum jsonl_class class = class_of(rules_get(policy), path);

	rules_put(policy);
	return class;
}

static void settings_of(const struct rules *rules, const char *path,
			struct jsonl_settings *settings)
{
	size_t len = strlen(path), base = base_of(path, len);

	/* Bytes, not members: they are compared so. */
	memcpy(settings, &rules->standard, sizeof(*settings));
	for (size_t i = 0; i < rules->n; i++) {
		if (patterns_match(&rules->rules[i].match, path, base, len))
			jsonl_config_apply(&rules->rules[i].values, settings);
	}
	settings->class = class_of(rules, path);
}

const struct jsonl_settings *jsonl_policy_settings(struct jsonl_policy *policy,
						   const char *path)
{
	struct jsonl_settings want;
	struct interned *i;

	settings_of(rules_get(policy), path, &want);
	rules_put(policy);
	pthread_mutex_lock(&policy->interned_lock);
	i = policy->interned;
	/* config.h: the padding is zeroed. NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
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

bool jsonl_policy_rule_matches(const struct jsonl_policy *policy, size_t n,
			       const char *path)
{
	const struct rules *rules = rules_get(policy);
	size_t len = strlen(path);
	bool matches = n < rules->n && patterns_match(&rules->rules[n].match, path,
						      base_of(path, len), len);

	rules_put(policy);
	return matches;
}

enum jsonl_class jsonl_policy_reason(const struct jsonl_policy *policy, const char *path,
				     struct jsonl_policy_reason *reason)
{
	const struct rules *rules = rules_get(policy);
	size_t len = strlen(path), base = base_of(path, len);
	enum jsonl_class class = matched_class(rules, path, base, len, reason);

	if (class != JSONL_CLASS_PLAIN && below_git(path, base))
		reason->why = JSONL_WHY_GIT;
	else if (class != JSONL_CLASS_PLAIN &&
		 patterns_match(&rules->exclude, path, base, len))
		reason->why = JSONL_WHY_EXCLUDE;
	else if ((class != JSONL_CLASS_PLAIN || reason->why == JSONL_WHY_NOTHING) &&
		 is_generation(rules, path, base, len))
		reason->why = JSONL_WHY_GENERATION;
	class = class_of(rules, path);
	rules_put(policy);
	return class;
}

uint64_t jsonl_policy_maxrecord(const struct jsonl_policy *policy)
{
	uint64_t max = rules_get(policy)->maxrecord;

	rules_put(policy);
	return max;
}

bool jsonl_policy_may_govern(const struct jsonl_policy *policy, const char *name)
{
	const struct rules *rules = rules_get(policy);
	size_t len = strlen(name);
	bool may = patterns_may_match(&rules->match, name, len);

	for (size_t i = 0; i < rules->n && !may; i++) {
		const struct rule *rule = &rules->rules[i];

		may = rule->classes && rule->values.values.class != JSONL_CLASS_PLAIN &&
		      patterns_may_match(&rule->match, name, len);
	}
	rules_put(policy);
	return may;
}

bool jsonl_policy_is_generation(const struct jsonl_policy *policy, const char *path)
{
	size_t len = strlen(path);
	bool is = is_generation(rules_get(policy), path, base_of(path, len), len);

	rules_put(policy);
	return is;
}

bool jsonl_policy_generation_of(const struct jsonl_policy *policy, const char *live,
				const char *gen)
{
	size_t live_len = strlen(live), len = strlen(gen);
	bool is;

	if (len > live_len && memcmp(gen, live, live_len) == 0 &&
	    jsonl_generation_suffix(gen + live_len, len - live_len))
		return true;
	is = patterns_may_match(&rules_get(policy)->generations, gen, len);
	rules_put(policy);
	return is && strcmp(live, gen) != 0;
}

/* Is the directory itself .git or below one? */
static bool directory_in_git(const char *path)
{
	size_t len = strlen(path);
	size_t base = base_of(path, len);

	return below_git(path, base) || strcmp(path + base, ".git") == 0;
}

bool jsonl_policy_rename_may_cross(const struct jsonl_policy *policy, const char *from,
				   const char *to)
{
	const struct rules *rules = rules_get(policy);
	bool paths = rules->match.path || rules->exclude.path || rules->generations.path;

	for (size_t i = 0; i < rules->n && !paths; i++)
		paths = rules->rules[i].classes && rules->rules[i].match.path;
	rules_put(policy);
	/* Patterns of file names do not see directories. */
	return paths || directory_in_git(from) != directory_in_git(to);
}
