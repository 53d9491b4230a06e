/* SPDX-License-Identifier: MIT */
/* Describes an option, and turns the text of its value into the value. The table of
 * options is in config.c. No state; any thread. */
#ifndef JSONL_OPTION_H
#define JSONL_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

enum jsonl_option_type {
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

struct jsonl_option {
	const char *name;
	const char *negative; /* of a flag: its opposite */
	enum jsonl_option_type type;
	size_t at, size;	   /* of the value, in struct jsonl_config */
	bool rule;		   /* for rules only, no option of a mount */
	size_t negative_at;	   /* of the flag that its opposite sets; 0: none */
	const char *standard;	   /* the default, as -o takes it; NULL: none */
	const char *arg;	   /* the value's name in -h */
	const char *const *values; /* of a choice, ended by NULL */
	uint64_t min, max;	   /* of numbers, in the unit that is stored */
	const char *help;
};

struct jsonl_option_value {
	char *string; /* of globs and strings; freed by the caller */
	uint64_t number;
};

/* Sets *error to a sentence, to be freed by the caller; `error` may be NULL. Returns
 * code, or -ENOMEM. */
int jsonl_option_fail(char **error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Parses a value. `negative`: the option was named by its opposite; `text` is NULL when
 * no value was given. 0, -ENOMEM, or -EINVAL with *error, which lists what is allowed. */
int jsonl_option_parse(const struct jsonl_option *o, bool negative, const char *text,
		       struct jsonl_option_value *value, char **error) jsonl_must_check;
/* Takes the next option from a list as -o has it; *list is moved, and the text is
 * changed. Returns the name, with *value behind its = or NULL; NULL at the end of the
 * list. A comma within a value is written "\,". */
char *jsonl_option_next(char **list, char **value);
/* Formats a number of bytes as people write it. */
const char *jsonl_option_size(uint64_t bytes, char buf[32]);
/* Lists the values of a choice in `buf`, which it returns. */
const char *jsonl_option_values(const struct jsonl_option *o, char buf[128]);

#endif
