/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "match/generation.h"
#include "match/glob.h"
#include "rules/policy.h"

/* ---- globs ---- */

static const struct {
	const char *pattern, *text;
	bool matches;
} globs[] = {
    {"*.jsonl", "x.jsonl", true},
    {"*.jsonl", ".jsonl", true},
    {"*.jsonl", ".x.jsonl", true},
    {"*.jsonl", "x.jsonl.1", false},
    {"*.jsonl", "x.JSONL", false},
    {"*.jsonl", "a/x.jsonl", false},
    {"a/*.jsonl", "a/x.jsonl", true},
    {"a/*.jsonl", "a/b/x.jsonl", false},
    {"/a/*.jsonl", "a/x.jsonl", true},
    {"/a/*.jsonl", "b/a/x.jsonl", false},
    {"*/x", "a/x", true},
    {"*/x", "x", false},
    {"*/x", "a/b/x", false},
    {"**", "", true},
    {"**", "a", true},
    {"**", "a/b/c", true},
    {"**/x", "x", true},
    {"**/x", "a/x", true},
    {"**/x", "a/b/x", true},
    {"**/x", "ax", false},
    {"**/x", "a/bx", false},
    {"**/x", "a/x/b", false},
    {"a/**", "a/b", true},
    {"a/**", "a/b/c", true},
    {"a/**", "a", false},
    {"a/**", "b/a/c", false},
    {"a/**/b", "a/b", true},
    {"a/**/b", "a/x/b", true},
    {"a/**/b", "a/x/y/b", true},
    {"a/**/b", "a/xb", false},
    {"a/**/b", "ab", false},
    {"**/.git/**", ".git/x", true},
    {"**/.git/**", "a/.git/b/x", true},
    {"**/.git/**", ".gitx/x", false},
    {"**/.git/**", "a.git/x", false},
    {"**/.git/**", ".git", false},
    {"**/a/**/b", "a/a/x/b", true},
    {"**/a/b/**/c", "a/x/a/b/c", true},
    {"a**b", "a/x/b", true},
    {"a**b", "ab", true},
    {"a**/b", "ax/y/b", true},
    {"a**/b", "a/b", true},
    {"a**/b", "ab", false},
    {"**a*b**c", "x/aXb/y/c", true},
    {"**a*b**c", "x/a/b/y/c", false},
    {"***", "a/b", true},
    {"*a*b*c", "xxabxbxc", true},
    {"*a*b*c", "xxabxbxcd", false},
    {"*aab", "aaaaab", true},
    {"**/*ab/x", "a/aab/x", true},
    {"?.jsonl", "x.jsonl", true},
    {"?.jsonl", "xx.jsonl", false},
    {"?.jsonl", ".jsonl", false},
    {"?.jsonl", "\xc3\xa4.jsonl", true},
    {"a?b", "a/b", false},
    {"[ab]", "a", true},
    {"[ab]", "c", false},
    {"[!ab]", "c", true},
    {"[^ab]", "a", false},
    {"[!ab]", "\xc3\xa4", true},
    {"[!ab]x", "/x", false},
    {"[a-c]", "b", true},
    {"[a-c]", "d", false},
    {"[a-c]", "-", false},
    {"[a-]", "-", true},
    {"[-a]", "-", true},
    {"[]a]", "]", true},
    {"[!]a]", "b", true},
    {"[!]a]", "]", false},
    {"[*]", "*", true},
    {"[*]", "x", false},
    {"\\*", "*", true},
    {"\\*", "x", false},
    {"\\[a]", "[a]", true},
    {"a\\:b", "a:b", true},
    {"", "", true},
    {"", "a", false},
    {"a", "", false},
};

static void test_globs(void)
{
	for (size_t i = 0; i < sizeof(globs) / sizeof(globs[0]); i++) {
		size_t len = strlen(globs[i].text);
		/* An allocation of its own, so that ASan sees a step too far. */
		char *text = malloc(len ? len : 1);

		if (!text)
			abort();
		memcpy(text, globs[i].text, len);
		CHECK(jsonl_glob_check_list(globs[i].pattern) == NULL, "%s",
		      globs[i].pattern);
		CHECK(jsonl_glob_match(globs[i].pattern, text, len) == globs[i].matches,
		      "\"%s\" on \"%s\"", globs[i].pattern, globs[i].text);
		free(text);
	}
}

static void test_glob_lists(void)
{
	static const char *const bad[] = {"[a",	   "x:[",     "[]",  "a/",
					  "a//b",  "a\\",     "[/]", "[\xc3\xa4]",
					  "[z-a]", "ok:a/:ok"};
	static const char *const good[] = {
	    "", ":", "a:b", "*.jsonl::*.log", "[a-z]", "[-]", "[!-~]", "[a\\]", "a\\:b"};
	char *text = malloc(JSONL_GLOB_MAX + 2);
	const char *next;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(jsonl_glob_check_list(bad[i]) != NULL, "%s", bad[i]);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(jsonl_glob_check_list(good[i]) == NULL, "%s", good[i]);
	if (!text)
		abort();
	memset(text, 'a', JSONL_GLOB_MAX + 1);
	text[JSONL_GLOB_MAX + 1] = '\0';
	CHECK(jsonl_glob_check_list(text) != NULL);
	CHECK(jsonl_glob_check_list(text + 1) == NULL);
	free(text);
	CHECK(jsonl_glob_split("a\\:b:c", &next) == 4 && next && strcmp(next, "c") == 0);
	CHECK(jsonl_glob_split("c", &next) == 1 && !next);
	CHECK(jsonl_glob_split("c:", &next) == 1 && next && !*next);
}

/* ---- generations ---- */

static const char *const generations[] = {
    /* counters */
    ".1",
    ".0",
    ".01",
    ".42",
    ".1234567890",
    /* dates, as logrotate, cron jobs, Python and log4j write them */
    "-20261120",
    ".20261120",
    "-2026-11-20",
    ".2026-11-20",
    "-2026112009",
    ".2026-11-20_10-11-12",
    ".2026-11-20_10-11",
    ".2026-11-20_10",
    ".2026-11-20-10",
    ".2026-11-20T10:11:12Z",
    ".2026-11-20T10:11:12.123456789Z",
    ".2026-11-20T10:11:12,123",
    ".2026-11-20T10:11:12+01:00",
    "-20261120T101112Z",
    "-20261120T101112-0500",
    "-20261120T1011-0500",
    "-20261120101112",
    "-202611201011Z",
    ".20261120-101112.000001",
    "-1795000000",
    ".1795000000",
    "-20261120T10:11:12",
    "-20261120_10-11-12",
    "-2026-11-20T101112",
    ".2026-12-31T23:59:60Z",
    "-20261120-10",
    /* words */
    ".old",
    ".orig",
    ".save",
    ".bak",
    "~",
    ".bak-20261120T101112Z",
    ".bak-20261120",
    ".bak-2026-11-20T10:11:12.5+00:00",
    ".bak-1795000000",
    /* several */
    ".1.old",
    ".old.1",
    "~~",
    ".save.1",
    ".bak~",
    "-20261120.1",
    "-20261120-1795000000",
    ".1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18.19.20",
    ".bak-20261120-20261121",
    ".orig.bak.old~",
};

static const char *const not_generations[] = {
    "",
    ".",
    "-",
    ".1.gz",
    ".gz",
    ".tmp",
    "x",
    "1",
    ".1 ",
    ".-1",
    ".+1",
    "..1",
    ".1.",
    ".12345678901",
    ".old2",
    ".OLD",
    ".olds",
    "old",
    ".bak1",
    ".bak-",
    ".bak-old",
    ".bak-1",
    ".backup",
    "~1",
    ".~1~",
    "-1",
    "-12345678",
    "-20261320",
    "-20261100",
    "-20261132",
    "-2026-1-2",
    "-2026-11",
    "-202611",
    "-2026-11-20T",
    "-2026-11-20T24:00",
    "-2026-11-20T10:60",
    "-2026-11-20T10:11:61",
    "-2026-11-20T10:11:12.",
    "-2026-11-20T10:11:12.12345678901",
    "-2026-11-20T10Z",
    "-2026-11-20Z",
    "-2026-11-20T10:11-12",
    "-2026-11-20 10:11",
    "-20261120T10:11:12z",
    "-20261120T101112+1",
    "-20261120T101112+24:00",
    ".2026/11/20",
    ".1/.1",
    ".swp",
    ".lock",
    ".part",
    ".1.tmp",
    ".zst",
    "-old",
    ".save~x",
    ".orig-1",
    ".2026-11-20T10:11:12ZZ",
};

static void test_generation_suffixes(void)
{
	for (size_t i = 0; i < sizeof(generations) / sizeof(generations[0]); i++)
		CHECK(jsonl_generation_suffix(generations[i], strlen(generations[i])),
		      "%s", generations[i]);
	for (size_t i = 0; i < sizeof(not_generations) / sizeof(not_generations[0]); i++)
		CHECK(!jsonl_generation_suffix(not_generations[i],
					       strlen(not_generations[i])),
		      "%s", not_generations[i]);
}

static void test_backups(void)
{
	static const char *const backups[] = {
	    "~",
	    ".bak",
	    ".old",
	    ".orig",
	    ".save",
	    ".bak-20261120",
	    ".1.old",
	    ".old.1",
	    "-20261120~",
	    ".bak-1795000000",
	    ".bak-20261120-20261121",
	    "~.1.2",
	};
	static const char *const others[] = {
	    ".1",    "-20261120", ".2026-11-20", ".1.2", ".1795000000", ".20261120.1",
	    ".bak1", "",	  ".gz"};

	for (size_t i = 0; i < sizeof(backups) / sizeof(backups[0]); i++)
		CHECK(jsonl_generation_is_backup(backups[i], strlen(backups[i])), "%s",
		      backups[i]);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		CHECK(!jsonl_generation_is_backup(others[i], strlen(others[i])), "%s",
		      others[i]);
}

static void test_chains(void)
{
	static const struct {
		const char *from, *to;
		bool chain;
	} table[] = {
	    {"w1.jsonl", "w2.jsonl", true},
	    {"w9.jsonl", "w10.jsonl", true},
	    {"w10.jsonl", "w9.jsonl", true},
	    {"w.jsonl", "w1.jsonl", true},
	    {"w.jsonl", "w.1.jsonl", true},
	    {"w.jsonl", "w-2026-11-20.jsonl", true},
	    {"w-2026-11-20.jsonl", "w-2026-11-21.jsonl", true},
	    {"w-2026-11-20.jsonl", "w-2027-01-01.jsonl", true},
	    {"w.20261120T101112Z.jsonl", "w.20261121T000000Z.jsonl", true},
	    {"1.jsonl", "2.jsonl", true},
	    {"app-11.jsonl", "app-111.jsonl", true},
	    {"w1.jsonl", "w.jsonl", false},
	    {"new.jsonl", "log.jsonl", false},
	    {"log.new.jsonl", "log.jsonl", false},
	    {"log.tmp1.jsonl", "log.jsonl", false},
	    {"w1.jsonl", "w1.jsonl", false},
	    {"w1.jsonl", "v2.jsonl", false},
	    {"w1a1.jsonl", "w2a2.jsonl", false},
	    {"w1.jsonl", "w1.ndjson", false},
	    {"w1.jsonl", "w12345678901.jsonl", false},
	    {"a.jsonl", "1a.jsonl", false},
	    {"", "1", false},
	    {"w-new.jsonl", "w-1.jsonl", false},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		CHECK(jsonl_generation_chain(table[i].from, table[i].to) ==
			  table[i].chain,
		      "%s to %s", table[i].from, table[i].to);
}

struct stems {
	size_t seen[8], n;
};

static bool note_stem(void *ctx, size_t stem)
{
	struct stems *s = ctx;

	if (s->n < 8)
		s->seen[s->n++] = stem;
	return false;
}

static void test_generation_stems(void)
{
	struct stems s = {.n = 0};

	CHECK(!jsonl_generation_stems("x.1.old", 7, note_stem, &s));
	CHECK(s.n == 2 && s.seen[0] == 3 && s.seen[1] == 1, "%zu stems", s.n);
	s.n = 0;
	CHECK(!jsonl_generation_stems("x.bak-20261120", 14, note_stem, &s));
	CHECK(s.n == 2 && s.seen[0] == 5 && s.seen[1] == 1, "%zu stems", s.n);
	s.n = 0;
	CHECK(!jsonl_generation_stems("x.jsonl", 7, note_stem, &s));
	CHECK(s.n == 0);
}

/* ---- policies ---- */

static struct jsonl_policy *policy_of(const char *match, const char *exclude,
				      const char *more)
{
	struct jsonl_policy *policy = NULL;
	struct jsonl_config config;
	char *error;

	if (jsonl_config_init(&config) ||
	    (match && jsonl_config_set(&config, "match", match, &error)) ||
	    (exclude && jsonl_config_set(&config, "exclude", exclude, &error)) ||
	    (more && jsonl_config_set(&config, "generations", more, &error)) ||
	    jsonl_policy_new(&config, &policy, &error))
		abort();
	jsonl_config_deinit(&config);
	return policy;
}

/* G governed, g a generation, - plain. */
struct naming {
	const char *path;
	char what;
};

static void check_names(const struct jsonl_policy *policy, const struct naming *names)
{
	for (; names->path; names++) {
		const char *slash = strrchr(names->path, '/');
		bool governed =
		    jsonl_policy_classify(policy, names->path) == JSONL_CLASS_GOVERNED;
		bool may =
		    jsonl_policy_may_govern(policy, slash ? slash + 1 : names->path);
		bool gen = jsonl_policy_is_generation(policy, names->path);

		CHECK(governed == (names->what == 'G'), "%s", names->path);
		CHECK(gen == (names->what == 'g'), "%s", names->path);
		CHECK(may || !governed, "%s", names->path);
	}
}

static void test_defaults(void)
{
	static const struct naming names[] = {
	    {"x.jsonl", 'G'},
	    {"a/b/x.jsonl", 'G'},
	    {".x.jsonl", 'G'},
	    {".jsonl", 'G'},
	    {"a.b.jsonl", 'G'},
	    {"x.1.jsonl", 'G'},
	    {"x.jsonl.jsonl", 'G'},
	    {"x.json", '-'},
	    {"x.jsonlx", '-'},
	    {"x.JSONL", '-'},
	    {"jsonl", '-'},
	    {"", '-'},
	    {"x.jsonl/y", '-'},
	    {"x.jsonl.1", 'g'},
	    {"a/x.jsonl.1", 'g'},
	    {"x.jsonl.1.old", 'g'},
	    {"x.jsonl~", 'g'},
	    {".jsonl.1", 'g'},
	    {"x.jsonl.bak-20261120T101112Z", 'g'},
	    {"x.jsonl.1.gz", '-'},
	    {"x.jsonl.tmp", '-'},
	    {"x.jsonl.", '-'},
	    {".1", '-'},
	    {"x.1", '-'},
	    {".git/x.jsonl", '-'},
	    {"a/.git/b/x.jsonl", '-'},
	    {".git/x.jsonl.1", '-'},
	    {".gitx/x.jsonl", 'G'},
	    {"x.git/x.jsonl", 'G'},
	    {".github/x.jsonl", 'G'},
	    {"git/.git.jsonl", 'G'},
	    {NULL, 0},
	};
	struct jsonl_policy *policy = policy_of(NULL, NULL, NULL);

	check_names(policy, names);
	CHECK(jsonl_policy_may_govern(policy, "x.jsonl"));
	CHECK(!jsonl_policy_may_govern(policy, "x.jsonl.1"));
	CHECK(!jsonl_policy_may_govern(policy, "MEMORY.md"));
	CHECK(!jsonl_policy_may_govern(policy, ""));
	jsonl_policy_free(policy);
}

static void test_options(void)
{
	static const struct naming paths[] = {
	    {"logs/x.jsonl", 'G'},    {"x.jsonl", '-'},
	    {"logs/a/x.jsonl", '-'},  {"deep/a/b/x.ndjson", 'G'},
	    {"deep/x.ndjson", 'G'},   {"deep/tmp/x.ndjson", '-'},
	    {"audit.log", 'G'},	      {"a/audit.log", '-'},
	    {"logs/x.jsonl.1", 'g'},  {"logs/a/x.jsonl.1", '-'},
	    {"logs/skip.jsonl", '-'}, {"logs/skip.jsonl.1", '-'},
	    {"a/b:c", 'G'},	      {NULL, 0},
	};
	static const struct naming all[] = {
	    {"x", 'G'},	    {"x.1", 'g'},     {"x.1.2", 'g'},	{".1", 'G'},
	    {"~", 'G'},	    {"x.gz", 'G'},    {"a/x~", 'g'},	{"x.tmp", '-'},
	    {"x.out", 'g'}, {"x.out.1", 'g'}, {"x.tmp.1", 'G'}, {NULL, 0},
	};
	struct jsonl_policy *policy;

	policy = policy_of("logs/*.jsonl:deep/**/*.ndjson:/audit.log:b\\:c",
			   "**/tmp/**:skip.*", NULL);
	check_names(policy, paths);
	CHECK(jsonl_policy_may_govern(policy, "y.ndjson"));
	CHECK(!jsonl_policy_may_govern(policy, "y.json"));
	jsonl_policy_free(policy);

	policy = policy_of("*", "*.tmp", "*.out");
	check_names(policy, all);
	jsonl_policy_free(policy);

	/* A file name of any form below a directory. */
	policy = policy_of("logs/**", NULL, NULL);
	CHECK(jsonl_policy_may_govern(policy, "anything"));
	CHECK(jsonl_policy_classify(policy, "logs/a/b") == JSONL_CLASS_GOVERNED);
	CHECK(jsonl_policy_classify(policy, "log/a") == JSONL_CLASS_PLAIN);
	jsonl_policy_free(policy);

	policy = policy_of("**/x*.jsonl", NULL, "old-*.jsonl:*.jsonl.*.gz");
	CHECK(jsonl_policy_classify(policy, "a/xy.jsonl") == JSONL_CLASS_GOVERNED);
	CHECK(jsonl_policy_classify(policy, "x.jsonl") == JSONL_CLASS_GOVERNED);
	CHECK(jsonl_policy_is_generation(policy, "a/old-x.jsonl"));
	CHECK(jsonl_policy_is_generation(policy, "x.jsonl.1.gz"));
	CHECK(!jsonl_policy_is_generation(policy, ".git/x.jsonl.1.gz"));
	jsonl_policy_free(policy);
}

static void config_of(struct jsonl_config *config, const char *text);

/* A pattern that names a generation and not its log decides; one that names both does
 * not. */
static void test_named_generations(void)
{
	static const struct naming live[] = {
	    {"app.jsonl", 'G'},
	    {"app.jsonl.2026-11-29", 'G'},
	    {"app.jsonl.2026-11-29.1", 'g'},
	    {"app.jsonl.2026-11-29~", 'g'},
	    {"app.jsonl.1", 'g'},
	    {"other.jsonl.2026-11-29", 'g'},
	    {"app.jsonl.2026-11-29.gz", '-'},
	    {".git/app.jsonl.2026-11-29", '-'},
	    {NULL, 0},
	};
	static const struct naming wide[] = {
	    {"app.jsonl", 'G'},
	    {"app.jsonl.2026-11-29", 'g'},
	    {"app.jsonl.gz", 'G'},
	    {NULL, 0},
	};
	static const struct naming ruled[] = {
	    {"app.jsonl.2026-11-29", 'G'},
	    {"app.jsonl.1", 'G'},
	    {"app.jsonl.2026-11-29.1", 'g'},
	    {"app.jsonl.1.bak", 'g'},
	    {"x.jsonl.1", 'g'},
	    {"x.jsonl.old", 'g'},
	    {NULL, 0},
	};
	struct jsonl_policy *policy =
	    policy_of("*.jsonl:app.jsonl.[0-9]*-[0-9][0-9]", NULL, NULL);
	struct jsonl_config config;
	size_t stem = 0;

	check_names(policy, live);
	CHECK(jsonl_policy_live_of(policy, "d/app.jsonl.2026-11-29~", &stem) &&
	      stem == strlen("d/app.jsonl.2026-11-29"));
	CHECK(jsonl_policy_live_of(policy, "d/x.jsonl.1.old", &stem) &&
	      stem == strlen("d/x.jsonl"));
	CHECK(!jsonl_policy_live_of(policy, "app.jsonl.2026-11-29", &stem));
	CHECK(!jsonl_policy_live_of(policy, "app.jsonl", &stem));
	jsonl_policy_free(policy);

	policy = policy_of("*.jsonl*", NULL, NULL);
	check_names(policy, wide);
	jsonl_policy_free(policy);
	/* What generations= names is a generation, whatever match= says. */
	policy = policy_of("*.jsonl:app.jsonl.[0-9]*-[0-9][0-9]", NULL, "app.jsonl.*");
	CHECK(jsonl_policy_is_generation(policy, "app.jsonl.2026-11-29"));
	jsonl_policy_free(policy);

	config_of(&config, "{\"rules\": ["
			   "{\"match\": \"app.jsonl.*\", \"class\": \"governed\"},"
			   "{\"match\": \"*.jsonl.1\", \"sync\": \"none\"},"
			   "{\"match\": \"*.old\", \"class\": \"plain\"}]}");
	CHECK(jsonl_policy_new(&config, &policy, NULL) == 0);
	check_names(policy, ruled);
	jsonl_policy_free(policy);
	jsonl_config_deinit(&config);
}

static void config_of(struct jsonl_config *config, const char *text)
{
	char path[] = "/tmp/test_policy.XXXXXX", *error = NULL;
	int fd = mkstemp(path);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) ||
	    jsonl_config_init(config))
		abort();
	CHECK(jsonl_config_load(config, path, &error) == 0, "%s", error ? error : "");
	free(error);
	close(fd);
	unlink(path);
}

static int sync_of(struct jsonl_policy *policy, const char *path)
{
	const struct jsonl_settings *s = jsonl_policy_settings(policy, path);

	return s ? s->sync : -1;
}

static void test_rules(void)
{
	static const struct naming paths[] = {
	    {"x.jsonl", 'G'},	       {"x.log", '-'},		{"logs/x.log", 'G'},
	    {"logs/x.log.1", 'g'},     {"x.log.1", '-'},	{"logs/raw/x.log", '-'},
	    {"logs/raw/y.jsonl", '-'}, {"tmp/logs/x.log", '-'}, {"logs/.git/x.log", '-'},
	    {"logs/tmp.log", '-'},     {"logs/x.log.gz", '-'},	{NULL, 0},
	};
	struct jsonl_config config;
	struct jsonl_policy *policy;
	const struct jsonl_settings *before;
	static const struct {
		const char *path;
		int why;
		size_t rule;
	} reasons[] = {
	    {"x.jsonl", JSONL_WHY_MATCH, 0},
	    {"x.log", JSONL_WHY_NOTHING, 0},
	    {"logs/x.log", JSONL_WHY_RULE, 0},
	    {"logs/raw/x.log", JSONL_WHY_RULE, 2},
	    {"tmp/x.jsonl", JSONL_WHY_EXCLUDE, 0},
	    {"logs/tmp.log", JSONL_WHY_EXCLUDE, 0},
	    {".git/x.jsonl", JSONL_WHY_GIT, 0},
	    {"x.jsonl.1", JSONL_WHY_GENERATION, 0},
	    {"logs/x.log.1", JSONL_WHY_GENERATION, 0},
	};

	config_of(
	    &config,
	    "{\"exclude\": [\"tmp.*\", \"tmp/**\"], \"sync\": \"close\", \"rules\": ["
	    "{\"match\": \"logs/**/*.log\", \"class\": \"governed\", \"sync\": \"none\"},"
	    "{\"match\": \"tmp/**\", \"class\": \"governed\"},"
	    "{\"match\": \"logs/raw/*\", \"class\": \"plain\"},"
	    "{\"match\": \"a*:b*\", \"sync\": \"write\", \"onbad\": \"quarantine\"},"
	    "{\"match\": \"*.x.jsonl\", \"sync\": \"none\", \"maxrecord\": \"64M\"}]}");
	CHECK(jsonl_policy_new(&config, &policy, NULL) == 0);
	check_names(policy, paths);
	CHECK(jsonl_policy_may_govern(policy, "y.log"));
	CHECK(jsonl_policy_rename_may_cross(policy, "logs", "old"));
	CHECK(jsonl_policy_maxrecord(policy) == 64U << 20);

	/* The later rule wins, value by value. */
	CHECK(sync_of(policy, "x.jsonl") == JSONL_SYNC_CLOSE);
	CHECK(sync_of(policy, "logs/x.log") == JSONL_SYNC_NONE);
	CHECK(sync_of(policy, "logs/a.log") == JSONL_SYNC_WRITE);
	CHECK(sync_of(policy, "d/b.jsonl") == JSONL_SYNC_WRITE);
	CHECK(sync_of(policy, "a.x.jsonl") == JSONL_SYNC_NONE);
	before = jsonl_policy_settings(policy, "a.x.jsonl");
	CHECK(before->onbad == JSONL_ONBAD_QUARANTINE &&
	      before->class == JSONL_CLASS_GOVERNED);
	CHECK(before->limits.maxrecord == 64U << 20);
	CHECK(before == jsonl_policy_settings(policy, "b.x.jsonl"));
	CHECK(before != jsonl_policy_settings(policy, "c.x.jsonl"));
	CHECK(jsonl_policy_rule_matches(policy, 3, "x/a") &&
	      !jsonl_policy_rule_matches(policy, 0, "x/a"));
	CHECK(!jsonl_policy_rule_matches(policy, 5, "x/a"));
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		struct jsonl_policy_reason reason = {.rule = 9};

		CHECK(
		    jsonl_policy_reason(policy, reasons[i].path, &reason) ==
			    jsonl_policy_classify(policy, reasons[i].path) &&
			(int)reason.why == reasons[i].why &&
			(reason.why != JSONL_WHY_RULE || reason.rule == reasons[i].rule),
		    "%s: %d, rule %zu", reasons[i].path, (int)reason.why, reason.rule);
	}
	jsonl_config_deinit(&config);

	/* Exchanged as a whole; what was handed out before stays as it was. */
	config_of(&config, "{\"match\": \"*.new\", \"rules\": [{\"match\": \"*.x.*\", "
			   "\"sync\": \"write\"}]}");
	CHECK(jsonl_policy_serial(policy) == 0);
	CHECK(jsonl_policy_settings(policy, "a.new")->limits.longest == 0);
	jsonl_policy_longest(policy, 4096);
	CHECK(jsonl_policy_reload(policy, &config, NULL) == 0);
	CHECK(jsonl_policy_settings(policy, "a.new")->limits.longest == 4096);
	CHECK(jsonl_policy_serial(policy) == 1);
	CHECK(jsonl_policy_classify(policy, "x.new") == JSONL_CLASS_GOVERNED);
	CHECK(jsonl_policy_classify(policy, "x.jsonl") == JSONL_CLASS_PLAIN);
	CHECK(!jsonl_policy_may_govern(policy, "y.log"));
	CHECK(sync_of(policy, "a.x.jsonl") == JSONL_SYNC_WRITE);
	CHECK(before->sync == JSONL_SYNC_NONE && before->limits.maxrecord == 64U << 20);
	free(config.rules[0].match);
	config.rules[0].match = strdup("[");
	CHECK(jsonl_policy_reload(policy, &config, NULL) == -EINVAL);
	CHECK(jsonl_policy_serial(policy) == 1 &&
	      sync_of(policy, "a.x.jsonl") == JSONL_SYNC_WRITE);
	jsonl_config_deinit(&config);
	jsonl_policy_free(policy);
}

static void test_generation_of(void)
{
	struct jsonl_policy *policy = policy_of(NULL, NULL, "old-*");

	CHECK(jsonl_policy_generation_of(policy, "x.jsonl", "x.jsonl.1"));
	CHECK(jsonl_policy_generation_of(policy, "x.jsonl", "x.jsonl-20261120.old"));
	CHECK(jsonl_policy_generation_of(policy, "x.jsonl", "old-x.jsonl"));
	CHECK(!jsonl_policy_generation_of(policy, "x.jsonl", "x.jsonl"));
	CHECK(!jsonl_policy_generation_of(policy, "x.jsonl", "y.jsonl.1"));
	CHECK(!jsonl_policy_generation_of(policy, "x.jsonl", "x.jsonl.1.gz"));
	CHECK(!jsonl_policy_generation_of(policy, "x.jsonl", "x.json"));
	CHECK(!jsonl_policy_generation_of(policy, "x.jsonl", "x"));
	CHECK(!jsonl_policy_generation_of(policy, "old-x", "old-x"));
	jsonl_policy_free(policy);
}

static void test_directory_renames(void)
{
	struct jsonl_policy *policy = policy_of(NULL, "tmp*", NULL);

	CHECK(!jsonl_policy_rename_may_cross(policy, "a", "b"));
	CHECK(!jsonl_policy_rename_may_cross(policy, "a/b", "c/d/e"));
	CHECK(jsonl_policy_rename_may_cross(policy, "a", ".git"));
	CHECK(jsonl_policy_rename_may_cross(policy, ".git/x", "x"));
	CHECK(jsonl_policy_rename_may_cross(policy, "a", "b/.git/c"));
	CHECK(!jsonl_policy_rename_may_cross(policy, ".git/a", ".git/b"));
	CHECK(!jsonl_policy_rename_may_cross(policy, ".gitx", "x"));
	jsonl_policy_free(policy);
	policy = policy_of("logs/*.jsonl", NULL, NULL);
	CHECK(jsonl_policy_rename_may_cross(policy, "logs", "old"));
	jsonl_policy_free(policy);
	policy = policy_of("**/*.jsonl", NULL, NULL);
	CHECK(!jsonl_policy_rename_may_cross(policy, "logs", "old"));
	jsonl_policy_free(policy);
}

static void test_bad_globs(void)
{
	struct jsonl_config config = {.match = (char[]){"["}};
	struct jsonl_policy *policy = NULL;
	char *error = NULL;

	CHECK(jsonl_policy_new(&config, &policy, &error) == -EINVAL);
	CHECK(error && strstr(error, "[ has no ]"), "%s", error ? error : "(none)");
	CHECK(!policy);
	free(error);
	jsonl_policy_free(NULL);
}

int main(void)
{
	test_globs();
	test_glob_lists();
	test_generation_suffixes();
	test_generation_stems();
	test_backups();
	test_chains();
	test_named_generations();
	test_defaults();
	test_options();
	test_rules();
	test_generation_of();
	test_directory_renames();
	test_bad_globs();
	return check_done();
}
