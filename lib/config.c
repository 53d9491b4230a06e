#include "config.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "glob.h"
#include "report.h"
#include "text.h"

enum option_type {
	OPTION_GLOBS,	/* char *: colon-separated globs */
	OPTION_STRING,	/* char *: anything that is not empty */
	OPTION_CHOICE,	/* int: index into values */
	OPTION_COUNT,	/* unsigned or uint64_t */
	OPTION_SIZE,	/* uint64_t: bytes */
	OPTION_MILLIS,	/* uint64_t: milliseconds, written as seconds */
	OPTION_SECONDS, /* double */
	OPTION_FLAG,	/* bool */
	OPTION_FILE,	/* a configuration file: read at once, not stored */
};

struct option {
	const char *name;
	const char *negative; /* the flag that says the opposite */
	enum option_type type;
	size_t at, size;	   /* where the value goes in struct jsonl_config */
	size_t negative_at;	   /* a flag that remembers that it was denied; 0: none */
	const char *standard;	   /* the default, as it would be written; NULL: none */
	const char *arg;	   /* what -h calls the value */
	const char *const *values; /* of a choice, ended by NULL */
	int available;		   /* so many of them, the rest is for later; 0: all */
	uint64_t min, max;	   /* of numbers, in the unit that is stored */
	const char *help;
};

struct option_value {
	char *string;
	uint64_t number;
};

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

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
static const struct option options[] = {
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

static int config_fail(char **error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int config_fail(char **error, int code, const char *format, ...)
{
	va_list ap;
	int n;

	if (!error)
		return code;
	va_start(ap, format);
	n = vasprintf(error, format, ap);
	va_end(ap);
	if (n < 0) {
		*error = NULL;
		return -ENOMEM;
	}
	return code;
}

static const struct option *config_find(const char *key, bool *negative)
{
	for (size_t i = 0; i < OPTION_N; i++) {
		*negative = options[i].negative && strcmp(options[i].negative, key) == 0;
		if (*negative || strcmp(options[i].name, key) == 0)
			return &options[i];
	}
	return NULL;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits, up to `max`; moves *p behind them. */
static bool parse_digits(const char **p, uint64_t *value)
{
	const char *s = *p;

	*value = 0;
	for (; is_digit(*s); s++) {
		if (__builtin_mul_overflow(*value, UINT64_C(10), value) ||
		    __builtin_add_overflow(*value, (uint64_t)(*s - '0'), value))
			return false;
	}
	if (s == *p)
		return false;
	*p = s;
	return true;
}

static bool parse_size(const char *s, uint64_t *value)
{
	uint64_t unit = 1;

	if (!parse_digits(&s, value))
		return false;
	switch (*s) {
	case 'k':
	case 'K':
		unit = KIB;
		s++;
		break;
	case 'm':
	case 'M':
		unit = MIB;
		s++;
		break;
	case 'g':
	case 'G':
		unit = GIB;
		s++;
		break;
	default:
		break;
	}
	return *s == '\0' && !__builtin_mul_overflow(*value, unit, value);
}

/* Seconds with up to three decimals. Not strtod(3): that depends on the locale. */
static bool parse_millis(const char *s, uint64_t *value)
{
	if (!parse_digits(&s, value) ||
	    __builtin_mul_overflow(*value, UINT64_C(1000), value))
		return false;
	if (*s == '.') {
		uint64_t unit = 100;

		if (!is_digit(*++s))
			return false;
		for (; is_digit(*s) && unit; s++, unit /= 10)
			*value += (uint64_t)(*s - '0') * unit;
		while (*s == '0')
			s++;
	}
	return *s == '\0';
}

static bool parse_flag(const char *s, uint64_t *value)
{
	static const char *const words[] = {"no",  "yes", "false", "true",
					    "off", "on",  "0",	   "1"};

	if (!s) {
		*value = 1;
		return true;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(s, words[i]) == 0) {
			*value = i % 2;
			return true;
		}
	}
	return false;
}

/* A size as people write it. */
static const char *size_text(uint64_t n, char buf[32])
{
	if (n && n % GIB == 0)
		snprintf(buf, 32, "%lluG", (unsigned long long)(n / GIB));
	else if (n && n % MIB == 0)
		snprintf(buf, 32, "%lluM", (unsigned long long)(n / MIB));
	else if (n == INT64_MAX)
		snprintf(buf, 32, "%s", "8589934591G");
	else
		snprintf(buf, 32, "%llu", (unsigned long long)n);
	return buf;
}

static void list_values(const struct option *o, int from, int to, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (int i = from; i < to && n < size; i++)
		n += (size_t)snprintf(buf + n, size - n, "%s%s", i > from ? ", " : "",
				      o->values[i]);
}

static int parse_choice(const struct option *o, const char *s, uint64_t *value,
			char **error)
{
	int n = 0, found = -1, available;
	char list[128];

	for (; o->values[n]; n++) {
		if (strcmp(s, o->values[n]) == 0)
			found = n;
	}
	available = o->available ? o->available : n;
	list_values(o, 0, available, list, sizeof(list));
	if (found >= available)
		return config_fail(error, -EINVAL,
				   "%s=%s is not available in this version, only %s is",
				   o->name, s, list);
	if (found < 0)
		return config_fail(error, -EINVAL, "%s=%s: allowed is one of %s", o->name,
				   s, list);
	*value = (uint64_t)found;
	return 0;
}

static int parse_number(const struct option *o, const char *s, uint64_t *value,
			char **error)
{
	char min[32], max[32];
	const char *end = s;
	bool ok;

	switch (o->type) {
	case OPTION_COUNT:
		ok = parse_digits(&end, value) && *end == '\0';
		break;
	case OPTION_SIZE:
		ok = parse_size(s, value);
		break;
	default:
		ok = parse_millis(s, value);
		break;
	}
	if (ok && *value >= o->min && *value <= o->max)
		return 0;
	if (o->type == OPTION_COUNT)
		return config_fail(
		    error, -EINVAL, "%s=%s: allowed is a whole number from %llu to %llu",
		    o->name, s, (unsigned long long)o->min, (unsigned long long)o->max);
	if (o->type == OPTION_SIZE)
		return config_fail(error, -EINVAL,
				   "%s=%s: allowed is a number of bytes from %s to %s, "
				   "also written with K, M or G (powers of 1024)",
				   o->name, s, size_text(o->min, min),
				   size_text(o->max, max));
	return config_fail(error, -EINVAL,
			   "%s=%s: allowed are seconds from 0 to %llu, with up to three "
			   "decimals",
			   o->name, s, (unsigned long long)(o->max / 1000));
}

static int parse_globs(const struct option *o, const char *s, char **error)
{
	const char *why = jsonl_glob_check_list(s);

	if (why)
		return config_fail(error, -EINVAL, "%s=%s: %s", o->name, s, why);
	if (o->min && s[strspn(s, ":")] == '\0')
		return config_fail(error, -EINVAL,
				   "%s wants at least one pattern, for example %s=%s",
				   o->name, o->name, o->standard);
	return 0;
}

/* Text -> value, or a sentence about what is allowed. */
static int config_parse(const struct option *o, bool negative, const char *text,
			struct option_value *value, char **error)
{
	int r;

	if (o->type == OPTION_FLAG) {
		if (!parse_flag(text, &value->number))
			return config_fail(error, -EINVAL,
					   "%s=%s: allowed is yes or no, or no value",
					   negative ? o->negative : o->name, text);
		value->number ^= negative;
		return 0;
	}
	if (!text)
		return config_fail(error, -EINVAL, "%s wants a value: %s=%s", o->name,
				   o->name, o->arg);
	switch (o->type) {
	case OPTION_CHOICE:
		return parse_choice(o, text, &value->number, error);
	case OPTION_COUNT:
	case OPTION_SIZE:
	case OPTION_MILLIS:
	case OPTION_SECONDS:
		return parse_number(o, text, &value->number, error);
	case OPTION_GLOBS:
		r = parse_globs(o, text, error);
		if (r)
			return r;
		break;
	default:
		if (!text[0])
			return config_fail(error, -EINVAL,
					   "%s= is empty: allowed is %s=%s", o->name,
					   o->name, o->arg);
		break;
	}
	value->string = strdup(text);
	return value->string ? 0 : -ENOMEM;
}

/* Takes value->string over. */
static void config_store(struct jsonl_config *config, const struct option *o,
			 struct option_value *value)
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
		struct option_value value = {0};
		int r;

		if (!options[i].standard)
			continue;
		r = config_parse(&options[i], false, options[i].standard, &value, NULL);
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
	struct option_value parsed = {0};
	const struct option *o;
	bool negative;
	int r;

	if (error)
		*error = NULL;
	o = config_find(key, &negative);
	if (!o)
		return config_fail(error, -ENOENT, "unknown option \"%s\"", key);
	if (o->type == OPTION_FILE && value && value[0]) {
		/* -ENOENT means something else here. */
		r = jsonl_config_load(config, value, error);
		return r && r != -ENOMEM ? -EINVAL : r;
	}
	r = config_parse(o, negative, value, &parsed, error);
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
	struct option_value value = {0};
	cleanup_free char *why = NULL;
	const struct option *o;
	uint64_t bit;
	bool negative;
	int r;

	o = config_find(key, &negative);
	if (!o)
		return config_fail(&file->error, -EINVAL, "%s:%u: unknown option \"%s\"",
				   file->path, line, key);
	if (o->type == OPTION_FILE)
		return config_fail(&file->error, -EINVAL,
				   "%s:%u: a configuration file cannot name another",
				   file->path, line);
	bit = UINT64_C(1) << (o - options);
	if (file->seen & bit)
		return config_fail(&file->error, -EINVAL, "%s:%u: %s is set twice",
				   file->path, line, o->name);
	file->seen |= bit;
	r = config_parse(o, negative, text, &value, &why);
	if (r == -EINVAL)
		return config_fail(&file->error, r, "%s:%u: %s", file->path, line,
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
		return config_fail(error, r, "%s: %s", path, jsonl_error_text(r));
	return r;
}

int jsonl_config_check(const struct jsonl_config *config, char **error)
{
	char size[32];

	if (error)
		*error = NULL;
	if (config->pending_max < config->maxrecord)
		return config_fail(error, -EINVAL,
				   "pending_max must be at least maxrecord (%s), or no "
				   "record of that size can be finished",
				   size_text(config->maxrecord, size));
	if (config->allow_other && config->allow_root)
		return config_fail(error, -EINVAL,
				   "allow_other and allow_root exclude each other: "
				   "allow_other includes root");
	/* Without it the daemon's rights would be everybody's. A mount by root is for
	 * everybody unless it says otherwise. */
	if (!config->default_permissions && !config->noallow_other)
		return config_fail(error, -EINVAL,
				   "nodefault_permissions is allowed only together with "
				   "noallow_other: other users must be checked");
	if (!config->default_permissions && config->allow_root)
		return config_fail(error, -EINVAL,
				   "nodefault_permissions and allow_root exclude each "
				   "other");
	return 0;
}

static void help_option(FILE *to, const struct option *o)
{
	char left[64], list[128];
	int n = 0;

	if (o->type == OPTION_FLAG)
		snprintf(left, sizeof(left), "%s%s%s", o->name, o->negative ? ", " : "",
			 o->negative ? o->negative : "");
	else
		snprintf(left, sizeof(left), "%s=%s", o->name, o->arg);
	fprintf(to, "    -o %-26s %s", left, o->help);
	if (o->type == OPTION_CHOICE) {
		while (o->values[n])
			n++;
		list_values(o, 0, o->available ? o->available : n, list, sizeof(list));
		fprintf(to, " [%s]", list);
		if (o->available) {
			list_values(o, o->available, n, list, sizeof(list));
			fprintf(to, " (not available yet: %s)", list);
		}
	}
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
