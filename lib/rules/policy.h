/* SPDX-License-Identifier: MIT */
/* Tells the class and the settings of a file by its name, and what a rename to another
 * name means. Built from the configuration; a reload exchanges all patterns at once,
 * under a lock of its own. Paths are relative to the root of the vault, without a leading
 * slash. The grammar of generations is in generation.h, that of patterns in glob.h;
 * docs/FORMAT.md explains both. Any thread. */
#ifndef JSONL_POLICY_H
#define JSONL_POLICY_H

#include <stdbool.h>

#include "rules/config.h"

struct jsonl_policy;

/* Gives the reason for a file's class. */
struct jsonl_policy_reason {
	enum {
		JSONL_WHY_NOTHING,    /* plain: no pattern names it */
		JSONL_WHY_MATCH,      /* match= names it */
		JSONL_WHY_RULE,	      /* a rule gives the class */
		JSONL_WHY_EXCLUDE,    /* plain: exclude= names it */
		JSONL_WHY_GIT,	      /* plain: below .git */
		JSONL_WHY_GENERATION, /* plain: a rotation or backup */
	} why;
	size_t rule; /* of JSONL_WHY_RULE: its number, from 0 */
};

/* Copies what it needs from config. 0, -ENOMEM, or -EINVAL with *error for a bad glob. */
int jsonl_policy_new(const struct jsonl_config *config, struct jsonl_policy **policy,
		     char **error) jsonl_must_check;
void jsonl_policy_free(struct jsonl_policy *policy);
/* Exchanges patterns, rules and settings for those of this configuration. Returns as
 * _new; a failure changes nothing. */
int jsonl_policy_reload(struct jsonl_policy *policy, const struct jsonl_config *config,
			char **error) jsonl_must_check;
/* Returns the number of reloads: if it has changed, a file may have another class. */
unsigned jsonl_policy_serial(const struct jsonl_policy *policy);

/* Sets limits.longest of all files, by what lies below the vault; a reload does not
 * change it. Before other threads have the policy. */
void jsonl_policy_longest(struct jsonl_policy *policy, uint64_t bytes);

/* Returns the settings of a regular file: the options, overridden by each rule that
 * matches, in their order, and the class. They stay valid and unchanged as long as the
 * policy, also after a reload. NULL: no memory. */
const struct jsonl_settings *jsonl_policy_settings(struct jsonl_policy *policy,
						   const char *path);
/* Returns what _classify returns, and why. */
enum jsonl_class jsonl_policy_reason(const struct jsonl_policy *policy, const char *path,
				     struct jsonl_policy_reason *reason);
/* Returns true when the pattern of rule `n` of the configuration matches. */
bool jsonl_policy_rule_matches(const struct jsonl_policy *policy, size_t n,
			       const char *path);
/* Returns the longest record that any file may have, bytes. */
uint64_t jsonl_policy_maxrecord(const struct jsonl_policy *policy);

/* Returns the class of a regular file. A file that exclude= names is plain, even if a
 * rule matches it. So is a generation, unless match= or a rule that gives a class names
 * it by a pattern of its own, which does not name the log that it is a generation of. */
enum jsonl_class jsonl_policy_classify(const struct jsonl_policy *policy,
				       const char *path);
/* Decides quickly, by the file name: false means plain in any directory. */
bool jsonl_policy_may_govern(const struct jsonl_policy *policy, const char *name);
/* Returns true when `path` is a generation of a governed name in the same directory. */
bool jsonl_policy_is_generation(const struct jsonl_policy *policy, const char *path);
/* Asks by the name alone: false means that the file is no generation in any directory. */
bool jsonl_policy_may_be_generation(const struct jsonl_policy *policy, const char *name);
/* Finds the log that `path` is a generation of by its endings: the path of the log is the
 * first *live bytes of `path`. False: `path` is no generation, or only by a pattern of
 * generations=. */
bool jsonl_policy_live_of(const struct jsonl_policy *policy, const char *path,
			  size_t *live);
/* Returns true when file name `gen` is a generation of file name `live`, which is
 * governed and in the same directory, so that a copytruncate may have put the content of
 * `live` there. A name that generations= adds counts for every governed file. */
bool jsonl_policy_generation_of(const struct jsonl_policy *policy, const char *live,
				const char *gen);
/* Returns false when renaming directory `from` to `to` cannot change the class of any
 * path below it; true when the caller must walk through it and compare. */
bool jsonl_policy_rename_may_cross(const struct jsonl_policy *policy, const char *from,
				   const char *to);

#endif
