/* SPDX-License-Identifier: MIT */
#include "ctl/options.h"

#include <string.h>

#include "base/cleanup.h"

static const char *const names[CTL_OPTIONS] = {
    "match", "exclude",	 "generations", "maxdepth", "maxrecord",     "pipebuf",
    "value", "oversize", "blank",	"config",   "quarantine_max"};

/* Options that a rule can set for the files it matches. */
static const char *const per_file[] = {"class", "maxdepth", "maxrecord", "pipebuf",
				       "value", "oversize", "blank"};

#define PER_FILE (sizeof(per_file) / sizeof(per_file[0]))

static int find(const char *name, size_t len)
{
	for (int i = 0; i < CTL_OPTIONS; i++)
		if (strlen(names[i]) == len && strncmp(name, names[i], len) == 0)
			return i;
	return -1;
}

int ctl_options_take(const struct ctl_command *command, struct ctl_options *o, int argc,
		     char **argv, int *i)
{
	const char *name = argv[*i];
	const char *equals = strchr(name, '=');
	int index;

	if (strncmp(name, "--", 2) != 0)
		return ctl_usage(command, "unknown option %s", name);
	index = find(name + 2, equals ? (size_t)(equals - name - 2) : strlen(name + 2));
	if (index < 0)
		return ctl_usage(command, "unknown option %s", name);
	if (!equals && *i + 1 >= argc)
		return ctl_usage(command, "%s wants a value", name);
	o->set[index] = equals ? equals + 1 : argv[++*i];
	return 0;
}

/* 0, or an exit code after a message. */
static int explain(const struct ctl_command *command, int rc, const char *error)
{
	if (rc == 0)
		return 0;
	if (rc == -ENOMEM) {
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	return ctl_usage(command, "%s", error ? error : jsonl_error_text(rc));
}

static int set_option(const struct ctl_command *command, struct jsonl_config *config,
		      const char *key, const char *value)
{
	cleanup_free char *error = NULL;
	int rc = jsonl_config_set(config, key, value, &error);

	return explain(command, rc, error);
}

/* Takes the options of a running mount as defaults. */
static int take_from_mount(const struct ctl_command *command, struct jsonl_config *config,
			   const struct jsonl_report *status)
{
	const struct jsonl_report *options = jsonl_report_get(status, "options");
	int rc = 0;

	for (size_t i = 0; i < CTL_OPTIONS && rc == 0; i++) {
		const char *key = names[i], *text;
		char number[CTL_NUMBER];

		text = jsonl_report_get_string(options, key);
		if (!text && jsonl_report_get_uint(options, key)) {
			(void)snprintf(
			    number, sizeof(number), "%llu",
			    (unsigned long long)jsonl_report_get_uint(options, key));
			text = number;
		}
		if (text && (*text || strcmp(key, "match") == 0))
			rc = set_option(command, config, key, text);
	}
	return rc;
}

static int set_in_rule(const struct ctl_command *command, struct jsonl_config *config,
		       const char *key, const char *value)
{
	cleanup_free char *error = NULL;
	int rc = jsonl_config_rule_set(config, key, value, &error);

	return explain(command, rc, error);
}

static int add_rule(const struct ctl_command *command, struct jsonl_config *config,
		    const char *match, const char *from)
{
	cleanup_free char *error = NULL;
	int rc = jsonl_config_rule_add(config, match, from, 0, &error);

	return explain(command, rc, error);
}

/* Takes the rules that the mount applies now. Its configuration file may have changed
 * since, and may not be readable for us. */
static int take_rules(const struct ctl_command *command, struct jsonl_config *config,
		      const struct jsonl_report *status)
{
	const struct jsonl_report *rules = jsonl_report_get(status, "rules");
	int code = 0;

	for (size_t i = 0; i < jsonl_report_length(rules) && code == 0; i++) {
		const struct jsonl_report *rule = jsonl_report_at(rules, i);
		const char *match = jsonl_report_get_string(rule, "match");

		if (!match)
			continue;
		code = add_rule(command, config, match, "the rules of the mount");
		for (size_t n = 0; n < PER_FILE && code == 0; n++) {
			const char *text = jsonl_report_get_string(rule, per_file[n]);

			if (text)
				code = set_in_rule(command, config, per_file[n], text);
		}
	}
	return code;
}

/* Adds a rule for all files, so that options of the command line win over every other
 * rule. */
static int override_rules(const struct ctl_command *command, const struct ctl_options *o,
			  struct jsonl_config *config)
{
	int code = 0;
	bool begun = false;

	for (size_t n = 0; n < PER_FILE && code == 0; n++) {
		int i = find(per_file[n], strlen(per_file[n]));

		if (i < 0 || !o->set[i])
			continue;
		if (!begun)
			code = add_rule(command, config, "*", "the command line");
		begun = true;
		if (code == 0)
			code = set_in_rule(command, config, per_file[n], o->set[i]);
	}
	return code;
}

int ctl_options_apply(const struct ctl_command *command, const struct ctl_options *o,
		      const struct ctl_vault *v, struct jsonl_config *config)
{
	int config_file = find("config", 6);
	int rc = 0;

	/* The file is read first, wherever --config stands: the other options override
	 * it. */
	if (o->set[config_file]) {
		rc = set_option(command, config, "config", o->set[config_file]);
	} else if (v->status) {
		rc = take_from_mount(command, config, v->status);
		if (rc == 0)
			rc = take_rules(command, config, v->status);
	}
	for (int i = 0; i < CTL_OPTIONS && rc == 0; i++)
		if (i != config_file && o->set[i])
			rc = set_option(command, config, names[i], o->set[i]);
	if (rc == 0 && config->nrules)
		rc = override_rules(command, o, config);
	return rc;
}

int ctl_options_limits(struct jsonl_policy *policy, const char *path,
		       struct jsonl_limits *limits)
{
	const struct jsonl_settings *settings = jsonl_policy_settings(policy, path);

	if (!settings)
		return -ENOMEM;
	*limits = settings->limits;
	return 0;
}

int ctl_options_limits_of(const struct jsonl_config *config, const char *path,
			  struct jsonl_limits *limits)
{
	struct jsonl_policy *policy;
	int rc = jsonl_policy_new(config, &policy, NULL);

	if (rc == 0) {
		rc = ctl_options_limits(policy, path, limits);
		jsonl_policy_free(policy);
	}
	return rc;
}
