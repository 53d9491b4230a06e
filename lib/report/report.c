/* SPDX-License-Identifier: MIT */
#include "report/report.h"

#include <limits.h>
#include <string.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "json/text.h"
#include "json/utf8.h"
#include "report/report_internal.h"

#define TEXT_MAX   (256U << 20) /* bytes that jsonl_report_parse takes */
#define TEXT_DEPTH 128

/* The user data of a container that lost a member because memory ran out: setting it
 * allocates nothing. A report is a json_object under another name. */
static char failed_mark;

static struct json_object *object_of(const struct jsonl_report *r)
{
	return (struct json_object *)(uintptr_t)r;
}

static void mark_failed(struct json_object *o)
{
	if (o)
		json_object_set_userdata(o, &failed_mark, NULL);
}

static bool is_failed(struct json_object *o)
{
	return !o || json_object_get_userdata(o) == &failed_mark;
}

struct jsonl_report *jsonl_report_object(void)
{
	return (struct jsonl_report *)json_object_new_object();
}

struct jsonl_report *jsonl_report_array(void)
{
	return (struct jsonl_report *)json_object_new_array();
}

void jsonl_report_free(struct jsonl_report *r)
{
	json_object_put(object_of(r));
}

/* Adds a child, which it takes over even on failure. */
static void add_child(struct jsonl_report *r, const char *key, struct json_object *child)
{
	struct json_object *parent = object_of(r);
	int rc;

	if (!parent || !child) {
		mark_failed(parent);
		json_object_put(child);
		return;
	}
	if (is_failed(child))
		mark_failed(parent);
	rc = key ? json_object_object_add(parent, key, child)
		 : json_object_array_add(parent, child);
	if (rc < 0) {
		mark_failed(parent);
		json_object_put(child);
	}
}

/* Copies text as valid UTF-8 whatever the bytes were; NULL: out of memory. */
static char *clean_copy(const char *value)
{
	size_t len = strlen(value), out = 0;
	char *copy = malloc(len * 3 + 1);
	uint32_t code;

	if (!copy)
		return NULL;
	for (size_t i = 0; i < len;) {
		size_t n = jsonl_utf8_next(value + i, len - i, &code);

		memcpy(copy + out, n ? value + i : "\xef\xbf\xbd", n ? n : 3);
		out += n ? n : 3;
		i += n ? n : 1;
	}
	copy[out] = '\0';
	return copy;
}

void jsonl_report_add_string(struct jsonl_report *r, const char *key, const char *value)
{
	cleanup_free char *copy = clean_copy(value);

	add_child(r, key, copy ? json_object_new_string(copy) : NULL);
}

void jsonl_report_add_int(struct jsonl_report *r, const char *key, int64_t value)
{
	add_child(r, key, json_object_new_int64(value));
}

void jsonl_report_add_uint(struct jsonl_report *r, const char *key, uint64_t value)
{
	add_child(r, key, json_object_new_uint64(value));
}

void jsonl_report_add_bool(struct jsonl_report *r, const char *key, bool value)
{
	add_child(r, key, json_object_new_boolean(value));
}

void jsonl_report_add(struct jsonl_report *r, const char *key, struct jsonl_report *child)
{
	add_child(r, key, object_of(child));
}

char *jsonl_report_text(const struct jsonl_report *r, bool pretty)
{
	struct json_object *o = object_of(r);
	int flags = JSON_C_TO_STRING_NOSLASHESCAPE;
	const char *text;
	size_t len;
	char *copy;

	if (is_failed(o))
		return NULL;
	flags |= pretty ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : 0;
	text = json_object_to_json_string_length(o, flags, &len);
	copy = text ? malloc(len + 2) : NULL;
	if (!copy)
		return NULL;
	memcpy(copy, text, len);
	memcpy(copy + len, "\n", 2);
	return copy;
}

struct json_object *jsonl_report_parse_valid(const char *text, size_t len)
{
	struct json_tokener *tok;
	struct json_object *o;

	if (len > INT_MAX)
		return NULL;
	tok = json_tokener_new_ex(TEXT_DEPTH + 1);
	if (!tok)
		return NULL;
	o = json_tokener_parse_ex(tok, text, (int)len);
	if (json_tokener_get_error(tok) != json_tokener_success ||
	    json_tokener_get_parse_end(tok) != len) {
		json_object_put(o);
		o = NULL;
	}
	json_tokener_free(tok);
	return o;
}

/* ---- reading a report back ---- */

struct jsonl_report *jsonl_report_parse(const char *text)
{
	size_t len = strnlen(text, TEXT_MAX + 1);
	struct jsonl_text check;

	while (len && strchr(" \t\r\n", text[len - 1]))
		len--;
	if (len > TEXT_MAX || jsonl_text_check(text, len, TEXT_DEPTH, &check) != JSONL_OK)
		return NULL;
	/* Containers alone are parsed: json-c takes a bare number for unfinished. */
	if (check.kind != JSONL_KIND_OBJECT && check.kind != JSONL_KIND_ARRAY)
		return NULL;
	return (struct jsonl_report *)jsonl_report_parse_valid(text, len);
}

static struct json_object *member(const struct jsonl_report *r, const char *key)
{
	struct json_object *o = object_of(r);

	if (!key)
		return o;
	if (!json_object_is_type(o, json_type_object) ||
	    !json_object_object_get_ex(o, key, &o))
		return NULL;
	return o;
}

uint64_t jsonl_report_get_uint(const struct jsonl_report *r, const char *key)
{
	struct json_object *o = member(r, key);

	return json_object_is_type(o, json_type_int) ? json_object_get_uint64(o) : 0;
}

bool jsonl_report_get_bool(const struct jsonl_report *r, const char *key)
{
	struct json_object *o = member(r, key);

	return json_object_is_type(o, json_type_boolean) && json_object_get_boolean(o);
}

const char *jsonl_report_get_string(const struct jsonl_report *r, const char *key)
{
	struct json_object *o = member(r, key);

	return json_object_is_type(o, json_type_string) ? json_object_get_string(o)
							: NULL;
}

const struct jsonl_report *jsonl_report_get(const struct jsonl_report *r, const char *key)
{
	return (const struct jsonl_report *)member(r, key);
}

const struct jsonl_report *jsonl_report_at(const struct jsonl_report *r, size_t index)
{
	struct json_object *o = object_of(r);

	if (!json_object_is_type(o, json_type_array) ||
	    index >= json_object_array_length(o))
		return NULL;
	return (const struct jsonl_report *)json_object_array_get_idx(o, index);
}

size_t jsonl_report_length(const struct jsonl_report *r)
{
	struct json_object *o = object_of(r);

	if (json_object_is_type(o, json_type_array))
		return json_object_array_length(o);
	if (json_object_is_type(o, json_type_object))
		return (size_t)json_object_object_length(o);
	return 0;
}
