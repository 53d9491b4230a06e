#include "policy.h"

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

struct jsonl_policy {
	struct patterns match, exclude, generations;
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

static bool excluded(const struct jsonl_policy *policy, const char *path, size_t base,
		     size_t len)
{
	return below_git(path, base) || patterns_match(&policy->exclude, path, base, len);
}

/* What match= and exclude= say, before generations are taken out. A generation of a
 * generation is one of the governed name too, so the stem need not be asked again. */
static bool is_named(const struct jsonl_policy *policy, const char *path, size_t base,
		     size_t len)
{
	return patterns_match(&policy->match, path, base, len) &&
	       !excluded(policy, path, base, len);
}

struct stem {
	const struct jsonl_policy *policy;
	const char *path;
	size_t base;
};

static bool stem_is_named(void *ctx, size_t len)
{
	const struct stem *s = ctx;

	return len > 0 && is_named(s->policy, s->path, s->base, s->base + len);
}

static bool is_generation(const struct jsonl_policy *policy, const char *path,
			  size_t base, size_t len)
{
	struct stem stem = {policy, path, base};

	if (jsonl_generation_stems(path + base, len - base, stem_is_named, &stem))
		return true;
	return patterns_match(&policy->generations, path, base, len) &&
	       !excluded(policy, path, base, len);
}

int jsonl_policy_new(const struct jsonl_config *config, struct jsonl_policy **policy,
		     char **error)
{
	const char *const lists[] = {config->match, config->exclude, config->generations};
	struct jsonl_policy *p;
	int r = 0;

	if (error)
		*error = NULL;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		const char *why = lists[i] ? jsonl_glob_check_list(lists[i]) : NULL;

		if (!why)
			continue;
		if (error && asprintf(error, "%s: %s", lists[i], why) < 0)
			*error = NULL;
		return -EINVAL;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	r = patterns_init(&p->match, config->match ? config->match : "");
	if (!r)
		r = patterns_init(&p->exclude, config->exclude ? config->exclude : "");
	if (!r)
		r = patterns_init(&p->generations,
				  config->generations ? config->generations : "");
	if (r) {
		jsonl_policy_free(p);
		return r;
	}
	*policy = p;
	return 0;
}

void jsonl_policy_free(struct jsonl_policy *policy)
{
	if (!policy)
		return;
	patterns_deinit(&policy->match);
	patterns_deinit(&policy->exclude);
	patterns_deinit(&policy->generations);
	free(policy);
}

enum jsonl_class jsonl_policy_classify(const struct jsonl_policy *policy,
				       const char *path)
{
	size_t len = strlen(path), base = base_of(path, len);

	if (is_named(policy, path, base, len) && !is_generation(policy, path, base, len))
		return JSONL_CLASS_GOVERNED;
	return JSONL_CLASS_PLAIN;
}

bool jsonl_policy_may_govern(const struct jsonl_policy *policy, const char *name)
{
	return patterns_may_match(&policy->match, name, strlen(name));
}

bool jsonl_policy_is_generation(const struct jsonl_policy *policy, const char *path)
{
	size_t len = strlen(path);

	return is_generation(policy, path, base_of(path, len), len);
}

bool jsonl_policy_generation_of(const struct jsonl_policy *policy, const char *live,
				const char *gen)
{
	size_t live_len = strlen(live), len = strlen(gen);

	if (len > live_len && memcmp(gen, live, live_len) == 0 &&
	    jsonl_generation_suffix(gen + live_len, len - live_len))
		return true;
	return strcmp(live, gen) != 0 &&
	       patterns_may_match(&policy->generations, gen, len);
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
	/* Patterns of file names do not see directories. */
	if (!policy->match.path && !policy->exclude.path && !policy->generations.path)
		return directory_in_git(from) != directory_in_git(to);
	return true;
}
