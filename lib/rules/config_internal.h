/* SPDX-License-Identifier: MIT */
/* Holds what the files of the configuration share: config.c has the table of options,
 * config_set.c sets them, config_reload.c reads the file again, config_explain.c tells
 * their values. */
#ifndef JSONL_CONFIG_INTERNAL_H
#define JSONL_CONFIG_INTERNAL_H

#include "rules/config.h"
#include "rules/option.h"

/* Returns the option of number `n`, which is its bit in `given` and `set`; NULL behind
 * the last. */
const struct jsonl_option *jsonl_config_option(size_t n);
size_t jsonl_config_number(const struct jsonl_option *o);
/* Finds an option by its name, or by that of its negative form (*negative). NULL:
 * unknown. */
const struct jsonl_option *jsonl_config_find(const char *key, bool *negative);
/* Returns true when the option may differ from file to file; _at is then the place of its
 * value in struct jsonl_settings. */
bool jsonl_config_is_per_file(const struct jsonl_option *o);
size_t jsonl_config_per_file_at(const struct jsonl_option *o);

/* Stores a value in the configuration, or in `field`; takes value->string over. */
void jsonl_config_store(struct jsonl_config *config, const struct jsonl_option *o,
			struct jsonl_option_value *value);
void jsonl_config_store_at(const struct jsonl_option *o, char *field,
			   struct jsonl_option_value *value);
/* Drops the last rule. */
void jsonl_config_rule_drop(struct jsonl_config *config);

/* Does what jsonl_config_load does, of a file that messages call `name`. */
int jsonl_config_read(struct jsonl_config *config, const char *path, const char *name,
		      char **error) jsonl_must_check;

#endif
