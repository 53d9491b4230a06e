/* The one file that includes json-c: configuration in, reports out. A report is a tree
 * that is built by these calls and printed once. Not thread-safe per tree. */
#ifndef JSONL_REPORT_H
#define JSONL_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct jsonl_report; /* one JSON value: an object or an array */

struct jsonl_report *jsonl_report_object(void);
struct jsonl_report *jsonl_report_array(void);
void jsonl_report_free(struct jsonl_report *r);
/* All setters make a member of an object (key) or, with key NULL, an item of an array.
 * Strings that are not UTF-8 are stored with U+FFFD in place of what is not. Allocation
 * failures are remembered and make jsonl_report_text return NULL. */
void jsonl_report_add_string(struct jsonl_report *r, const char *key, const char *value);
void jsonl_report_add_int(struct jsonl_report *r, const char *key, int64_t value);
void jsonl_report_add_uint(struct jsonl_report *r, const char *key, uint64_t value);
void jsonl_report_add_bool(struct jsonl_report *r, const char *key, bool value);
/* Takes child over. */
void jsonl_report_add(struct jsonl_report *r, const char *key,
		      struct jsonl_report *child);
/* The text, indented when pretty, else one line; with a final newline; to be freed. */
char *jsonl_report_text(const struct jsonl_report *r, bool pretty);

/* What jsonl_report_read calls, with the line that something stands on. A non-zero answer
 * ends the walk and is returned. */
struct jsonl_report_reader {
	/* A member, with its value as text: true and false become "yes" and "no", numbers
	 * their digits, an array of strings is joined by ':'. */
	int (*set)(void *ctx, const char *key, const char *value, unsigned line);
	/* Around the members of an object in the list `key`. */
	int (*begin)(void *ctx, const char *key, unsigned line);
	int (*end)(void *ctx, const char *key, unsigned line);
};

/* Reads the JSON object in file `path` (at most 1 MiB), which messages call `name`. A key
 * that comes twice in an object, a null, an object that is not in a list of the outermost
 * are errors. 0, -errno with *error (file and what the system said), or -EINVAL with
 * *error (file, line, reason); *error is freed by the caller, NULL when memory ran out.
 */
int jsonl_report_read(const char *path, const char *name,
		      const struct jsonl_report_reader *reader, void *ctx,
		      char **error) jsonl_must_check;

/* Reads values back, for jsonlfsctl: parses text (at most 256 MiB), NULL when it is not
 * valid JSON. Without a key the getters read the value itself (an item of an array).
 * What is absent or of another type reads as 0, false or NULL; NULL may be asked, too. */
struct jsonl_report *jsonl_report_parse(const char *text);
uint64_t jsonl_report_get_uint(const struct jsonl_report *r, const char *key);
bool jsonl_report_get_bool(const struct jsonl_report *r, const char *key);
const char *jsonl_report_get_string(const struct jsonl_report *r, const char *key);
/* Borrowed from r; NULL when absent. */
const struct jsonl_report *jsonl_report_get(const struct jsonl_report *r,
					    const char *key);
const struct jsonl_report *jsonl_report_at(const struct jsonl_report *r, size_t index);
size_t jsonl_report_length(const struct jsonl_report *r);

#endif
