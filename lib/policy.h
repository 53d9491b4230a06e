/* Names -> class and settings, and what a rename from one name to another means. Built
 * from the configuration; a reload exchanges the whole set of patterns at once, under a
 * lock inside. Any thread. Paths are relative to the vault's root, without a leading
 * slash. The grammar of generations stands in generation.h, that of patterns in glob.h,
 * both in docs/FORMAT.md, and as tables in tests/unit. */
#ifndef JSONL_POLICY_H
#define JSONL_POLICY_H

#include <stdbool.h>

#include "config.h"

struct jsonl_policy;

/* Why a file has its class. */
struct jsonl_policy_reason {
	enum {
		JSONL_WHY_NOTHING,    /* nothing names it */
		JSONL_WHY_MATCH,      /* match= does */
		JSONL_WHY_RULE,	      /* a rule gives the class */
		JSONL_WHY_EXCLUDE,    /* plain: exclude= names it */
		JSONL_WHY_GIT,	      /* plain: below .git */
		JSONL_WHY_GENERATION, /* plain: a rotation or backup */
	} why;
	size_t rule; /* of _RULE: its number, from 0 */
};

/* Takes nothing over from config. 0, -ENOMEM, or -EINVAL with *error for a bad glob. */
int jsonl_policy_new(const struct jsonl_config *config, struct jsonl_policy **policy,
		     char **error) jsonl_must_check;
void jsonl_policy_free(struct jsonl_policy *policy);
/* From now on this configuration's patterns, rules and settings hold. As _new; a failure
 * changes nothing. */
int jsonl_policy_reload(struct jsonl_policy *policy, const struct jsonl_config *config,
			char **error) jsonl_must_check;
/* How often that was done: a class that was found before may be another now. */
unsigned jsonl_policy_serial(const struct jsonl_policy *policy);

/* What holds for a regular file of this path: the options, overridden by every rule that
 * matches, in order; with its class. Chosen once, at open, and good as long as the
 * policy: a reload changes nothing in it. NULL: out of memory. */
const struct jsonl_settings *jsonl_policy_settings(struct jsonl_policy *policy,
						   const char *path);
/* The class as of _classify, and why. */
enum jsonl_class jsonl_policy_reason(const struct jsonl_policy *policy, const char *path,
				     struct jsonl_policy_reason *reason);
/* Does the pattern of rule `n` of the configuration match? For explaining. */
bool jsonl_policy_rule_matches(const struct jsonl_policy *policy, size_t n,
			       const char *path);
/* The longest record that any file may have, bytes. */
uint64_t jsonl_policy_maxrecord(const struct jsonl_policy *policy);

/* The class that a regular file of this path has. What exclude names is plain, also when
 * a rule matches it; so is a generation. */
enum jsonl_class jsonl_policy_classify(const struct jsonl_policy *policy,
				       const char *path);
/* Cheap first question, by file name alone: false means plain whatever the directory. */
bool jsonl_policy_may_govern(const struct jsonl_policy *policy, const char *name);
/* Is `path` the name of a generation of some governed name (in the same directory)? */
bool jsonl_policy_is_generation(const struct jsonl_policy *policy, const char *path);
/* Is file name `gen` a generation of file name `live`, which is governed and in the same
 * directory? For copytruncate: which siblings may hold the content. A name that
 * generations= adds may belong to every governed file. */
bool jsonl_policy_generation_of(const struct jsonl_policy *policy, const char *live,
				const char *gen);
/* May renaming directory `from` to `to` change the class of a path below it? False is
 * certain; true means that the caller must walk and compare. */
bool jsonl_policy_rename_may_cross(const struct jsonl_policy *policy, const char *from,
				   const char *to);

#endif
