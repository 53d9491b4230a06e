/* SPDX-License-Identifier: MIT */
/* Tells what a name is, by the patterns and rules of one configuration, compiled.
 * policy.h exchanges one set for another at a reload, and says what each answer means.
 * Constant once it is built; any thread. */
#ifndef JSONL_RULESET_H
#define JSONL_RULESET_H

#include "match/pattern.h"
#include "rules/policy.h"

struct jsonl_ruleset_rule {
	struct jsonl_patterns match;
	bool classes; /* gives a class */
	struct jsonl_rule values;
};

struct jsonl_ruleset {
	struct jsonl_patterns match, exclude, generations;
	struct jsonl_settings standard; /* before any rule */
	struct jsonl_ruleset_rule *rules;
	size_t n;
	uint64_t maxrecord; /* of all files, bytes */
};

/* Copies what it needs from config. 0, -ENOMEM, or -EINVAL with *error for a bad glob. */
int jsonl_ruleset_new(const struct jsonl_config *config, struct jsonl_ruleset **set,
		      char **error) jsonl_must_check;
/* `set` may be NULL. */
void jsonl_ruleset_free(struct jsonl_ruleset *set);

/* Each answers the function of policy.h that has its name. */
enum jsonl_class jsonl_ruleset_class(const struct jsonl_ruleset *set, const char *path);
void jsonl_ruleset_settings(const struct jsonl_ruleset *set, const char *path,
			    struct jsonl_settings *settings);
enum jsonl_class jsonl_ruleset_reason(const struct jsonl_ruleset *set, const char *path,
				      struct jsonl_policy_reason *reason);
bool jsonl_ruleset_rule_matches(const struct jsonl_ruleset *set, size_t n,
				const char *path);
bool jsonl_ruleset_may_govern(const struct jsonl_ruleset *set, const char *name);
bool jsonl_ruleset_is_generation(const struct jsonl_ruleset *set, const char *path);
bool jsonl_ruleset_may_be_generation(const struct jsonl_ruleset *set, const char *name);
bool jsonl_ruleset_live_of(const struct jsonl_ruleset *set, const char *path,
			   size_t *live);
bool jsonl_ruleset_generation_of(const struct jsonl_ruleset *set, const char *live,
				 const char *gen);
bool jsonl_ruleset_rename_may_cross(const struct jsonl_ruleset *set, const char *from,
				    const char *to);

#endif
