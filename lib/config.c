#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "option.h"
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
	{ "onbad", .type = OPTION_CHOICE, FIELD(onbad), .standard = "refuse", .arg = "WHAT",
	  CHOICES("refuse", "quarantine"),
	  .help = "a bad record: refuse the write, or set the record aside and go on" },
	{ "oversize", .type = OPTION_CHOICE, FIELD(oversize), .standard = "warn", .arg = "WHAT",
	  CHOICES("warn", "reject", "allow"),
	  .help = "a record of pipebuf bytes or more: log it, refuse it, or say nothing" },
	{ "pipebuf", .type = OPTION_SIZE, FIELD(pipebuf), .standard = "4096", .arg = "SIZE", .min = 1, .max = GIB,
	  .help = "the size from which on a record is unsafe outside the mount, newline counted" },
	{ "maxrecord", .type = OPTION_SIZE, FIELD(maxrecord), .standard = "16M", .arg = "SIZE", .min = 16, .max = GIB,
	  .help = "longest record, newline counted" },
	{ "pending_max", .type = OPTION_SIZE, FIELD(pending_max), .standard = "1G", .arg = "SIZE", .min = 16, .max = 1024 * GIB,
	  .help = "unfinished records in memory, all writers together" },
	{ "maxdepth", .type = OPTION_COUNT, FIELD(maxdepth), .standard = "128", .arg = "N", .min = 1, .max = JSONL_TEXT_MAXDEPTH,
	  .help = "deepest nesting of objects and arrays" },
	{ "value", .type = OPTION_CHOICE, FIELD(value), .standard = "any", .arg = "WHAT",
	  CHOICES("any", "container", "object"),
	  .help = "what a record may be: any JSON value, an object or array, or an object" },
	{ "blank", .type = OPTION_CHOICE, FIELD(blank), .standard = "drop", .arg = "WHAT",
	  CHOICES("drop", "keep"),
	  .help = "lines of white space only" },
	{ "append", .type = OPTION_CHOICE, FIELD(append), .standard = "policed", .arg = "WHAT",
	  CHOICES("policed", "strict"),
	  .help = "opening without O_APPEND: judge each write, or refuse (EPERM) as chattr +a does" },
	{ "sync", .type = OPTION_CHOICE, FIELD(sync), .standard = "close", .arg = "WHEN",
	  CHOICES("close", "write", "none"),
	  .help = "when records are made durable unasked: before close or write returns, or never" },
	{ "commit", .type = OPTION_CHOICE, FIELD(commit), .standard = "line", .arg = "WHEN",
	  CHOICES("line", "close"), .available = 1,
	  .help = "when records become visible" },
	{ "rewrite", .type = OPTION_CHOICE, FIELD(rewrite), .standard = "deny", .arg = "WHAT",
	  CHOICES("deny", "extend", "archive"), .available = 1,
	  .help = "programs that write the whole file anew" },
	{ "unlink", .type = OPTION_CHOICE, FIELD(unlink), .standard = "archive", .arg = "WHAT",
	  CHOICES("archive", "deny", "allow"),
	  .help = "removing a file that holds records: keep it in the archive, refuse, or remove" },
	{ "archive_max", .type = OPTION_SIZE, FIELD(archive_max), .standard = "1G", .arg = "SIZE", .max = INT64_MAX,
	  .help = "bytes in the archive" },
	{ "quarantine_max", .type = OPTION_SIZE, FIELD(quarantine_max), .standard = "256M", .arg = "SIZE", .max = INT64_MAX,
	  .help = "bytes in the quarantine; 32M of them are kept for fragments and repairs" },
	{ "locktimeout", .type = OPTION_MILLIS, FIELD(locktimeout_ms), .standard = "5", .arg = "SECONDS", .max = 3600000,
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
_Static_assert(OPTION_N <= 64, "struct jsonl_config.given has one bit an option");

static const struct jsonl_option *config_find(const char *key, bool *negative)
{
	for (size_t i = 0; i < OPTION_N; i++) {
		*negative = options[i].negative && strcmp(options[i].negative, key) == 0;
		if (*negative || strcmp(options[i].name, key) == 0)
			return &options[i];
	}
	return NULL;
}

/* Takes value->string over. */
static void config_store(struct jsonl_config *config, const struct jsonl_option *o,
			 struct jsonl_option_value *value)
{
	char *field = (char *)config + o->at;

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
		if (o->negative_at)
			*((bool *)((char *)config + o->negative_at)) = !value->number;
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
	const char *path;
	uint64_t seen; /* one bit an option */
	char *error;
};

static int config_member(void *ctx, const char *key, const char *text, unsigned line)
{
	struct config_file *file = ctx;
	struct jsonl_option_value value = {0};
	cleanup_free char *why = NULL;
	const struct jsonl_option *o;
	uint64_t bit;
	bool negative;
	int r;

	o = config_find(key, &negative);
	if (!o)
		return jsonl_option_fail(&file->error, -EINVAL,
					 "%s:%u: unknown option \"%s\"", file->path, line,
					 key);
	if (o->type == OPTION_FILE)
		return jsonl_option_fail(
		    &file->error, -EINVAL,
		    "%s:%u: a configuration file cannot name another", file->path, line);
	bit = UINT64_C(1) << (o - options);
	if (file->seen & bit)
		return jsonl_option_fail(&file->error, -EINVAL, "%s:%u: %s is set twice",
					 file->path, line, o->name);
	file->seen |= bit;
	r = jsonl_option_parse(o, negative, text, &value, &why);
	if (r == -EINVAL)
		return jsonl_option_fail(&file->error, r, "%s:%u: %s", file->path, line,
					 why ? why : key);
	if (r)
		return r;
	if (file->config->given & bit)
		free(value.string);
	else
		config_store(file->config, o, &value);
	return 0;
}

int jsonl_config_load(struct jsonl_config *config, const char *path, char **error)
{
	struct config_file file = {.config = config, .path = path};
	cleanup_free char *why = NULL;
	int r;

	if (error)
		*error = NULL;
	r = jsonl_report_read(path, config_member, &file, &why);
	if (error && r)
		*error = file.error ? steal_ptr(&file.error) : steal_ptr(&why);
	free(file.error);
	if (error && r && !*error)
		return jsonl_option_fail(error, r, "%s: %s", path, jsonl_error_text(r));
	return r;
}

int jsonl_config_check(const struct jsonl_config *config, char **error)
{
	char size[32];

	if (error)
		*error = NULL;
	if (config->pending_max < config->maxrecord)
		return jsonl_option_fail(
		    error, -EINVAL,
		    "pending_max must be at least maxrecord (%s), or no "
		    "record of that size can be finished",
		    jsonl_option_size(config->maxrecord, size));
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
		fprintf(to, " [%s]", jsonl_option_values(o, false, list));
	if (o->available)
		fprintf(to, " (not available yet: %s)",
			jsonl_option_values(o, true, list));
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
	for (size_t i = 0; i < OPTION_N; i++)
		help_option(to, &options[i]);
}
