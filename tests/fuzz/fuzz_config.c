/* SPDX-License-Identifier: MIT */
/* Options, configuration files and names from outside. The first byte chooses:
 *
 *   -   lines "key=value" or "flag", as -o has them, then paths that are judged
 *   {   the whole input is a configuration file
 *   *   a glob, a newline, a text: compared with a matcher that is written another way */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rules/config.h"
#include "match/glob.h"
#include "rules/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                               \
	do {                                                                             \
		if (!(condition)) {                                                      \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition);          \
			abort();                                                         \
		}                                                                        \
	} while (0)

/* ---- names ---- */

static void judge(struct jsonl_policy *policy, const char *path)
{
	const char *slash = strrchr(path, '/');
	bool governed = jsonl_policy_classify(policy, path) == JSONL_CLASS_GOVERNED;
	const struct jsonl_settings *settings = jsonl_policy_settings(policy, path);
	char *rotated = NULL;

	REQUIRE(settings && governed == (settings->class == JSONL_CLASS_GOVERNED));
	REQUIRE(settings == jsonl_policy_settings(policy, path));
	REQUIRE(settings->limits.maxrecord <= jsonl_policy_maxrecord(policy));
	if (governed) {
		REQUIRE(jsonl_policy_may_govern(policy, slash ? slash + 1 : path));
		REQUIRE(!jsonl_policy_is_generation(policy, path));
		if (asprintf(&rotated, "%s.1", path) < 0)
			abort();
		REQUIRE(*path == '\0' || path[strlen(path) - 1] == '/' ||
			jsonl_policy_is_generation(policy, rotated) ||
			jsonl_policy_classify(policy, rotated) != JSONL_CLASS_PLAIN);
		REQUIRE(jsonl_policy_generation_of(
		    policy, slash ? slash + 1 : path,
		    strrchr(rotated, '/') ? strrchr(rotated, '/') + 1 : rotated));
		free(rotated);
	}
	(void)jsonl_policy_rename_may_cross(policy, path, "a/b");
}

static void try_options(char *text)
{
	struct jsonl_policy *policy = NULL;
	struct jsonl_config config;
	char *error, *save = NULL;

	REQUIRE(jsonl_config_init(&config) == 0);
	for (char *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, '=');
		int r;

		if (!policy && strcmp(line, "/") == 0) {
			REQUIRE(jsonl_policy_new(&config, &policy, &error) == 0);
			continue;
		}
		if (policy) {
			judge(policy, line);
			continue;
		}
		if (value)
			*value++ = '\0';
		if (strcmp(line, "config") == 0)
			continue;
		r = jsonl_config_set(&config, line, value, &error);
		REQUIRE(r == 0 || ((r == -EINVAL || r == -ENOENT) && error));
		REQUIRE(r != 0 || !error);
		free(error);
	}
	REQUIRE(config.file.limits.maxdepth >= 1 && config.file.limits.maxdepth <= 4096);
	REQUIRE(config.match && config.exclude && config.generations);
	(void)!jsonl_config_check(&config, &error);
	free(error);
	jsonl_policy_free(policy);
	jsonl_config_deinit(&config);
}

static void try_file(const uint8_t *data, size_t size)
{
	struct jsonl_policy *policy = NULL;
	struct jsonl_config config;
	char path[64], *error;
	int r, fd = memfd_create("config", 0);

	REQUIRE(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	REQUIRE(jsonl_config_init(&config) == 0);
	r = jsonl_config_load(&config, path, &error);
	REQUIRE(r == 0 || (r == -EINVAL && error));
	REQUIRE(r != 0 || !error);
	free(error);
	/* Rules that were taken can be built, and agree with each other. */
	REQUIRE(jsonl_policy_new(&config, &policy, NULL) == 0);
	judge(policy, "a/x.jsonl");
	judge(policy, "x.log");
	jsonl_policy_free(policy);
	jsonl_config_deinit(&config);
	close(fd);
}

/* ---- globs ---- */

static size_t char_len(const char *t)
{
	size_t n = 1;

	while (((unsigned char)t[n] & 0xc0) == 0x80)
		n++;
	return n;
}

static bool set_matches(const char **pattern, char c)
{
	const char *p = *pattern + 1, *first;
	bool negated = *p == '!' || *p == '^', found = false;

	p += negated;
	for (first = p; p == first || *p != ']'; p++) {
		if (p[1] == '-' && p[2] != ']') {
			found = found || (c >= p[0] && c <= p[2]);
			p += 2;
		} else {
			found = found || c == *p;
		}
	}
	*pattern = p + 1;
	return found != negated;
}

/* By trying everything. `begin`: a component of the pattern begins here. */
static bool slow_match(const char *p, const char *t, bool begin)
{
	if (*p == '\0')
		return *t == '\0';
	if (p[0] == '*' && p[1] == '*') {
		const char *rest = p + strspn(p, "*");

		if (begin && p[2] == '/') {
			if (slow_match(p + 3, t, true))
				return true;
			t = strchr(t, '/');
			return t && slow_match(p, t + 1, true);
		}
		return slow_match(rest, t, false) || (*t && slow_match(p, t + 1, false));
	}
	if (*p == '*')
		return slow_match(p + 1, t, false) ||
		       (*t && *t != '/' && slow_match(p, t + 1, begin));
	if (*t == '\0')
		return false;
	if (*p == '?')
		return *t != '/' && slow_match(p + 1, t + char_len(t), false);
	if (*p == '[')
		return *t != '/' && set_matches(&p, *t) &&
		       slow_match(p, t + char_len(t), false);
	if (*p == '\\')
		p++;
	return *p == *t && slow_match(p + 1, t + 1, *p == '/');
}

static void try_glob(char *pattern)
{
	char *text = strchr(pattern, '\n');
	unsigned stars = 0;

	if (!text)
		return;
	*text++ = '\0';
	if (jsonl_glob_check_list(pattern))
		return;
	for (const char *p = pattern; *p; p++) {
		stars += *p == '*' && p[1] != '*';
		if (*p == ':')
			return; /* a list */
	}
	if (stars > 4 || strlen(text) > 40)
		return;
	REQUIRE(jsonl_glob_match(pattern, text, strlen(text)) ==
		slow_match(pattern + (*pattern == '/'), text, true));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size == 0)
		return 0;
	if (data[0] == '{') {
		try_file(data, size);
		return 0;
	}
	text = malloc(size);
	if (!text)
		abort();
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] == '*')
		try_glob(text);
	else if (data[0] == '-')
		try_options(text);
	free(text);
	return 0;
}
