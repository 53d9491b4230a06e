/* What an option is, and how the text of a value becomes the value. Which options there
 * are is the business of config.c. Internal to lib; no state, any thread. */
#ifndef JSONL_OPTION_H
#define JSONL_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

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
	const char *negative; /* the flag that says the opposite */
	enum jsonl_option_type type;
	size_t at, size;	   /* where the value goes in struct jsonl_config */
	bool rule;		   /* for rules alone, no option of a mount */
	size_t negative_at;	   /* a flag that remembers that it was denied; 0: none */
	const char *standard;	   /* the default, as it would be written; NULL: none */
	const char *arg;	   /* what -h calls the value */
	const char *const *values; /* of a choice, ended by NULL */
	uint64_t min, max;	   /* of numbers, in the unit that is stored */
	const char *help;
};

struct jsonl_option_value {
	char *string; /* of globs and strings; the caller's */
	uint64_t number;
};

/* Makes *error a sentence, to be freed by the caller, unless error is NULL. Returns code,
 * or -ENOMEM. */
int jsonl_option_fail(char **error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* `negative`: the option was named by its opposite. `text` NULL: without a value. 0,
 * -ENOMEM, or -EINVAL and *error, which says what is allowed. */
int jsonl_option_parse(const struct jsonl_option *o, bool negative, const char *text,
		       struct jsonl_option_value *value, char **error) jsonl_must_check;
/* The next option of a list as -o takes it, which is changed and gone through: the name,
 * and *value behind its =, NULL when there is none. NULL: no more. A comma within a value
 * is written "\,". */
char *jsonl_option_next(char **list, char **value);
/* A number of bytes as people write it. */
const char *jsonl_option_size(uint64_t bytes, char buf[32]);
/* The values of a choice in one line, in `buf`. */
const char *jsonl_option_values(const struct jsonl_option *o, char buf[128]);

#endif
