#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "config_internal.h"
#include "report.h"
#include "text.h"

#define FIELD(member)                                                                    \
	.at = offsetof(struct jsonl_config, member),                                     \
	.size = sizeof(((struct jsonl_config *)0)->member)
#define CHOICES(...)                                                                     \
	.values = (const char *const[])                                                  \
	{                                                                                \
		__VA_ARGS__, NULL                                                        \
	}

/* The order of CHOICES is that of the enums in config.h. */
/* clang-format off */
static const struct jsonl_option options[] = {
	{ "match", .type = OPTION_GLOBS, FIELD(match), .standard = "*.jsonl", .arg = "GLOBS", .min = 1,
	  .help = "files that are kept whole, colon-separated; with a / from the root of the vault" },
	{ "exclude", .type = OPTION_GLOBS, FIELD(exclude), .standard = "", .arg = "GLOBS",
	  .help = "files that are not, though match names them; always also **/.git/**" },
	{ "generations", .type = OPTION_GLOBS, FIELD(generations), .standard = "", .arg = "GLOBS",
	  .help = "more names that a rotation or backup may give to such a file" },
	{ "state", .type = OPTION_STRING, FIELD(state), .arg = "DIR",
	  .help = "the directory of quarantine and archive, instead of .jsonlfs in the vault" },
	{ "config", .type = OPTION_FILE, .arg = "FILE",
	  .help = "read these options from a JSON object; what -o says wins" },
	{ "onbad", .type = OPTION_CHOICE, FIELD(file.onbad), .standard = "refuse", .arg = "WHAT",
	  CHOICES("refuse", "quarantine"),
	  .help = "a bad record: refuse the write, or set the record aside and go on" },
	{ "oversize", .type = OPTION_CHOICE, FIELD(file.limits.oversize), .standard = "warn", .arg = "WHAT",
	  CHOICES("warn", "reject", "allow"),
	  .help = "a record of pipebuf bytes or more: log it, refuse it, or say nothing" },
	{ "pipebuf", .type = OPTION_SIZE, FIELD(file.limits.pipebuf), .standard = "4096", .arg = "SIZE", .min = 1, .max = GIB,
	  .help = "the size from which on a record is unsafe outside the mount, newline counted" },
	{ "maxrecord", .type = OPTION_SIZE, FIELD(file.limits.maxrecord), .standard = "16M", .arg = "SIZE", .min = 16, .max = GIB,
	  .help = "longest record, newline counted" },
	{ "pending_max", .type = OPTION_SIZE, FIELD(pending_max), .standard = "1G", .arg = "SIZE", .min = 16, .max = 1024 * GIB,
	  .help = "unfinished records in memory, all writers together" },
	{ "maxdepth", .type = OPTION_COUNT, FIELD(file.limits.maxdepth), .standard = "128", .arg = "N", .min = 1, .max = JSONL_TEXT_MAXDEPTH,
	  .help = "deepest nesting of objects and arrays" },
	{ "value", .type = OPTION_CHOICE, FIELD(file.limits.value), .standard = "any", .arg = "WHAT",
	  CHOICES("any", "container", "object"),
	  .help = "what a record may be: any JSON value, an object or array, or an object" },
	{ "blank", .type = OPTION_CHOICE, FIELD(file.limits.blank), .standard = "drop", .arg = "WHAT",
	  CHOICES("drop", "keep"),
	  .help = "lines of white space only" },
	{ "append", .type = OPTION_CHOICE, FIELD(file.append), .standard = "policed", .arg = "WHAT",
	  CHOICES("policed", "strict"),
	  .help = "opening without O_APPEND: judge each write, or refuse (EPERM) as chattr +a does" },
	{ "sync", .type = OPTION_CHOICE, FIELD(file.sync), .standard = "close", .arg = "WHEN",
	  CHOICES("close", "write", "none"),
	  .help = "when records are made durable unasked: before close or write returns, or never" },
	{ "commit", .type = OPTION_CHOICE, FIELD(file.commit), .standard = "line", .arg = "WHEN",
	  CHOICES("line", "close"),
	  .help = "when records become visible" },
	{ "rewrite", .type = OPTION_CHOICE, FIELD(file.rewrite), .standard = "deny", .arg = "WHAT",
	  CHOICES("deny", "extend", "archive"),
	  .help = "programs that write the whole file anew" },
	{ "killed", .type = OPTION_CHOICE, FIELD(file.killed), .standard = "drop", .arg = "WHAT",
	  CHOICES("drop", "commit"),
	  .help = "with commit=close, what becomes of the records of a program that a signal ends" },
	{ "follow", .type = OPTION_CHOICE, FIELD(file.follow), .standard = "file", .arg = "WHAT",
	  CHOICES("file", "path"),
	  .help = "where open handles append after a rotation: the file that they opened, or its name" },
	{ "onbroken", .type = OPTION_CHOICE, FIELD(file.onbroken), .standard = "error", .arg = "WHAT",
	  CHOICES("error", "empty", "last-good"),
	  .help = "class replace: what a reader of a broken state file gets" },
	{ "lostupdate", .type = OPTION_CHOICE, FIELD(file.lostupdate), .standard = "warn", .arg = "WHAT",
	  CHOICES("warn", "refuse"),
	  .help = "class replace: two programs read, both write: log it, or refuse the second" },
	{ "class", .type = OPTION_CHOICE, FIELD(file.class), .arg = "WHAT", .rule = true,
	  CHOICES("plain", "governed", "replace", "text"),
	  .help = "how files of this pattern are treated" },
	{ "unlink", .type = OPTION_CHOICE, FIELD(file.unlink), .standard = "archive", .arg = "WHAT",
	  CHOICES("archive", "deny", "allow"),
	  .help = "removing a file that holds records: keep it in the archive, refuse, or remove" },
	{ "archive_max", .type = OPTION_SIZE, FIELD(archive_max), .standard = "1G", .arg = "SIZE", .max = INT64_MAX,
	  .help = "bytes in the archive" },
	{ "quarantine_max", .type = OPTION_SIZE, FIELD(quarantine_max), .standard = "256M", .arg = "SIZE", .max = INT64_MAX,
	  .help = "bytes in the quarantine; 32M of them are kept for fragments and repairs" },
	{ "locktimeout", .type = OPTION_MILLIS, FIELD(file.locktimeout_ms), .standard = "5", .arg = "SECONDS", .max = 3600000,
	  .help = "how long a write waits for a lock that somebody outside holds, then EAGAIN" },
	{ "attr_timeout", .type = OPTION_SECONDS, FIELD(attr_timeout), .standard = "1", .arg = "SECONDS", .max = 86400000,
	  .help = "how long the kernel keeps attributes of plain files and directories" },
	{ "entry_timeout", .type = OPTION_SECONDS, FIELD(entry_timeout), .standard = "1", .arg = "SECONDS", .max = 86400000,
	  .help = "how long the kernel keeps names" },
	{ "max_threads", .type = OPTION_COUNT, FIELD(max_threads), .standard = "10", .arg = "N", .min = 1, .max = 1000,
	  .help = "worker threads" },
	{ "passthrough", "nopassthrough", OPTION_FLAG, FIELD(passthrough), .standard = "yes",
	  .help = "let the kernel read and write plain files by itself where it can" },
	{ "xattr", "noxattr", OPTION_FLAG, FIELD(xattr), .standard = "yes",
	  .help = "extended attributes and ACLs" },
	{ "ro", "rw", OPTION_FLAG, FIELD(readonly), .standard = "no",
	  .help = "mount read-only" },
	{ "supervise", "nosupervise", OPTION_FLAG, FIELD(supervise), .standard = "yes",
	  .help = "mount again when the daemon dies; not with -f or auto_unmount" },
	{ "allow_other", "noallow_other", OPTION_FLAG, FIELD(allow_other),
	  .negative_at = offsetof(struct jsonl_config, noallow_other),
	  .help = "for all users, not only the one who mounts (default: when root mounts)" },
	{ "allow_root", NULL, OPTION_FLAG, FIELD(allow_root), .standard = "no",
	  .help = "for the one who mounts and root" },
	{ "default_permissions", "nodefault_permissions", OPTION_FLAG, FIELD(default_permissions), .standard = "yes",
	  .help = "the kernel checks permissions; always on where allow_other is" },
	{ "fsname", .type = OPTION_STRING, FIELD(fsname), .arg = "NAME",
	  .help = "what mount tables show as the source (default: the directory itself)" },
};
/* clang-format on */

#define OPTION_N (sizeof(options) / sizeof(options[0]))
_Static_assert(OPTION_N <= JSONL_CONFIG_OPTIONS,
	       "struct jsonl_config has one bit and one line an option");

const struct jsonl_option *jsonl_config_option(size_t n)
{
	return n < OPTION_N ? &options[n] : NULL;
}

/* The names of a rule, which are required. */
static const struct jsonl_option rule_match = {
    "match", .type = OPTION_GLOBS, .standard = "*.jsonl", .arg = "GLOBS", .min = 1};

static const struct jsonl_option *config_find(const char *key, bool *negative)
{
	for (size_t i = 0; i < OPTION_N; i++) {
		*negative = options[i].negative && strcmp(options[i].negative, key) == 0;
		if (*negative || strcmp(options[i].name, key) == 0)
			return &options[i];
	}
	return NULL;
}

bool jsonl_config_is_per_file(const struct jsonl_option *o)
{
	return o->size && o->at >= offsetof(struct jsonl_config, file) &&
	       o->at <
		   offsetof(struct jsonl_config, file) + sizeof(struct jsonl_settings);
}

/* Takes value->string over. `field`: where the value goes. */
static void value_store(const struct jsonl_option *o, char *field,
			struct jsonl_option_value *value)
{
	switch (o->type) {
	case OPTION_GLOBS:
	case OPTION_STRING:
		free(*(char **)field);
		*(char **)field = steal_ptr(&value->string);
		break;
	case OPTION_CHOICE:
		*(int *)field = (int)value->number;
		break;
	case OPTION_SECONDS:
		*(double *)field = (double)value->number / 1000.0;
		break;
	case OPTION_FLAG:
		*(bool *)field = value->number;
		break;
	case OPTION_FILE:
		break;
	default:
		if (o->size == sizeof(unsigned))
			*(unsigned *)field = (unsigned)value->number;
		else
			*(uint64_t *)field = value->number;
		break;
	}
}

static void config_store(struct jsonl_config *config, const struct jsonl_option *o,
			 struct jsonl_option_value *value)
{
	value_store(o, (char *)config + o->at, value);
	if (o->negative_at)
		*((bool *)((char *)config + o->negative_at)) = !value->number;
}

/* The place of a value that may differ from file to file. */
static size_t per_file_at(const struct jsonl_option *o)
{
	return o->at - offsetof(struct jsonl_config, file);
}

/* Drops the last one. */
static void rule_drop(struct jsonl_config *config)
{
	struct jsonl_rule *rule = &config->rules[--config->nrules];

	free(rule->match);
	free(rule->file);
}

int jsonl_config_init(struct jsonl_config *config)
{
	memset(config, 0, sizeof(*config));
	for (size_t i = 0; i < OPTION_N; i++) {
		struct jsonl_option_value value = {0};
		int r;

		if (!options[i].standard)
			continue;
		r = jsonl_option_parse(&options[i], false, options[i].standard, &value,
				       NULL);
		if (r) {
			jsonl_config_deinit(config);
			return r;
		}
		config_store(config, &options[i], &value);
	}
	return 0;
}

void jsonl_config_deinit(struct jsonl_config *config)
{
	for (size_t i = 0; i < OPTION_N; i++) {
		if (options[i].type == OPTION_GLOBS || options[i].type == OPTION_STRING)
			free(*(char **)((char *)config + options[i].at));
	}
	while (config->nrules)
		rule_drop(config);
	free(config->rules);
	free(config->path);
	memset(config, 0, sizeof(*config));
}

int jsonl_config_set(struct jsonl_config *config, const char *key, const char *value,
		     char **error)
{
	struct jsonl_option_value parsed = {0};
	const struct jsonl_option *o;
	bool negative;
	int r;

	if (error)
		*error = NULL;
	o = config_find(key, &negative);
	if (!o)
		return jsonl_option_fail(error, -ENOENT, "unknown option \"%s\"", key);
	if (o->rule)
		return jsonl_option_fail(error, -EINVAL,
					 "%s is set by pattern, in the rules of a "
					 "configuration file (config=FILE)",
					 o->name);
	if (o->type == OPTION_FILE && value && value[0]) {
		/* -ENOENT means something else here. */
		r = jsonl_config_load(config, value, error);
		return r && r != -ENOMEM ? -EINVAL : r;
	}
	r = jsonl_option_parse(o, negative, value, &parsed, error);
	if (r)
		return r;
	config_store(config, o, &parsed);
	config->given |= UINT64_C(1) << (o - options);
	return 0;
}

struct config_file {
	struct jsonl_config *config;
	const char *path;	 /* for messages */
	uint64_t seen;		 /* one bit an option */
	struct jsonl_rule *rule; /* whose members are being read; NULL: none */
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

/* A member of a rule. */
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
	o = config_find(key, &negative);
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
	value_store(o, (char *)&rule->values + per_file_at(o), &value);
	rule->set |= UINT64_C(1) << (o - options);
	return 0;
}

static int rule_begin(void *ctx, const char *key, unsigned line)
{
	struct config_file *file = ctx;
	struct jsonl_config *config = file->config;
	struct jsonl_rule *rules;

	if (strcmp(key, "rules") != 0)
		return file_fail(file, line, "%s is no list of objects; \"rules\" is",
				 key);
	if (config->nrules >= JSONL_CONFIG_RULES)
		return file_fail(file, line, "there are more than %d rules",
				 JSONL_CONFIG_RULES);
	rules = reallocarray(config->rules, config->nrules + 1, sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	config->rules = rules;
	file->rule = &rules[config->nrules++];
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
		rule_drop(config);
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
	o = config_find(key, &negative);
	if (!o)
		return file_fail(file, line, "unknown option \"%s\"", key);
	if (o->type == OPTION_FILE)
		return file_fail(file, line,
				 "a configuration file cannot name another (%s)", text);
	if (o->rule)
		return file_fail(file, line,
				 "%s is set by pattern: it belongs into a rule", o->name);
	bit = UINT64_C(1) << (o - options);
	if (file->seen & bit)
		return file_fail(file, line, "%s is set twice", o->name);
	file->seen |= bit;
	file->config->lines[o - options] = line;
	r = file_parse(file, o, negative, text, line, &value);
	if (r)
		return r;
	if (file->config->given & bit)
		free(value.string);
	else
		config_store(file->config, o, &value);
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
		rule_drop(config); /* half read */
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

void jsonl_config_apply(const struct jsonl_rule *rule, struct jsonl_settings *settings)
{
	for (size_t i = 0; i < OPTION_N; i++) {
		size_t at = per_file_at(&options[i]);

		if (rule->set >> i & 1)
			memcpy((char *)settings + at, (const char *)&rule->values + at,
			       options[i].size);
	}
}

bool jsonl_config_rules_class(const struct jsonl_rule *rule)
{
	bool negative;

	return rule->set >> (config_find("class", &negative) - options) & 1;
}

uint64_t jsonl_config_maxrecord(const struct jsonl_config *config)
{
	uint64_t max = config->file.limits.maxrecord;

	for (size_t i = 0; i < config->nrules; i++) {
		/* What a rule does not set is 0 there. */
		if (config->rules[i].values.limits.maxrecord > max)
			max = config->rules[i].values.limits.maxrecord;
	}
	return max;
}

int jsonl_config_check(const struct jsonl_config *config, char **error)
{
	char size[32];

	if (error)
		*error = NULL;
	if (config->pending_max < jsonl_config_maxrecord(config))
		return jsonl_option_fail(
		    error, -EINVAL,
		    "pending_max must be at least maxrecord (%s), or no "
		    "record of that size can be finished",
		    jsonl_option_size(jsonl_config_maxrecord(config), size));
	if (config->allow_other && config->allow_root)
		return jsonl_option_fail(error, -EINVAL,
					 "allow_other and allow_root exclude each other: "
					 "allow_other includes root");
	/* Without it the daemon's rights would be everybody's. A mount by root is for
	 * everybody unless it says otherwise. */
	if (!config->default_permissions && !config->noallow_other)
		return jsonl_option_fail(
		    error, -EINVAL,
		    "nodefault_permissions is allowed only together with "
		    "noallow_other: other users must be checked");
	if (!config->default_permissions && config->allow_root)
		return jsonl_option_fail(
		    error, -EINVAL,
		    "nodefault_permissions and allow_root exclude each "
		    "other");
	return 0;
}

static void help_option(FILE *to, const struct jsonl_option *o)
{
	char left[64], list[128];

	if (o->type == OPTION_FLAG)
		snprintf(left, sizeof(left), "%s%s%s", o->name, o->negative ? ", " : "",
			 o->negative ? o->negative : "");
	else
		snprintf(left, sizeof(left), "%s=%s", o->name, o->arg);
	fprintf(to, "    -o %-26s %s", left, o->help);
	if (o->type == OPTION_CHOICE)
		fprintf(to, " [%s]", jsonl_option_values(o, list));
	if (o->standard && o->type == OPTION_FLAG)
		fprintf(to, " (default: %s)",
			strcmp(o->standard, "yes") == 0 ? o->name
			: o->negative			? o->negative
							: "off");
	else if (o->standard)
		fprintf(to, " (default: %s)", o->standard[0] ? o->standard : "none");
	fputc('\n', to);
}

void jsonl_config_help(FILE *to)
{
	for (size_t i = 0; i < OPTION_N; i++) {
		if (!options[i].rule)
			help_option(to, &options[i]);
	}
}
