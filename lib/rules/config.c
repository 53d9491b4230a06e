/* SPDX-License-Identifier: MIT */
#include "rules/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "rules/config_internal.h"
#include "json/text.h"

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
	{ "onbad", .type = OPTION_CHOICE, FIELD(file.onbad), .standard = "report", .arg = "WHAT",
	  CHOICES("report", "quarantine", "refuse"),
	  .help = "a bad record is set aside; close tells, or nothing does, or the whole write is refused" },
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
	{ "archive_age", .type = OPTION_COUNT, FIELD(archive_age), .standard = "30", .arg = "DAYS", .min = 1, .max = 36500,
	  .help = "what was removed so many days ago goes from the archive" },
	{ "quarantine_max", .type = OPTION_SIZE, FIELD(quarantine_max), .standard = "256M", .arg = "SIZE", .max = INT64_MAX,
	  .help = "bytes in the quarantine; 32M of them are kept for fragments and repairs" },
	{ "locktimeout", .type = OPTION_MILLIS, FIELD(file.locktimeout_ms), .standard = "5", .arg = "SECONDS", .max = 3600000,
	  .help = "how long a write waits for a lock that somebody outside holds, then EAGAIN" },
	{ "attr_timeout", .type = OPTION_SECONDS, FIELD(attr_timeout), .standard = "1", .arg = "SECONDS", .max = 86400000,
	  .help = "how long the kernel keeps attributes of plain files and directories" },
	{ "entry_timeout", .type = OPTION_SECONDS, FIELD(entry_timeout), .standard = "1", .arg = "SECONDS", .max = 86400000,
	  .help = "how long the kernel keeps names" },
	{ "links", .type = OPTION_CHOICE, FIELD(links), .standard = "any", .arg = "WHICH",
	  CHOICES("any", "inside"),
	  .help = "symbolic links that may be followed: any, or those that stay inside the vault" },
	{ "shared", .type = OPTION_CHOICE, FIELD(shared), .standard = "auto", .arg = "WHEN",
	  CHOICES("auto", "on", "off"),
	  .help = "other daemons, on this host or others, have the directory, too: auto finds out" },
	{ "log", .type = OPTION_STRING, FIELD(log), .arg = "WHERE",
	  .help = "where messages go: syslog, journal, none, or the path of a file outside the vault (default: syslog)" },
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

size_t jsonl_config_number(const struct jsonl_option *o)
{
	return (size_t)(o - options);
}

const struct jsonl_option *jsonl_config_find(const char *key, bool *negative)
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

void jsonl_config_store_at(const struct jsonl_option *o, char *field,
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

void jsonl_config_store(struct jsonl_config *config, const struct jsonl_option *o,
			struct jsonl_option_value *value)
{
	jsonl_config_store_at(o, (char *)config + o->at, value);
	if (o->negative_at)
		*((bool *)((char *)config + o->negative_at)) = !value->number;
}

size_t jsonl_config_per_file_at(const struct jsonl_option *o)
{
	return o->at - offsetof(struct jsonl_config, file);
}

void jsonl_config_rule_drop(struct jsonl_config *config)
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
		jsonl_config_store(config, &options[i], &value);
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
		jsonl_config_rule_drop(config);
	free(config->rules);
	free(config->path);
	memset(config, 0, sizeof(*config));
}

void jsonl_config_apply(const struct jsonl_rule *rule, struct jsonl_settings *settings)
{
	for (size_t i = 0; i < OPTION_N; i++) {
		size_t at = jsonl_config_per_file_at(&options[i]);

		if (rule->set >> i & 1)
			memcpy((char *)settings + at, (const char *)&rule->values + at,
			       options[i].size);
	}
}

bool jsonl_config_rules_class(const struct jsonl_rule *rule)
{
	bool negative;

	return rule->set >> (jsonl_config_find("class", &negative) - options) & 1;
}

uint64_t jsonl_config_maxrecord(const struct jsonl_config *config)
{
	uint64_t max = config->file.limits.maxrecord;

	for (size_t i = 0; i < config->nrules; i++) {
		/* A rule that does not set it has 0. */
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
	/* Without default_permissions everybody who may use the mount has the rights of
	 * the daemon; and a mount by root is for everybody unless noallow_other is given.
	 */
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
