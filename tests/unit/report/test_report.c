/* SPDX-License-Identifier: MIT */
/* Reports are built and read back; configuration files are read with the line of each
 * key, and refused with the line of what is wrong. */
#include "report/report.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static char dir[] = "/tmp/test_report.XXXXXX";

/* ---- building ---- */

static void test_build(void)
{
	struct jsonl_report *r = jsonl_report_object(), *list = jsonl_report_array(),
			    *back;
	char *text;

	jsonl_report_add_string(r, "s", "a/\"b\"\n\xc3\xa9\x1b");
	jsonl_report_add_int(r, "i", INT64_MIN);
	jsonl_report_add_uint(r, "u", UINT64_MAX);
	jsonl_report_add_bool(r, "b", true);
	jsonl_report_add_string(list, NULL, "one");
	jsonl_report_add_uint(list, NULL, 2);
	jsonl_report_add(r, "list", list);
	text = jsonl_report_text(r, false);
	CHECK(text &&
		  strcmp(text, "{\"s\":\"a/\\\"b\\\"\\n\xc3\xa9\\u001b\","
			       "\"i\":-9223372036854775808,\"u\":18446744073709551615,"
			       "\"b\":true,\"list\":[\"one\",2]}\n") == 0,
	      "%s", text);
	back = jsonl_report_parse(text);
	free(text);
	CHECK(jsonl_report_get_uint(back, "u") == UINT64_MAX);
	CHECK(jsonl_report_get_bool(back, "b"));
	CHECK(jsonl_report_length(back) == 5);
	CHECK(jsonl_report_length(jsonl_report_get(back, "list")) == 2);
	CHECK(strcmp(jsonl_report_get_string(
			 jsonl_report_at(jsonl_report_get(back, "list"), 0), NULL),
		     "one") == 0);
	CHECK(jsonl_report_at(jsonl_report_get(back, "list"), 2) == NULL);
	/* Absent and of another type. */
	CHECK(jsonl_report_get_string(back, "u") == NULL);
	CHECK(jsonl_report_get_uint(back, "s") == 0);
	CHECK(!jsonl_report_get_bool(back, "absent"));
	CHECK(jsonl_report_get(NULL, "x") == NULL);
	CHECK(jsonl_report_length(NULL) == 0);
	jsonl_report_free(back);
	text = jsonl_report_text(r, true);
	CHECK(text && strchr(text, '\n') < text + strlen(text) - 1);
	back = text ? jsonl_report_parse(text) : NULL;
	CHECK(jsonl_report_length(back) == 5);
	jsonl_report_free(back);
	free(text);
	jsonl_report_free(r);
}

/* What is not UTF-8 becomes U+FFFD, byte by byte; the text stays valid. */
static void test_bad_bytes(void)
{
	static const struct {
		const char *in, *out;
	} table[] = {
	    {"\xff", "\xef\xbf\xbd"},
	    {"a\xc3", "a\xef\xbf\xbd"},
	    {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},
	    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
	    {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
	    {"\xe2\x82\xac\xf0\x9f\x98\x80", "\xe2\x82\xac\xf0\x9f\x98\x80"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct jsonl_report *r = jsonl_report_array();
		struct jsonl_report *back;
		char *text;

		jsonl_report_add_string(r, NULL, table[i].in);
		text = jsonl_report_text(r, false);
		back = text ? jsonl_report_parse(text) : NULL;
		CHECK(back &&
			  strcmp(jsonl_report_get_string(jsonl_report_at(back, 0), NULL),
				 table[i].out) == 0,
		      "row %zu: %s", i, text);
		jsonl_report_free(back);
		free(text);
		jsonl_report_free(r);
	}
}

/* A lost child must not leave a report that looks whole. */
static void test_failure_is_remembered(void)
{
	struct jsonl_report *r = jsonl_report_object(), *child = jsonl_report_object();
	char *text;

	jsonl_report_add(child, "lost", NULL);
	jsonl_report_add(r, "child", child);
	jsonl_report_add_int(r, "x", 1);
	text = jsonl_report_text(r, false);
	CHECK(text == NULL);
	free(text);
	jsonl_report_free(r);
	CHECK(jsonl_report_text(NULL, true) == NULL);
}

static void test_parse_refuses(void)
{
	static const char *const bad[] = {
	    "",
	    " ",
	    "{",
	    "{}x",
	    "{\"a\":1,}",
	    "{'a':1}",
	    "[NaN]",
	    "[1]]",
	    "[01]",
	    "\"\\ud8\"",
	    "[\"\xff\"]",
	    "12",
	    "{\"a\":1}{\"b\":2}",
	};
	struct jsonl_report *r;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		r = jsonl_report_parse(bad[i]);
		CHECK(r == NULL, "%s", bad[i]);
		jsonl_report_free(r);
	}
	/* Text beyond ASCII is accepted by every version of json-c that we build with. */
	r = jsonl_report_parse(" {\"k\":\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\"}\n");
	CHECK(r && strcmp(jsonl_report_get_string(r, "k"), "gr\xc3\xbc\xc3\x9f "
							   "\xf0\x9f\x98\x80") == 0);
	jsonl_report_free(r);
}

/* ---- configuration files ---- */

static char seen[4096];
static const char *stop_at;

static int remember(void *ctx, const char *key, const char *value, unsigned line)
{
	size_t len = strlen(seen);

	CHECK(ctx == seen);
	snprintf(seen + len, sizeof(seen) - len, "%s=%s@%u;", key, value, line);
	return stop_at && strcmp(key, stop_at) == 0 ? -42 : 0;
}

static int begin(void *ctx, const char *key, unsigned line)
{
	size_t len = strlen(seen);

	snprintf(seen + len, sizeof(seen) - len, "%s[%u{", key, line);
	return 0;
}

static int end(void *ctx, const char *key, unsigned line)
{
	size_t len = strlen(seen);

	snprintf(seen + len, sizeof(seen) - len, "}%u]", line);
	return 0;
}

static const struct jsonl_report_reader reader = {
    .set = remember,
    .begin = begin,
    .end = end,
};

static int read_bytes(const void *bytes, size_t len, char **error)
{
	char path[64];
	FILE *f;
	int rc;

	snprintf(path, sizeof(path), "%s/c.json", dir);
	f = fopen(path, "w");
	if (!CHECK(f && fwrite(bytes, 1, len, f) == len && fclose(f) == 0))
		return -EIO;
	seen[0] = '\0';
	rc = jsonl_report_read(path, path, &reader, seen, error);
	unlink(path);
	return rc;
}

static void test_config(void)
{
	static const struct {
		const char *text, *want;
	} table[] = {
	    {"{}", ""},
	    {" \n{ }\n", ""},
	    {"{\"a\":1}", "a=1@1;"},
	    {"{\n  \"match\": [\"*.jsonl\", \"logs/**\"],\n  \"sync\" : \"close\",\n\n"
	     "  \"xattr\":false, \"passthrough\": true,\n  \"pipebuf\": 4096,\n"
	     "  \"attr_timeout\": 1.50e0\n}\n",
	     "match=*.jsonl:logs/"
	     "**@2;sync=close@3;xattr=no@5;passthrough=yes@5;pipebuf=4096@6;"
	     "attr_timeout=1.50e0@7;"},
	    /* Values and keys that would mislead a scanner that counts brackets. */
	    {"{\"a\":[\"}],{\",\"\\\"\\\\\"],\n\"b\\u0041\\\"\":\"x\\ny\",\"c\":"
	     "\"\\\\\"}",
	     "a=}],{:\"\\@1;bA\"=x\ny@2;c=\\@2;"},
	    {"{\"a\":[],\"b\":\"\"}", "a=@1;b=@1;"},
	    {"{\"a\"\r\n:\r\n\"v\",\r\n\"b\":2}", "a=v@1;b=2@4;"},
	    {"{\"a\":\"gr\xc3\xbc\xc3\x9f\"}", "a=gr\xc3\xbc\xc3\x9f@1;"},
	    {"{\"a\":[\n\"1\",\n\"2\"\n],\"b\":-0.5}", "a=1:2@1;b=-0.5@4;"},
	    {"{\"a\":[{}]}", "a[1{}1]"},
	    {"{\"a\" : [ {\"b\":1},\n{\"b\":[\"}\", \"x\"],\n\"c\":true\n} ],\"b\":2}",
	     "a[1{b=1@1;}1]a[2{b=}:x@2;c=yes@3;}4]b=2@4;"},
	};
	char *error;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int rc = read_bytes(table[i].text, strlen(table[i].text), &error);

		CHECK(rc == 0 && error == NULL, "row %zu: %d %s", i, rc, error);
		CHECK(strcmp(seen, table[i].want) == 0, "row %zu: %s", i, seen);
		free(error);
	}
}

static void test_config_refused(void)
{
	static const struct {
		const char *text, *want; /* a part of the message */
	} table[] = {
	    {"", "empty"},
	    {"\n\n", "empty"},
	    {"[]", ":1: the file must hold one JSON object"},
	    {"{\"a\":1", ":1: the JSON text ends too early"},
	    {"{\n\"a\":1,\n\"b\":NaN}", ":3: "},
	    {"{\n\"a\":1,\n}", ":3: "},
	    {"{\"a\":1}\n{\"b\":2}\n", ":2: two records"},
	    {"{\"a\":1, // why\n\"b\":2}", ":1: "},
	    {"{\"a\":\"\xff\"}", ":1: the bytes are not UTF-8"},
	    {"\xef\xbb\xbf{}", "byte order mark"},
	    {"{\n\"a\":null}", ":2: null"},
	    {"{\"a\":{\"b\":1}}", ":1: an object"},
	    {"{\"a\":[1]}", ":1: a list may hold strings only"},
	    {"{\"a\":[[\"x\"]]}", ":1: a list may hold strings only"},
	    {"{\"a\":[null]}", ":1: a list may hold strings only"},
	    {"{\"a\":[\"x:y\"]}", ":1: an item of a list may not hold ':'"},
	    {"{\"a\":\"x\\u0000y\"}", ":1: a string may not hold"},
	    {"{\"a\\u0000b\":1}", ":1: a string may not hold"},
	    {"{\"a\":1,\n\"b\":2,\n\"\\u0061\":3}",
	     ":3: this key stands in the file twice"},
	    {"{\"a\":[{\"b\":1},\n{\"b\":1,\n\"b\":2}]}",
	     ":3: this key stands in the object twice"},
	    {"{\"a\":[{\"b\":{}}]}", ":1: an object is no value here"},
	    {"{\"a\":[{\"b\":[{}]}]}", ":1: a list may hold strings only"},
	    {"{\"a\":[{},\n\"x\"]}", ":2: a list holds objects or strings, not both"},
	    {"{\"a\":[\"x\",{}]}", ":1: a list may hold strings only"},
	    {"{\"a\":[{}],\"a\":1}", ":1: this key stands in the file twice"},
	    {"{\"a\":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}", "nested deeper"},
	};
	char *error;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int rc = read_bytes(table[i].text, strlen(table[i].text), &error);

		CHECK(rc == -EINVAL, "row %zu: %d", i, rc);
		CHECK(error && strstr(error, "c.json:") && strstr(error, table[i].want),
		      "row %zu: %s", i, error);
		free(error);
	}
	CHECK(read_bytes("{\"a\":1}\0", 8, &error) == -EINVAL && strstr(error, "NUL"));
	free(error);
}

static void test_config_stop(void)
{
	char *error;

	stop_at = "b";
	CHECK(read_bytes("{\"a\":1,\"b\":2,\"c\":3}", 19, &error) == -42);
	CHECK(strcmp(seen, "a=1@1;b=2@1;") == 0, "%s", seen);
	free(error);
	stop_at = NULL;
}

static void test_config_files(void)
{
	char path[64], *error, *big;
	size_t len = 1 << 20;

	snprintf(path, sizeof(path), "%s/absent", dir);
	CHECK(jsonl_report_read(path, path, &reader, seen, &error) == -ENOENT);
	CHECK(error && strstr(error, path));
	free(error);
	CHECK(jsonl_report_read(dir, dir, &reader, seen, &error) == -EINVAL);
	CHECK(error && strstr(error, "not a regular file"));
	free(error);
	CHECK(jsonl_report_read("/dev/zero", "zero", &reader, seen, &error) == -EINVAL);
	free(error);

	/* Exactly the bound, and one byte more. */
	big = malloc(len + 1);
	if (!CHECK(big))
		return;
	memset(big, ' ', len + 1);
	memcpy(big, "{\"a\":1}", 7);
	CHECK(read_bytes(big, len, &error) == 0 && strcmp(seen, "a=1@1;") == 0);
	free(error);
	CHECK(read_bytes(big, len + 1, &error) == -EINVAL && strstr(error, "1 MiB"));
	free(error);
	free(big);
}

int main(void)
{
	if (!CHECK(mkdtemp(dir)))
		return check_done();
	test_build();
	test_bad_bytes();
	test_failure_is_remembered();
	test_parse_refuses();
	test_config();
	test_config_refused();
	test_config_stop();
	test_config_files();
	rmdir(dir);
	return check_done();
}
