/* SPDX-License-Identifier: MIT */
#include "rules/option.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "match/glob.h"

int jsonl_option_fail(char **error, int code, const char *format, ...)
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

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Parses digits and moves *p behind them. */
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

/* Parses seconds with up to three decimals. strtod(3) would depend on the locale. */
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

const char *jsonl_option_size(uint64_t n, char buf[32])
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

const char *jsonl_option_values(const struct jsonl_option *o, char buf[128])
{
	size_t n = 0;

	buf[0] = '\0';
	for (int i = 0; o->values[i] && n < 128; i++)
		n += (size_t)snprintf(buf + n, 128 - n, "%s%s", n ? ", " : "",
				      o->values[i]);
	return buf;
}

static int parse_choice(const struct jsonl_option *o, const char *s, uint64_t *value,
			char **error)
{
	char list[128];
	int i = 0;

	(void)jsonl_option_values(o, list);
	while (o->values[i] && strcmp(s, o->values[i]) != 0)
		i++;
	if (!o->values[i])
		return jsonl_option_fail(error, -EINVAL, "%s=%s: allowed is one of %s",
					 o->name, s, list);
	*value = (uint64_t)i;
	return 0;
}

static int parse_number(const struct jsonl_option *o, const char *s, uint64_t *value,
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
		return jsonl_option_fail(
		    error, -EINVAL, "%s=%s: allowed is a whole number from %llu to %llu",
		    o->name, s, (unsigned long long)o->min, (unsigned long long)o->max);
	if (o->type == OPTION_SIZE)
		return jsonl_option_fail(
		    error, -EINVAL,
		    "%s=%s: allowed is a number of bytes from %s to %s, "
		    "also written with K, M or G (powers of 1024)",
		    o->name, s, jsonl_option_size(o->min, min),
		    jsonl_option_size(o->max, max));
	return jsonl_option_fail(
	    error, -EINVAL,
	    "%s=%s: allowed are seconds from 0 to %llu, with up to three "
	    "decimals",
	    o->name, s, (unsigned long long)(o->max / 1000));
}

static int parse_globs(const struct jsonl_option *o, const char *s, char **error)
{
	const char *why = jsonl_glob_check_list(s);

	if (why)
		return jsonl_option_fail(error, -EINVAL, "%s=%s: %s", o->name, s, why);
	if (o->min && s[strspn(s, ":")] == '\0')
		return jsonl_option_fail(
		    error, -EINVAL, "%s wants at least one pattern, for example %s=%s",
		    o->name, o->name, o->standard);
	return 0;
}

int jsonl_option_parse(const struct jsonl_option *o, bool negative, const char *text,
		       struct jsonl_option_value *value, char **error)
{
	int r;

	if (o->type == OPTION_FLAG) {
		if (!parse_flag(text, &value->number))
			return jsonl_option_fail(
			    error, -EINVAL, "%s=%s: allowed is yes or no, or no value",
			    negative ? o->negative : o->name, text);
		value->number ^= negative;
		return 0;
	}
	if (!text)
		return jsonl_option_fail(error, -EINVAL, "%s wants a value: %s=%s",
					 o->name, o->name, o->arg);
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
			return jsonl_option_fail(error, -EINVAL,
						 "%s= is empty: allowed is %s=%s",
						 o->name, o->name, o->arg);
		break;
	}
	value->string = strdup(text);
	return value->string ? 0 : -ENOMEM;
}

char *jsonl_option_next(char **list, char **value)
{
	char *from = *list, *item, *to;
	bool more = true;

	do {
		if (!from || !*from)
			return NULL;
		for (item = to = from; *from && *from != ','; from++) {
			if (from[0] == '\\' && from[1] == ',')
				from++;
			*to++ = *from;
		}
		more = *from == ',';
		from += more;
		*to = '\0';
	} while (!*item);
	*list = more ? from : NULL;
	*value = strchr(item, '=');
	if (*value)
		*(*value)++ = '\0';
	return item;
}
