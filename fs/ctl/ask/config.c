/* SPDX-License-Identifier: MIT */
/* jsonlfsctl config: checks a configuration file, and explains what it makes of a
 * path. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "ctl/ask/control.h"
#include "ctl/find/vault.h"
#include "rules/config.h"
#include "rules/option.h"
#include "rules/policy.h"

static const char *const class_names[] = {"plain", "governed", "replace", "text"};

struct check {
	const char *file;    /* the configuration */
	const char *options; /* those of a mount, as for -o; NULL: none were given */
	bool json;
	struct jsonl_report *list; /* of each path, with --json */
	/* Of the path at hand: */
	struct jsonl_config config;
	struct jsonl_policy *policy;
	struct jsonl_report *settings;
};

/* ---- the configuration as a mount would have it ---- */

/* 0, or an exit code after a message. */
static int set_option(struct check *c, const char *key, const char *value)
{
	cleanup_free char *error = NULL;
	int rc;

	if (strcmp(key, "config") == 0)
		return 0; /* that is the file to be checked */
	rc = jsonl_config_set(&c->config, key, value, &error);
	/* Unknown options are for mount(8) and fstab, and do not concern files. */
	if (rc == 0 || rc == -ENOENT)
		return 0;
	ctl_error("%s", error ? error : jsonl_error_text(rc));
	return rc == -ENOMEM ? CTL_FAILURE : CTL_USAGE;
}

static int set_options(struct check *c)
{
	cleanup_free char *copy = strdup(c->options);
	char *list = copy, *key, *value;
	int code = 0;

	if (!copy) {
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	while (!code && (key = jsonl_option_next(&list, &value)))
		code = set_option(c, key, value);
	return code;
}

/* Takes the options of a running mount's command line. */
static int set_given(struct check *c, const struct jsonl_report *status)
{
	const struct jsonl_report *given = jsonl_report_get(status, "given");
	int code = 0;

	for (size_t i = 0; i < jsonl_report_length(given) && !code; i++) {
		const struct jsonl_report *o = jsonl_report_at(given, i);
		const char *key = jsonl_report_get_string(o, "option");

		if (key)
			code = set_option(c, key, jsonl_report_get_string(o, "value"));
	}
	return code;
}

static void check_clear(struct check *c)
{
	jsonl_policy_free(c->policy);
	c->policy = NULL;
	jsonl_config_deinit(&c->config);
}

/* Reads the file. `status`: of the mount that the path lies in, or NULL. 0, or an exit
 * code after a message. */
static int check_load(struct check *c, const struct jsonl_report *status)
{
	cleanup_free char *error = NULL;
	int rc = jsonl_config_init(&c->config), code = 0;

	if (rc == 0)
		code = c->options ? set_options(c) : set_given(c, status);
	if (code)
		return code;
	if (rc == 0)
		rc = jsonl_config_load(&c->config, c->file, &error);
	if (rc == 0) {
		rc = jsonl_config_check(&c->config, &error);
		if (rc)
			ctl_error("%s: %s", c->file,
				  error ? error : "contradicts itself");
		else
			rc = jsonl_policy_new(&c->config, &c->policy, &error);
	} else {
		ctl_error("%s", error ? error : jsonl_error_text(rc));
	}
	return rc == 0 ? 0 : rc == -EINVAL ? CTL_DAMAGE : CTL_FAILURE;
}

/* ---- telling ---- */

/* Makes "rule 2, FILE:7", "FILE:3", "mount option" or "default". */
static void source_text(const struct check *c, const struct jsonl_config_value *v,
			char *buf, size_t size)
{
	switch (v->from) {
	case JSONL_CONFIG_RULE:
		(void)snprintf(buf, size, "rule %zu, %s:%u", v->rule + 1, c->file,
			       v->line);
		break;
	case JSONL_CONFIG_FILE:
		(void)snprintf(buf, size, "%s:%u", c->file, v->line);
		break;
	case JSONL_CONFIG_OPTION:
		(void)snprintf(buf, size, "mount option");
		break;
	default:
		(void)snprintf(buf, size, "default");
		break;
	}
}

/* Explains the class; to be freed; NULL: out of memory. */
static char *reason_text(const struct check *c, const struct jsonl_policy_reason *reason)
{
	const char *name = reason->why == JSONL_WHY_EXCLUDE ? "exclude" : "match";
	struct jsonl_config_value v;
	char source[256];
	char *text = NULL;
	int n;

	jsonl_config_source(&c->config, name, &v);
	source_text(c, &v, source, sizeof(source));
	switch (reason->why) {
	case JSONL_WHY_RULE:
		n = asprintf(&text, "rule %zu, %s:%u: %s", reason->rule + 1, c->file,
			     c->config.rules[reason->rule].line,
			     c->config.rules[reason->rule].match);
		break;
	case JSONL_WHY_GIT:
		n = asprintf(&text, "it lies below .git, which is always excluded");
		break;
	case JSONL_WHY_GENERATION:
		n = asprintf(&text, "the name is that of a rotated or backed-up log");
		break;
	case JSONL_WHY_NOTHING:
		n = asprintf(&text, "no rule gives it a class, nor does match=%s (%s)",
			     c->config.match, source);
		break;
	default:
		n = asprintf(&text, "%s=%s (%s)", name,
			     reason->why == JSONL_WHY_EXCLUDE ? c->config.exclude
							      : c->config.match,
			     source);
		break;
	}
	return n < 0 ? NULL : text;
}

static void tell_value(void *ctx, const struct jsonl_config_value *v)
{
	static const char *const sources[] = {"default", "option", "file", "rule"};
	struct check *c = ctx;
	struct jsonl_report *o;
	char source[256];

	if (!c->json) {
		source_text(c, v, source, sizeof(source));
		printf("  %-12s ", v->name);
		ctl_print_column(v->text, 13);
		(void)ctl_print_name(stdout, source);
		putchar('\n');
		return;
	}
	o = jsonl_report_object();
	jsonl_report_add_string(o, "option", v->name);
	jsonl_report_add_string(o, "value", v->text);
	jsonl_report_add_string(o, "from", sources[v->from]);
	if (v->from == JSONL_CONFIG_RULE)
		jsonl_report_add_uint(o, "rule", v->rule + 1);
	if (v->line)
		jsonl_report_add_uint(o, "line", v->line);
	jsonl_report_add(c->settings, NULL, o);
}

static void tell_rule(struct check *c, size_t n, struct jsonl_report *rules)
{
	const struct jsonl_rule *rule = &c->config.rules[n];
	struct jsonl_report *o;

	if (!c->json) {
		printf("  rule %-7zu %-12s ", n + 1, "matches");
		(void)ctl_print_name(stdout, c->file);
		printf(":%u: ", rule->line);
		(void)ctl_print_name(stdout, rule->match);
		putchar('\n');
		return;
	}
	o = jsonl_report_object();
	jsonl_report_add_uint(o, "rule", n + 1);
	jsonl_report_add_uint(o, "line", rule->line);
	jsonl_report_add_string(o, "match", rule->match);
	jsonl_report_add(rules, NULL, o);
}

/* Explains a path, given from the vault's root. 0 or an exit code. */
static int tell_path(struct check *c, const char *path)
{
	cleanup_free bool *matches = calloc(c->config.nrules + 1, sizeof(*matches));
	struct jsonl_policy_reason reason;
	enum jsonl_class class = jsonl_policy_reason(c->policy, path, &reason);
	cleanup_free char *because = reason_text(c, &reason);
	struct jsonl_report *o = jsonl_report_object(), *rules = jsonl_report_array();

	c->settings = jsonl_report_array();
	if (!matches || !because) {
		ctl_error("out of memory");
		jsonl_report_free(o);
		jsonl_report_free(rules);
		jsonl_report_free(c->settings);
		return CTL_FAILURE;
	}
	if (!c->json) {
		(void)ctl_print_name(stdout, path);
		printf("\n  %-12s %-12s ", "class", class_names[class]);
		(void)ctl_print_name(stdout, because);
		putchar('\n');
	}
	jsonl_report_add_string(o, "path", path);
	jsonl_report_add_string(o, "class", class_names[class]);
	jsonl_report_add_string(o, "because", because);
	for (size_t i = 0; i < c->config.nrules; i++) {
		matches[i] = jsonl_policy_rule_matches(c->policy, i, path);
		if (matches[i])
			tell_rule(c, i, rules);
	}
	/* No option applies to a plain file. */
	if (class != JSONL_CLASS_PLAIN)
		jsonl_config_explain(&c->config, matches, tell_value, c);
	jsonl_report_add(o, "rules", rules);
	jsonl_report_add(o, "settings", c->settings);
	jsonl_report_add(c->list, NULL, o);
	return 0;
}

/* ---- paths ---- */

/* Finds the vault of an absolute path, and the path's name in it, to be freed. Only
 * some directory above it need exist. 0 or an exit code after a message. */
static int place_in_vault(const char *path, struct ctl_vault *v, char **name)
{
	cleanup_free char *dir = strdup(path);
	int rc = dir ? -ENOENT : -ENOMEM;
	char *slash;

	while (rc == -ENOENT && (slash = strrchr(dir, '/'))) {
		slash[slash == dir] = '\0';
		rc = ctl_vault_find(dir, v);
		if (slash == dir)
			break;
	}
	if (rc) {
		ctl_error("%s: %s", path, ctl_explain(path, rc));
		return CTL_FAILURE;
	}
	path += strlen(dir);
	if (asprintf(name, "%s%s", v->prefix, path + strspn(path, "/")) < 0)
		*name = NULL;
	if (*name && (v->status || v->is_vault))
		return 0;
	if (*name)
		ctl_error("%s lies in no vault (a directory that has been mounted): name "
			  "it as it would be in there, as logs/x.jsonl",
			  path);
	else
		ctl_error("out of memory");
	free(steal_ptr(name));
	ctl_vault_free(v);
	return CTL_FAILURE;
}

static int check_path(struct check *c, const char *path)
{
	cleanup_free char *name = NULL;
	bool placed = path[0] == '/';
	struct ctl_vault v;
	int code = placed ? place_in_vault(path, &v, &name) : 0;

	if (code)
		return code;
	while (strncmp(path, "./", 2) == 0)
		path += 2;
	code = check_load(c, placed ? v.status : NULL);
	if (!code)
		code = tell_path(c, name ? name : path);
	check_clear(c);
	if (placed)
		ctl_vault_free(&v);
	return code;
}

/* ---- config check ---- */

static int check(struct check *c, char *const *paths, int count)
{
	struct jsonl_report *o;
	int code = check_load(c, NULL);
	size_t rules = c->config.nrules;

	check_clear(c);
	if (code)
		return code;
	if (!c->json && !count) {
		(void)ctl_print_name(stdout, c->file);
		printf(": valid, %zu rule%s\n", rules, rules == 1 ? "" : "s");
	}
	c->list = jsonl_report_array();
	for (int i = 0; i < count; i++)
		code |= check_path(c, paths[i]);
	if (!c->json) {
		jsonl_report_free(c->list);
		return code;
	}
	o = jsonl_report_object();
	jsonl_report_add_string(o, "config", c->file);
	jsonl_report_add_uint(o, "rules", rules);
	jsonl_report_add(o, "paths", c->list);
	return code | ctl_print_report(o);
}

static int config_run(int argc, char **argv)
{
	struct check c = {0};
	int i = 0, out = 1;

	while ((i = ctl_next_option(argc, argv, i + 1, &out)) < argc) {
		if (strcmp(argv[i], "--json") == 0)
			c.json = true;
		else if (strcmp(argv[i], "-o") == 0 && i + 1 < argc)
			c.options = argv[++i];
		else
			return ctl_usage(&ctl_config, "unknown option %s", argv[i]);
	}
	if (out < 2 || strcmp(argv[1], "check") != 0)
		return ctl_usage(&ctl_config, "the action is check");
	if (out < 3)
		return ctl_usage(&ctl_config, "a configuration file is missing");
	c.file = argv[2];
	return check(&c, argv + 3, out - 3);
}

const struct ctl_command ctl_config = {
    .name = "config",
    .run = config_run,
    .synopsis = "check [--json] [-o OPTIONS] FILE [PATH...]",
    .summary = "check a configuration file, and tell what it makes of a path",
    .help =
	"\n"
	"Reads FILE as a mount with config=FILE does. For each PATH it prints the\n"
	"class and the reason for it, the rules that match, and each setting with\n"
	"where it comes from: a rule, FILE, an option of the mount, or the default.\n"
	"PATH begins at the vault's root; one that begins with / is looked up in its\n"
	"vault, whose options count if it is mounted. There need not be such a file.\n"
	"\n"
	"  --json      one JSON document\n"
	"  -o OPTIONS  what -o of the mount would say; options of mount(8) are skipped\n"
	"\n"
	"Exit status: 0, 4 FILE is not a valid configuration, 8 it could not be read,\n"
	"or a PATH lies in no vault, 16 wrong usage.",
};
