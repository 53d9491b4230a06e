/* What config.c lends to config_explain.c and config_reload.c. */
#ifndef JSONL_CONFIG_INTERNAL_H
#define JSONL_CONFIG_INTERNAL_H

#include "config.h"
#include "option.h"

/* The option of number n, which is its bit in `given` and `set`; NULL: there are no more.
 */
const struct jsonl_option *jsonl_config_option(size_t n);
/* May it differ from file to file? */
bool jsonl_config_is_per_file(const struct jsonl_option *o);
/* jsonl_config_load of a file that messages call `name`. */
int jsonl_config_read(struct jsonl_config *config, const char *path, const char *name,
		      char **error) jsonl_must_check;

#endif
