/* SPDX-License-Identifier: MIT */
/* Sets options: one by one, as -o gives them, and from a configuration file. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "report/report.h"
#include "rules/config_internal.h"

/* The "match" of a rule, which is required. */
static const struct jsonl_option rule_match = {
    "match", .type = OPTION_GLOBS, .standard = "*.jsonl", .arg = "GLOBS", .min = 1};

int jsonl_config_set(struct jsonl_config *config, const char *key, const char *value,
		     char **error)
{
	struct jsonl_option_value parsed = {0};
	const struct jsonl_option *o;
	bool negative;
	int r;

	if (error)
		*error = NULL;
	o = jsonl_config_find(key, &negative);
	if (!o)
		return jsonl_option_fail(error, -ENOENT, "unknown option \"%s\"", key);
	if (o->rule)
		return jsonl_option_fail(error, -EINVAL,
					 "%s is set by pattern, in the rules of a "
					 "configuration file (config=FILE)",
					 o->name);
	if (o->type == OPTION_FILE && value && value[0]) {
		/* A missing file must not look like an unknown option, which is -ENOENT
		 * for the caller. */
		r = jsonl_config_load(config, value, error);
		return r && r != -ENOMEM ? -EINVAL : r;
	}
	r = jsonl_option_parse(o, negative, value, &parsed, error);
	if (r)
		return r;
	jsonl_config_store(config, o, &parsed);
	config->given |= UINT64_C(1) << jsonl_config_number(o);
	return 0;
}

struct config_file {
	struct jsonl_config *config;
	const char *path;	 /* for messages */
	uint64_t seen;		 /* options set so far, one bit each */
	struct jsonl_rule *rule; /* the one that is being read; NULL: none */
	char *error;
};

#define file_fail(file, line, format, ...)                                               \
	jsonl_option_fail(&(file)->error, -EINVAL, "%s:%u: " format, (file)->path, line, \
			  __VA_ARGS__)

static int file_parse(struct config_file *file, const struct jsonl_option *o,
		      bool negative, const char *text, unsigned line,
		      struct jsonl_option_value *value)
{
	cleanup_free char *why = NULL;
	int r = jsonl_option_parse(o, negative, text, value, &why);

	return r == -EINVAL ? file_fail(file, line, "%s", why ? why : o->name) : r;
}

/* Sets a member of a rule. */
static int rule_member(struct config_file *file, const char *key, const char *text,
		       unsigned line)
{
	struct jsonl_rule *rule = file->rule;
	struct jsonl_option_value value = {0};
	const struct jsonl_option *o;
	bool negative;
	int r;

	if (strcmp(key, "match") == 0) {
		r = file_parse(file, &rule_match, false, text, line, &value);
		if (!r)
			rule->match = value.string;
		return r;
	}
	o = jsonl_config_find(key, &negative);
	if (!o)
		return file_fail(file, line, "unknown option \"%s\" in a rule", key);
	if (!jsonl_config_is_per_file(o))
		return file_fail(file, line,
				 "%s is an option of the whole mount, and cannot "
				 "differ from file to file",
				 o->name);
	r = file_parse(file, o, negative, text, line, &value);
	if (r)
		return r;
	jsonl_config_store_at(o, (char *)&rule->values + jsonl_config_per_file_at(o),
			      &value);
	rule->set |= UINT64_C(1) << jsonl_config_number(o);
	return 0;
}

static int rule_begin(void *ctx, const char *key, unsigned line)
{
	struct config_file *file = ctx;
	struct jsonl_config *config = file->config;

	if (strcmp(key, "rules") != 0)
		return file_fail(file, line, "%s is no list of objects; \"rules\" is",
				 key);
	if (config->nrules >= JSONL_CONFIG_RULES)
		return file_fail(file, line, "there are more than %d rules",
				 JSONL_CONFIG_RULES);
	if (jsonl_grow(&config->rules, &config->rules_cap, config->nrules + 1,
		       sizeof(*config->rules)))
		return -ENOMEM;
	file->rule = &config->rules[config->nrules++];
	memset(file->rule, 0, sizeof(*file->rule));
	file->rule->line = line;
	file->rule->file = strdup(file->path);
	return file->rule->file ? 0 : -ENOMEM;
}

int jsonl_config_rule_add(struct jsonl_config *config, const char *match,
			  const char *path, unsigned line, char **error)
{
	struct config_file file = {.config = config, .path = path};
	size_t had = config->nrules;
	int r = rule_begin(&file, "rules", line);

	if (!r)
		r = rule_member(&file, "match", match, line);
	if (r && config->nrules > had)
		jsonl_config_rule_drop(config);
	if (error)
		*error = steal_ptr(&file.error);
	free(file.error);
	return r;
}

int jsonl_config_rule_set(struct jsonl_config *config, const char *key, const char *value,
			  char **error)
{
	struct jsonl_rule *rule = &config->rules[config->nrules - 1];
	struct config_file file = {.config = config, .path = rule->file, .rule = rule};
	int r = rule_member(&file, key, value, rule->line);

	if (error)
		*error = steal_ptr(&file.error);
	free(file.error);
	return r;
}

static int rule_end(void *ctx, const char *key, unsigned line)
{
	struct config_file *file = ctx;
	struct jsonl_rule *rule = steal_ptr(&file->rule);

	if (!rule->match)
		return file_fail(file, line, "this rule has no \"%s\"", "match");
	if (!rule->set)
		return file_fail(file, line, "the rule for %s sets nothing", rule->match);
	return 0;
}

static int config_member(void *ctx, const char *key, const char *text, unsigned line)
{
	struct config_file *file = ctx;
	struct jsonl_option_value value = {0};
	const struct jsonl_option *o;
	uint64_t bit;
	bool negative;
	int r;

	if (file->rule)
		return rule_member(file, key, text, line);
	if (strcmp(key, "rules") == 0)
		return *text ? file_fail(file, line, "%s wants a list of objects", key)
			     : 0;
	o = jsonl_config_find(key, &negative);
	if (!o)
		return file_fail(file, line, "unknown option \"%s\"", key);
	if (o->type == OPTION_FILE)
		return file_fail(file, line,
				 "a configuration file cannot name another (%s)", text);
	if (o->rule)
		return file_fail(file, line,
				 "%s is set by pattern: it belongs into a rule", o->name);
	bit = UINT64_C(1) << jsonl_config_number(o);
	if (file->seen & bit)
		return file_fail(file, line, "%s is set twice", o->name);
	file->seen |= bit;
	file->config->lines[jsonl_config_number(o)] = line;
	r = file_parse(file, o, negative, text, line, &value);
	if (r)
		return r;
	if (file->config->given & bit)
		free(value.string);
	else
		jsonl_config_store(file->config, o, &value);
	return 0;
}

static const struct jsonl_report_reader config_reader = {
    .set = config_member,
    .begin = rule_begin,
    .end = rule_end,
};

int jsonl_config_read(struct jsonl_config *config, const char *path, const char *name,
		      char **error)
{
	struct config_file file = {.config = config, .path = name};
	cleanup_free char *why = NULL;
	int r;

	if (error)
		*error = NULL;
	free(config->path);
	config->path = strdup(name);
	if (!config->path)
		return -ENOMEM;
	r = jsonl_report_read(path, name, &config_reader, &file, &why);
	if (file.rule)
		jsonl_config_rule_drop(config); /* it was read in part */
	if (error && r)
		*error = file.error ? steal_ptr(&file.error) : steal_ptr(&why);
	free(file.error);
	if (error && r && !*error)
		return jsonl_option_fail(error, r, "%s: %s", name, jsonl_error_text(r));
	return r;
}

int jsonl_config_load(struct jsonl_config *config, const char *path, char **error)
{
	return jsonl_config_read(config, path, path, error);
}
