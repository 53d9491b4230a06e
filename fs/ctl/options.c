#include "options.h"

#include <string.h>

#include "cleanup.h"

static const char *const names[CTL_OPTIONS] = {
    "match", "exclude",	 "generations", "maxdepth", "maxrecord",     "pipebuf",
    "value", "oversize", "blank",	"config",   "quarantine_max"};

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

static int set_option(const struct ctl_command *command, struct jsonl_config *config,
		      const char *key, const char *value)
{
	cleanup_free char *error = NULL;
	int rc = jsonl_config_set(config, key, value, &error);

	if (rc == 0)
		return 0;
	if (rc == -ENOMEM) {
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	return ctl_usage(command, "%s", error ? error : key);
}

/* A running mount knows its own options: they are the defaults. */
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

int ctl_options_apply(const struct ctl_command *command, const struct ctl_options *o,
		      const struct ctl_vault *v, struct jsonl_config *config)
{
	int config_file = find("config", 6);
	int rc = 0;

	if (v->status)
		rc = take_from_mount(command, config, v->status);
	/* The file first, wherever it stands: single options override it. */
	if (rc == 0 && o->set[config_file])
		rc = set_option(command, config, "config", o->set[config_file]);
	for (int i = 0; i < CTL_OPTIONS && rc == 0; i++)
		if (i != config_file && o->set[i])
			rc = set_option(command, config, names[i], o->set[i]);
	return rc;
}

void ctl_options_limits(const struct jsonl_config *config, struct jsonl_limits *limits)
{
	*limits = config->file.limits;
}
