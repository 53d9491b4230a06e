/* SPDX-License-Identifier: MIT */
/* Reads configuration files and writes reports, by json-c: no other room knows json-c. A
 * report is a tree of JSON values that is built by the functions here. One thread per
 * tree. */
#ifndef JSONL_REPORT_H
#define JSONL_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct jsonl_report; /* one JSON value: an object or an array */

struct jsonl_report *jsonl_report_object(void);
struct jsonl_report *jsonl_report_array(void);
void jsonl_report_free(struct jsonl_report *r);
/* Each adds a member to an object or, with key NULL, an item to an array. Bytes of a
 * string that are not UTF-8 become U+FFFD. When memory runs out, jsonl_report_text
 * returns NULL. */
void jsonl_report_add_string(struct jsonl_report *r, const char *key, const char *value);
void jsonl_report_add_int(struct jsonl_report *r, const char *key, int64_t value);
void jsonl_report_add_uint(struct jsonl_report *r, const char *key, uint64_t value);
void jsonl_report_add_bool(struct jsonl_report *r, const char *key, bool value);
/* Adds a tree, which it takes over. */
void jsonl_report_add(struct jsonl_report *r, const char *key,
		      struct jsonl_report *child);
/* Returns the text with a final newline, to be freed: indented when pretty, else one
 * line. */
char *jsonl_report_text(const struct jsonl_report *r, bool pretty);

/* Callbacks of jsonl_report_read; `line`: where the value begins. A non-zero result ends
 * the reading and is returned. */
struct jsonl_report_reader {
	/* A member, its value as text: "yes" or "no" for true and false, a number as it
	 * is written, an array of strings joined by ':'. */
	int (*set)(void *ctx, const char *key, const char *value, unsigned line);
	/* Before and after the members of an object in the list `key`. */
	int (*begin)(void *ctx, const char *key, unsigned line);
	int (*end)(void *ctx, const char *key, unsigned line);
};

/* Reads the JSON object in file `path`, which messages call `name`: at most 1 MiB. A key
 * that comes twice in an object, a null, and an object that is not in a list of the
 * outermost one are errors. 0; -errno with *error (the file and strerror); -EINVAL with
 * *error (file, line, reason). *error is to be freed; NULL when memory ran out. */
int jsonl_report_read(const char *path, const char *name,
		      const struct jsonl_report_reader *reader, void *ctx,
		      char **error) jsonl_must_check;

/* Parses a report of at most 256 MiB. NULL: it is no valid JSON object or array. */
struct jsonl_report *jsonl_report_parse(const char *text);
/* Each returns the value of a member or, with key NULL, of the tree itself, which may be
 * an item of an array. 0, false or NULL: it is absent or of another type, or `r` is NULL.
 */
uint64_t jsonl_report_get_uint(const struct jsonl_report *r, const char *key);
bool jsonl_report_get_bool(const struct jsonl_report *r, const char *key);
const char *jsonl_report_get_string(const struct jsonl_report *r, const char *key);
/* Each returns a part of r, which stays the owner; NULL when absent. */
const struct jsonl_report *jsonl_report_get(const struct jsonl_report *r,
					    const char *key);
const struct jsonl_report *jsonl_report_at(const struct jsonl_report *r, size_t index);
size_t jsonl_report_length(const struct jsonl_report *r);

#endif
