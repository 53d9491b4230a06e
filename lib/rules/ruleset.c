/* SPDX-License-Identifier: MIT */
#include "rules/ruleset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "match/generation.h"
#include "match/glob.h"

/* Returns true when a directory .git is among the first `len` bytes of a path, which
 * are empty or end with a slash. Files below it are always excluded. */
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

static bool excluded(const struct jsonl_ruleset *set, const char *path, size_t base,
		     size_t len)
{
	return below_git(path, base) ||
	       jsonl_patterns_match(&set->exclude, path, base, len);
}

/* Returns the class by rules and match=, and why. */
static enum jsonl_class matched_class(const struct jsonl_ruleset *set, const char *path,
				      size_t base, size_t len,
				      struct jsonl_policy_reason *reason)
{
	for (size_t i = set->n; i--;) {
		const struct jsonl_ruleset_rule *rule = &set->rules[i];

		if (!rule->classes ||
		    !jsonl_patterns_match(&rule->match, path, base, len))
			continue;
		*reason = (struct jsonl_policy_reason){.why = JSONL_WHY_RULE, .rule = i};
		return (enum jsonl_class)rule->values.values.class;
	}
	if (jsonl_patterns_match(&set->match, path, base, len)) {
		reason->why = JSONL_WHY_MATCH;
		return JSONL_CLASS_GOVERNED;
	}
	reason->why = JSONL_WHY_NOTHING;
	return JSONL_CLASS_PLAIN;
}

/* Returns the class by rules, match= and exclude=. It is not plain for a generation that
 * match= names; that is the caller's next question. */
static enum jsonl_class named_class(const struct jsonl_ruleset *set, const char *path,
				    size_t base, size_t len)
{
	struct jsonl_policy_reason reason;
	enum jsonl_class class = matched_class(set, path, base, len, &reason);

	return class != JSONL_CLASS_PLAIN && excluded(set, path, base, len)
		   ? JSONL_CLASS_PLAIN
		   : class;
}

/* Returns true when match=, or a rule that gives a class, names path[0..len) by a pattern
 * of its own: one that does not name the stem path[0..stem), too. */
static bool named_itself(const struct jsonl_ruleset *set, const char *path, size_t base,
			 size_t len, size_t stem)
{
	if (jsonl_patterns_match_own(&set->match, path, base, len, stem))
		return true;
	for (size_t i = 0; i < set->n; i++)
		if (set->rules[i].classes &&
		    jsonl_patterns_match_own(&set->rules[i].match, path, base, len, stem))
			return true;
	return false;
}

/* Describes a path whose generations are looked for. */
struct name {
	const struct jsonl_ruleset *set;
	const char *path;
	size_t base, len;
	bool named;  /* the patterns give it a class other than plain */
	size_t live; /* set by stem_is_live: length of the path of its log */
};

static bool stem_is_named(void *ctx, size_t len)
{
	const struct name *n = ctx;
	size_t stem = n->base + len;

	return len > 0 &&
	       named_class(n->set, n->path, n->base, stem) == JSONL_CLASS_GOVERNED &&
	       !(n->named && named_itself(n->set, n->path, n->base, n->len, stem));
}

static struct name name_of(const struct jsonl_ruleset *set, const char *path, size_t base,
			   size_t len)
{
	return (struct name){
	    .set = set,
	    .path = path,
	    .base = base,
	    .len = len,
	    .named = named_class(set, path, base, len) != JSONL_CLASS_PLAIN,
	};
}

static bool is_generation(const struct jsonl_ruleset *set, const char *path, size_t base,
			  size_t len)
{
	struct name name = name_of(set, path, base, len);

	if (jsonl_generation_stems(path + base, len - base, stem_is_named, &name))
		return true;
	return jsonl_patterns_match(&set->generations, path, base, len) &&
	       !excluded(set, path, base, len);
}

/* Returns for a stem that is no generation itself, a log, what stem_is_named returns. */
static bool stem_is_live(void *ctx, size_t len)
{
	struct name *n = ctx;

	if (!stem_is_named(ctx, len) ||
	    is_generation(n->set, n->path, n->base, n->base + len))
		return false;
	n->live = n->base + len;
	return true;
}

enum jsonl_class jsonl_ruleset_class(const struct jsonl_ruleset *set, const char *path)
{
	size_t len = strlen(path), base = base_of(path, len);
	enum jsonl_class class = named_class(set, path, base, len);

	return class != JSONL_CLASS_PLAIN && is_generation(set, path, base, len)
		   ? JSONL_CLASS_PLAIN
		   : class;
}

void jsonl_ruleset_settings(const struct jsonl_ruleset *set, const char *path,
			    struct jsonl_settings *settings)
{
	size_t len = strlen(path), base = base_of(path, len);

	/* Copied with the padding, because settings are compared as bytes. */
	memcpy(settings, &set->standard, sizeof(*settings));
	for (size_t i = 0; i < set->n; i++) {
		if (jsonl_patterns_match(&set->rules[i].match, path, base, len))
			jsonl_config_apply(&set->rules[i].values, settings);
	}
	settings->class = jsonl_ruleset_class(set, path);
}

enum jsonl_class jsonl_ruleset_reason(const struct jsonl_ruleset *set, const char *path,
				      struct jsonl_policy_reason *reason)
{
	size_t len = strlen(path), base = base_of(path, len);
	enum jsonl_class class = matched_class(set, path, base, len, reason);

	if (class != JSONL_CLASS_PLAIN && below_git(path, base))
		reason->why = JSONL_WHY_GIT;
	else if (class != JSONL_CLASS_PLAIN &&
		 jsonl_patterns_match(&set->exclude, path, base, len))
		reason->why = JSONL_WHY_EXCLUDE;
	else if ((class != JSONL_CLASS_PLAIN || reason->why == JSONL_WHY_NOTHING) &&
		 is_generation(set, path, base, len))
		reason->why = JSONL_WHY_GENERATION;
	return jsonl_ruleset_class(set, path);
}

bool jsonl_ruleset_rule_matches(const struct jsonl_ruleset *set, size_t n,
				const char *path)
{
	size_t len = strlen(path);

	return n < set->n &&
	       jsonl_patterns_match(&set->rules[n].match, path, base_of(path, len), len);
}

bool jsonl_ruleset_may_govern(const struct jsonl_ruleset *set, const char *name)
{
	size_t len = strlen(name);
	bool may = jsonl_patterns_may_match(&set->match, name, len);

	for (size_t i = 0; i < set->n && !may; i++) {
		const struct jsonl_ruleset_rule *rule = &set->rules[i];

		may = rule->classes && rule->values.values.class != JSONL_CLASS_PLAIN &&
		      jsonl_patterns_may_match(&rule->match, name, len);
	}
	return may;
}

bool jsonl_ruleset_is_generation(const struct jsonl_ruleset *set, const char *path)
{
	size_t len = strlen(path);

	return is_generation(set, path, base_of(path, len), len);
}

static bool any_stem(void *ctx, size_t stem)
{
	return stem > 0;
}

bool jsonl_ruleset_may_be_generation(const struct jsonl_ruleset *set, const char *name)
{
	size_t len = strlen(name);

	return jsonl_generation_stems(name, len, any_stem, NULL) ||
	       jsonl_patterns_may_match(&set->generations, name, len);
}

bool jsonl_ruleset_live_of(const struct jsonl_ruleset *set, const char *path,
			   size_t *live)
{
	size_t len = strlen(path), base = base_of(path, len);
	struct name name = name_of(set, path, base, len);
	bool is = jsonl_generation_stems(path + base, len - base, stem_is_live, &name);

	*live = name.live;
	return is;
}

bool jsonl_ruleset_generation_of(const struct jsonl_ruleset *set, const char *live,
				 const char *gen)
{
	size_t live_len = strlen(live), len = strlen(gen);

	if (len > live_len && memcmp(gen, live, live_len) == 0 &&
	    jsonl_generation_suffix(gen + live_len, len - live_len))
		return true;
	return jsonl_patterns_may_match(&set->generations, gen, len) &&
	       strcmp(live, gen) != 0;
}

/* Returns true for a directory .git and for one below it. */
static bool directory_in_git(const char *path)
{
	size_t len = strlen(path);
	size_t base = base_of(path, len);

	return below_git(path, base) || strcmp(path + base, ".git") == 0;
}

bool jsonl_ruleset_rename_may_cross(const struct jsonl_ruleset *set, const char *from,
				    const char *to)
{
	bool paths = set->match.path || set->exclude.path || set->generations.path;

	for (size_t i = 0; i < set->n && !paths; i++)
		paths = set->rules[i].classes && set->rules[i].match.path;
	/* A pattern without a slash is compared with the file name only. */
	return paths || directory_in_git(from) != directory_in_git(to);
}

/* ---- building ---- */

void jsonl_ruleset_free(struct jsonl_ruleset *set)
{
	if (!set)
		return;
	jsonl_patterns_deinit(&set->match);
	jsonl_patterns_deinit(&set->exclude);
	jsonl_patterns_deinit(&set->generations);
	for (size_t i = 0; i < set->n; i++)
		jsonl_patterns_deinit(&set->rules[i].match);
	free(set->rules);
	free(set);
}

/* Parses a list of globs, which may be NULL. -EINVAL with *error: a pattern is bad. */
static int list_init(struct jsonl_patterns *ps, const char *list, char **error)
{
	const char *why = list ? jsonl_glob_check_list(list) : NULL;

	if (!why)
		return jsonl_patterns_init(ps, list ? list : "");
	if (error && asprintf(error, "%s: %s", list, why) < 0)
		*error = NULL;
	return -EINVAL;
}

static int rules_fill(struct jsonl_ruleset *set, const struct jsonl_config *config,
		      char **error)
{
	int r = list_init(&set->match, config->match, error);

	if (!r)
		r = list_init(&set->exclude, config->exclude, error);
	if (!r)
		r = list_init(&set->generations, config->generations, error);
	set->standard = config->file;
	set->maxrecord = jsonl_config_maxrecord(config);
	set->rules = calloc(config->nrules + 1, sizeof(*set->rules));
	if (!set->rules)
		return r ? r : -ENOMEM;
	for (size_t i = 0; i < config->nrules && !r; i++) {
		struct jsonl_ruleset_rule *rule = &set->rules[i];

		rule->values = config->rules[i];
		rule->values.match = rule->values.file = NULL; /* the configuration's */
		rule->classes = jsonl_config_rules_class(&config->rules[i]);
		r = list_init(&rule->match, config->rules[i].match, error);
		set->n = i + 1;
	}
	return r;
}

int jsonl_ruleset_new(const struct jsonl_config *config, struct jsonl_ruleset **set,
		      char **error)
{
	struct jsonl_ruleset *new = calloc(1, sizeof(*new));
	int r = new ? rules_fill(new, config, error) : -ENOMEM;

	if (r)
		jsonl_ruleset_free(new);
	else
		*set = new;
	return r;
}
