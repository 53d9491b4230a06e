/* SPDX-License-Identifier: MIT */
/* Reads a configuration file, member by member, with the line of each. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "json/text.h"
#include "report/report.h"
#include "report/report_internal.h"

#define FILE_MAX   (1U << 20) /* bytes */
#define FILE_DEPTH 16	      /* nested objects and arrays */

static int read_failed(char **error, const char *path, unsigned line, int code,
		       const char *reason)
{
	int n = line ? asprintf(error, "%s:%u: %s", path, line, reason)
		     : asprintf(error, "%s: %s", path, reason);

	if (n < 0)
		*error = NULL;
	return code;
}

/* Reads the whole file and appends a NUL. */
static int slurp(const char *path, const char *name, char **text, size_t *len,
		 char **error)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	cleanup_free char *buf = malloc(FILE_MAX + 2);
	size_t have = 0;
	struct stat st;

	if (!buf)
		return read_failed(error, name, 0, -ENOMEM, "out of memory");
	if (fd < 0 || fstat(fd, &st) < 0)
		return read_failed(error, name, 0, -errno, jsonl_error_text(-errno));
	if (!S_ISREG(st.st_mode))
		return read_failed(error, name, 0, -EINVAL, "is not a regular file");
	for (;;) {
		ssize_t n = read(fd, buf + have, FILE_MAX + 1 - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return read_failed(error, name, 0, -errno,
					   jsonl_error_text(-errno));
		have += (size_t)n;
		if (n == 0)
			break;
		if (have > FILE_MAX)
			return read_failed(error, name, 0, -EINVAL,
					   "is larger than 1 MiB");
	}
	buf[have] = '\0';
	*len = have;
	*text = steal_ptr(&buf);
	return 0;
}

/* A place in a text that is known to be valid JSON. */
struct cursor {
	const char *at;
	unsigned line;
};

static void skip_space(struct cursor *c)
{
	for (; *c->at && strchr(" \t\r\n", *c->at); c->at++)
		c->line += *c->at == '\n';
}

static void skip_string(struct cursor *c)
{
	for (c->at++; *c->at != '"'; c->at++)
		c->at += *c->at == '\\';
	c->at++;
}

static void skip_value(struct cursor *c)
{
	unsigned depth = 0;

	if (*c->at != '{' && *c->at != '[' && *c->at != '"') {
		c->at += strcspn(c->at, ",]} \t\r\n");
		return;
	}
	do {
		if (*c->at == '"') {
			skip_string(c);
			continue;
		}
		depth += *c->at == '{' || *c->at == '[';
		depth -= *c->at == '}' || *c->at == ']';
		c->line += *c->at == '\n';
		c->at++;
	} while (depth);
}

/* Returns why `o` cannot be taken as one string, or NULL. */
static const char *string_fault(struct json_object *o)
{
	if (!json_object_is_type(o, json_type_string))
		return "a list may hold strings only";
	if (strlen(json_object_get_string(o)) != (size_t)json_object_get_string_len(o))
		return "a string may not hold \\u0000";
	return NULL;
}

static const char *join_array(struct json_object *array, char **joined)
{
	size_t n = json_object_array_length(array), size = 1;
	char *end;

	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(array, i);
		const char *fault = string_fault(item);

		if (fault)
			return fault;
		if (strchr(json_object_get_string(item), ':'))
			return "an item of a list may not hold ':', which separates "
			       "items";
		size += (size_t)json_object_get_string_len(item) + 1;
	}
	end = *joined = malloc(size);
	if (!end)
		return "out of memory";
	*end = '\0';
	for (size_t i = 0; i < n; i++) {
		if (i)
			*end++ = ':';
		end = stpcpy(end,
			     json_object_get_string(json_object_array_get_idx(array, i)));
	}
	return NULL;
}

/* Reads the value in text[0..len) as one string. NULL, or the reason why that cannot
 * be. */
static const char *plain_value(const char *text, size_t len, char **value)
{
	struct json_object *o;
	const char *fault;

	switch (*text) {
	case 't':
	case 'f':
		*value = strdup(*text == 't' ? "yes" : "no");
		return *value ? NULL : "out of memory";
	case 'n':
		return "null is no value; leave the option out";
	case '{':
		return "an object is no value here";
	case '"':
	case '[':
		break;
	default:
		*value = strndup(text, len);
		return *value ? NULL : "out of memory";
	}
	o = jsonl_report_parse_valid(text, len);
	if (!o)
		return "out of memory";
	if (*text == '[') {
		fault = join_array(o, value);
	} else {
		fault = string_fault(o);
		if (!fault && !(*value = strdup(json_object_get_string(o))))
			fault = "out of memory";
	}
	json_object_put(o);
	return fault;
}

struct reader {
	const char *path;
	const struct jsonl_report_reader *call;
	void *ctx;
	char **error;
	struct json_object *seen; /* keys, to notice one that comes twice */
	bool inner;		  /* it is in an object of a list */
};

static int read_objects(struct reader *r, const char *key, struct cursor *c);
static int read_members(struct reader *r, struct cursor *c);

static bool is_list_of_objects(struct cursor c)
{
	if (*c.at++ != '[')
		return false;
	skip_space(&c);
	return *c.at == '{';
}

/* Reads one member, `"key": value`, and leaves the cursor behind it. */
static int read_member(struct reader *r, struct cursor *c)
{
	const char *fault, *text;
	cleanup_free char *key = NULL;
	cleanup_free char *value = NULL;
	unsigned line = c->line;
	struct json_object *had;

	text = c->at;
	skip_string(c);
	fault = plain_value(text, (size_t)(c->at - text), &key);
	if (fault)
		return read_failed(r->error, r->path, line, -EINVAL, fault);
	skip_space(c);
	c->at++;
	skip_space(c);
	if (json_object_object_get_ex(r->seen, key, &had))
		return read_failed(r->error, r->path, line, -EINVAL,
				   r->inner ? "this key stands in the object twice"
					    : "this key stands in the file twice");
	if (json_object_object_add(r->seen, key, NULL) < 0)
		return read_failed(r->error, r->path, 0, -ENOMEM, "out of memory");
	if (!r->inner && is_list_of_objects(*c))
		return read_objects(r, key, c);
	text = c->at;
	skip_value(c);
	fault = plain_value(text, (size_t)(c->at - text), &value);
	if (fault)
		return read_failed(r->error, r->path, line, -EINVAL, fault);
	return r->call->set(r->ctx, key, value, line);
}

/* Reads one object of a list. The cursor is on its brace, and is left behind it. */
static int read_object(struct reader *r, const char *key, struct cursor *c)
{
	struct reader inner = *r;
	int rc;

	if (*c->at != '{')
		return read_failed(r->error, r->path, c->line, -EINVAL,
				   "a list holds objects or strings, not both");
	inner.inner = true;
	inner.seen = json_object_new_object();
	if (!inner.seen)
		return read_failed(r->error, r->path, 0, -ENOMEM, "out of memory");
	rc = r->call->begin(r->ctx, key, c->line);
	if (!rc)
		rc = read_members(&inner, c);
	if (!rc)
		rc = r->call->end(r->ctx, key, c->line);
	json_object_put(inner.seen);
	return rc;
}

static int read_objects(struct reader *r, const char *key, struct cursor *c)
{
	int rc = 0;

	c->at++;
	skip_space(c);
	while (*c->at != ']') {
		rc = read_object(r, key, c);
		if (rc)
			return rc;
		skip_space(c);
		c->at += *c->at == ',';
		skip_space(c);
	}
	c->at++;
	return 0;
}

/* Reads the members of an object. The cursor is on its opening brace, and is left behind
 * the closing one. */
static int read_members(struct reader *r, struct cursor *c)
{
	int rc;

	c->at++;
	skip_space(c);
	while (*c->at != '}') {
		rc = read_member(r, c);
		if (rc)
			return rc;
		skip_space(c);
		c->at += *c->at == ',';
		skip_space(c);
	}
	c->at++;
	return 0;
}

int jsonl_report_read(const char *path, const char *name,
		      const struct jsonl_report_reader *reader, void *ctx, char **error)
{
	struct reader r = {.path = name, .call = reader, .ctx = ctx, .error = error};
	cleanup_free char *text = NULL;
	struct cursor c = {.line = 1};
	struct jsonl_text check;
	size_t len = 0;
	int rc;

	*error = NULL;
	rc = slurp(path, name, &text, &len, error);
	if (rc < 0)
		return rc;
	rc = jsonl_text_check(text, len, FILE_DEPTH, &check);
	if (rc > 0) {
		unsigned line = 1;

		for (size_t i = 0; i < check.offset && i < len; i++)
			line += text[i] == '\n';
		return read_failed(error, name, line, -EINVAL,
				   rc == JSONL_BLANK ? "the file is empty"
				   : rc == JSONL_INCOMPLETE
				       ? "the JSON text ends too early"
				       : jsonl_error_text(rc));
	}
	if (check.kind != JSONL_KIND_OBJECT)
		return read_failed(error, name, 1, -EINVAL,
				   "the file must hold one JSON object");
	r.seen = json_object_new_object();
	if (!r.seen)
		return read_failed(error, name, 0, -ENOMEM, "out of memory");
	c.at = text;
	skip_space(&c);
	rc = read_members(&r, &c);
	json_object_put(r.seen);
	return rc;
}
