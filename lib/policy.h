/* Names -> class, and what a rename from one name to another means. Built once from the
 * configuration, immutable, any thread, no allocation after that. Paths are relative to
 * the vault's root, without a leading slash. The grammar of generations stands in
 * generation.h, that of patterns in glob.h, both in docs/FORMAT.md, and as tables in
 * tests/unit. */
#ifndef JSONL_POLICY_H
#define JSONL_POLICY_H

#include <stdbool.h>

#include "config.h"

enum jsonl_class {
	JSONL_CLASS_PLAIN,
	JSONL_CLASS_GOVERNED,
};

struct jsonl_policy;

/* Takes nothing over from config. 0, -ENOMEM, or -EINVAL with *error for a bad glob. */
int jsonl_policy_new(const struct jsonl_config *config, struct jsonl_policy **policy,
		     char **error) jsonl_must_check;
void jsonl_policy_free(struct jsonl_policy *policy);

/* The class that a regular file of this path has. A generation is plain. */
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
