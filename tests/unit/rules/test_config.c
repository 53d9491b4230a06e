/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "rules/config.h"
#include "rules/option.h"

static struct jsonl_config config;
static char *error;

static int set(const char *key, const char *value)
{
	free(error);
	error = NULL;
	return jsonl_config_set(&config, key, value, &error);
}

static bool said(const char *what)
{
	return error && strstr(error, what);
}

#define CHECK_SAID(what) CHECK(said(what), "%s", error ? error : "(no message)")

static void fresh(void)
{
	jsonl_config_deinit(&config);
	if (jsonl_config_init(&config))
		abort();
}

static void test_defaults(void)
{
	fresh();
	CHECK(strcmp(config.match, "*.jsonl") == 0);
	CHECK(strcmp(config.exclude, "") == 0 && strcmp(config.generations, "") == 0);
	CHECK(!config.state && !config.fsname);
	CHECK(config.file.onbad == JSONL_ONBAD_REPORT);
	CHECK(config.file.limits.oversize == JSONL_OVERSIZE_WARN);
	CHECK(config.file.limits.blank == JSONL_BLANK_DROP &&
	      config.file.limits.value == JSONL_VALUE_ANY);
	CHECK(config.file.sync == JSONL_SYNC_CLOSE &&
	      config.file.unlink == JSONL_UNLINK_ARCHIVE);
	CHECK(config.file.append == JSONL_APPEND_POLICED);
	CHECK(config.file.rewrite == JSONL_REWRITE_DENY &&
	      config.file.commit == JSONL_COMMIT_LINE);
	CHECK(config.file.limits.maxdepth == 128 && config.file.limits.pipebuf == 4096);
	CHECK(config.file.limits.maxrecord == 16U << 20 &&
	      config.pending_max == 1U << 30);
	CHECK(config.archive_max == 1U << 30 && config.quarantine_max == 256U << 20);
	CHECK(config.file.locktimeout_ms == 5000);
	CHECK(config.attr_timeout == 1.0 && config.entry_timeout == 1.0);
	CHECK(config.max_threads >= 2 && config.links == JSONL_LINKS_ANY);
	CHECK(config.passthrough && config.xattr && !config.readonly);
	CHECK(!config.allow_other && !config.noallow_other && !config.allow_root);
	CHECK(config.default_permissions);
	CHECK(jsonl_config_check(&config, &error) == 0 && !error);
}

/* Every value of every choice, in the order of the enums. */
static void test_choices(void)
{
	static const struct {
		const char *name, *values[4];
		size_t at;
	} choices[] = {
	    {"onbad",
	     {"report", "quarantine", "refuse"},
	     offsetof(struct jsonl_config, file.onbad)},
	    {"oversize",
	     {"warn", "reject", "allow"},
	     offsetof(struct jsonl_config, file.limits.oversize)},
	    {"shared", {"auto", "on", "off"}, offsetof(struct jsonl_config, shared)},
	    {"blank", {"drop", "keep"}, offsetof(struct jsonl_config, file.limits.blank)},
	    {"value",
	     {"any", "container", "object"},
	     offsetof(struct jsonl_config, file.limits.value)},
	    {"sync",
	     {"close", "write", "none"},
	     offsetof(struct jsonl_config, file.sync)},
	    {"unlink",
	     {"archive", "deny", "allow"},
	     offsetof(struct jsonl_config, file.unlink)},
	    {"append", {"policed", "strict"}, offsetof(struct jsonl_config, file.append)},
	};

	fresh();
	for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
		const int *field = (const int *)((char *)&config + choices[i].at);
		int kept;

		for (int k = 0; choices[i].values[k]; k++) {
			CHECK(set(choices[i].name, choices[i].values[k]) == 0);
			CHECK(*field == k, "%s=%s", choices[i].name,
			      choices[i].values[k]);
		}
		kept = *field;
		CHECK(set(choices[i].name, "sometimes") == -EINVAL);
		CHECK(*field == kept);
		for (int k = 0; choices[i].values[k]; k++)
			CHECK_SAID(choices[i].values[k]);
		CHECK(set(choices[i].name, "") == -EINVAL);
		CHECK(set(choices[i].name, NULL) == -EINVAL);
	}
}

static void test_available(void)
{
	fresh();
	CHECK(set("follow", "path") == 0 && config.file.follow == JSONL_FOLLOW_PATH);
	CHECK(set("commit", "close") == 0 && config.file.commit == JSONL_COMMIT_CLOSE);
	CHECK(set("killed", "commit") == 0 && config.file.killed == JSONL_KILLED_COMMIT);
	CHECK(set("rewrite", "deny") == 0 && set("commit", "line") == 0);
	CHECK(set("rewrite", "maybe") == -EINVAL);
	CHECK(!said("not available") && said("deny"), "%s", error ? error : "");
	CHECK(config.file.rewrite == JSONL_REWRITE_DENY &&
	      config.file.commit == JSONL_COMMIT_LINE);
}

static void test_sizes(void)
{
	static const struct {
		const char *text;
		uint64_t bytes; /* 0: refused */
	} sizes[] = {
	    {"4096", 4096},
	    {"64K", 65536},
	    {"64k", 65536},
	    {"1M", 1 << 20},
	    {"1m", 1 << 20},
	    {"1G", 1 << 30},
	    {"16", 16},
	    {"1073741824", 1 << 30},
	    {"0016", 16},
	    {"15", 0},
	    {"2G", 0},
	    {"1073741825", 0},
	    {"", 0},
	    {"K", 0},
	    {"-1", 0},
	    {"+1", 0},
	    {" 4096", 0},
	    {"4096 ", 0},
	    {"4096x", 0},
	    {"4KB", 0},
	    {"4 K", 0},
	    {"1.5M", 0},
	    {"0x1000", 0},
	    {"1e6", 0},
	    {"99999999999999999999", 0},
	    {"18446744073709551616", 0},
	    {"17179869185G", 0},
	    {"18446744073709551615G", 0},
	};

	fresh();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int r = set("maxrecord", sizes[i].text);

		if (sizes[i].bytes) {
			CHECK(r == 0 && config.file.limits.maxrecord == sizes[i].bytes,
			      "%s", sizes[i].text);
			continue;
		}
		CHECK(r == -EINVAL, "%s", sizes[i].text);
		CHECK(said("16 to 1G") && said("K, M or G"), "%s", error ? error : "");
	}
	CHECK(set("archive_max", "0") == 0 && config.archive_max == 0);
	CHECK(set("quarantine_max", "8G") == 0 && config.quarantine_max == 8ULL << 30);
	CHECK(set("archive_max", "9223372036854775807") == 0);
	CHECK(set("archive_max", "9223372036854775808") == -EINVAL);
	CHECK(set("pending_max", "64M") == 0 && config.pending_max == 64U << 20);
	CHECK(set("pipebuf", "512") == 0 && config.file.limits.pipebuf == 512);
}

static void test_numbers(void)
{
	static const struct {
		const char *text;
		int millis; /* -1: refused */
	} times[] = {
	    {"0", 0},	       {"5", 5000},
	    {"0.5", 500},      {"1.25", 1250},
	    {"0.001", 1},      {"0.0010", 1},
	    {"3600", 3600000}, {"0.0001", -1},
	    {"3600.001", -1},  {".5", -1},
	    {"5.", -1},	       {"-1", -1},
	    {"1,5", -1},       {"1e3", -1},
	    {"", -1},	       {"5s", -1},
	    {"1.5.2", -1},     {"nan", -1},
	    {"inf", -1},       {"99999999999999999999", -1},
	};

	fresh();
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		int r = set("locktimeout", times[i].text);

		if (times[i].millis >= 0)
			CHECK(r == 0 &&
				  config.file.locktimeout_ms == (uint64_t)times[i].millis,
			      "%s", times[i].text);
		else
			CHECK(r == -EINVAL && said("0 to 3600"), "%s", times[i].text);
	}
	CHECK(set("attr_timeout", "0.25") == 0 && config.attr_timeout == 0.25);
	CHECK(set("entry_timeout", "0") == 0 && config.entry_timeout == 0);
	CHECK(set("maxdepth", "4096") == 0 && config.file.limits.maxdepth == 4096);
	CHECK(set("maxdepth", "1") == 0 && config.file.limits.maxdepth == 1);
	CHECK(set("maxdepth", "0") == -EINVAL && said("1 to 4096"));
	CHECK(set("maxdepth", "4097") == -EINVAL);
	CHECK(set("maxdepth", "4294967297") == -EINVAL);
	CHECK(set("maxdepth", "64K") == -EINVAL);
	CHECK(config.file.limits.maxdepth == 1);
	CHECK(set("max_threads", "1") == 0 && config.max_threads == 1);
	CHECK(set("max_threads", "0") == -EINVAL);
}

static void test_flags(void)
{
	fresh();
	CHECK(set("nopassthrough", NULL) == 0 && !config.passthrough);
	CHECK(set("passthrough", NULL) == 0 && config.passthrough);
	CHECK(set("passthrough", "no") == 0 && !config.passthrough);
	CHECK(set("noxattr", NULL) == 0 && !config.xattr);
	CHECK(set("xattr", "yes") == 0 && config.xattr);
	CHECK(set("ro", NULL) == 0 && config.readonly);
	CHECK(set("rw", NULL) == 0 && !config.readonly);
	CHECK(set("rw", "no") == 0 && config.readonly);
	CHECK(set("ro", "maybe") == -EINVAL && said("ro=maybe") && said("yes or no"));
	CHECK(set("noxattr", "") == -EINVAL);
	CHECK(set("allow_other", NULL) == 0);
	CHECK(config.allow_other && !config.noallow_other);
	CHECK(set("noallow_other", NULL) == 0);
	CHECK(!config.allow_other && config.noallow_other);
	CHECK(set("allow_root", NULL) == 0 && config.allow_root);
	CHECK(set("noallow_root", NULL) == -ENOENT);
}

static void test_strings(void)
{
	fresh();
	CHECK(set("match", "*.jsonl:*.ndjson") == 0);
	CHECK(strcmp(config.match, "*.jsonl:*.ndjson") == 0);
	CHECK(set("match", "") == -EINVAL && said("at least one pattern"));
	CHECK(set("match", "::") == -EINVAL);
	CHECK(set("match", "[") == -EINVAL && said("["));
	CHECK(set("exclude", "tmp/**") == 0 && set("exclude", "") == 0);
	CHECK(set("generations", "a//b") == -EINVAL);
	CHECK(set("state", "/var/lib/x") == 0 && strcmp(config.state, "/var/lib/x") == 0);
	CHECK(set("state", "/y") == 0 && strcmp(config.state, "/y") == 0);
	CHECK(set("state", "") == -EINVAL && said("state"));
	CHECK(set("fsname", "vault") == 0 && strcmp(config.fsname, "vault") == 0);
	CHECK(set("fsname", NULL) == -EINVAL && said("wants a value"));
	CHECK(set("nosuch", "1") == -ENOENT && said("nosuch"));
	CHECK(set("", NULL) == -ENOENT);
	CHECK(set("Match", "*.jsonl") == -ENOENT);
	CHECK(jsonl_config_set(&config, "nosuch", NULL, NULL) == -ENOENT);
	CHECK(strcmp(config.match, "*.jsonl:*.ndjson") == 0);
}

static int checked(void)
{
	free(error);
	error = NULL;
	return jsonl_config_check(&config, &error);
}

static void test_combinations(void)
{
	fresh();
	CHECK(set("nodefault_permissions", NULL) == 0);
	CHECK(checked() == -EINVAL && said("noallow_other"));
	CHECK(set("allow_other", NULL) == 0);
	CHECK(checked() == -EINVAL && said("nodefault_permissions"));
	CHECK(set("noallow_other", NULL) == 0 && checked() == 0);
	CHECK(set("allow_root", NULL) == 0 && checked() == -EINVAL);
	fresh();
	CHECK(set("allow_other", NULL) == 0 && checked() == 0);
	CHECK(set("allow_root", NULL) == 0 && checked() == -EINVAL && said("allow_root"));
	fresh();
	CHECK(set("pending_max", "1M") == 0);
	CHECK(checked() == -EINVAL && said("16M"));
	CHECK(set("maxrecord", "1M") == 0 && checked() == 0);
}

/* ---- the configuration file ---- */

static char path[] = "/tmp/test_config.XXXXXX";

static void write_file(const char *text)
{
	FILE *f = fopen(path, "w");

	if (!f || fputs(text, f) < 0 || fclose(f))
		abort();
}

static int load(const char *text)
{
	write_file(text);
	free(error);
	error = NULL;
	return jsonl_config_load(&config, path, &error);
}

static void test_file(void)
{
	char where[64];

	fresh();
	CHECK(load("{\n  \"match\": [\"*.jsonl\", \"*.ndjson\"],\n  \"pipebuf\": 8192,\n"
		   "  \"maxrecord\": \"1M\",\n  \"onbad\": \"quarantine\",\n"
		   "  \"passthrough\": false,\n  \"ro\": true,\n  \"locktimeout\": "
		   "2.5\n}\n") == 0,
	      "%s", error ? error : "");
	CHECK(strcmp(config.match, "*.jsonl:*.ndjson") == 0, "%s", config.match);
	CHECK(config.file.limits.pipebuf == 8192 &&
	      config.file.limits.maxrecord == 1 << 20);
	CHECK(config.file.onbad == JSONL_ONBAD_QUARANTINE && !config.passthrough);
	CHECK(config.readonly && config.file.locktimeout_ms == 2500);

	CHECK(load("{\"fsname\": \"Z\u00fcrich\", \"exclude\": \"\\u00fc.*\"}") == 0,
	      "%s", error ? error : "");
	CHECK(config.fsname && strcmp(config.fsname, "Z\u00fcrich") == 0);
	CHECK(strcmp(config.exclude, "\u00fc.*") == 0, "%s", config.exclude);

	CHECK(load("{\n\"pipebuf\": 1,\n\n\"pipebuff\": 2\n}") == -EINVAL);
	snprintf(where, sizeof(where), "%s:4:", path);
	CHECK_SAID(where);
	CHECK_SAID("pipebuff");
	CHECK(load("{\"sync\": \"never\"}") == -EINVAL);
	snprintf(where, sizeof(where), "%s:1:", path);
	CHECK(said(where) && said("close, write, none"), "%s", error ? error : "");
	CHECK(load("{\"rules\": [{\"match\": \"*.md\", \"class\": \"prose\"}]}") ==
		  -EINVAL &&
	      said("plain, governed, replace, text"));
	CHECK(load("{\"config\": \"/etc/other\"}") == -EINVAL &&
	      said("cannot name another"));
	CHECK(load("{\"ro\": true, \"rw\": true}") == -EINVAL && said("twice"));
	CHECK(load("{\"ro\": true, \"ro\": true}") == -EINVAL && said("twice"));
	CHECK(load("{\"pipebuf\": null}") == -EINVAL);
	CHECK(load("{\"pipebuf\": {}}") == -EINVAL);
	CHECK(load("{\"pipebuf\": 1,}") == -EINVAL);
	CHECK(load("[]") == -EINVAL && error);
	CHECK(load("") == -EINVAL && error);
	CHECK(load("{}") == 0 && !error);
}

static void test_precedence(void)
{
	fresh();
	CHECK(set("pipebuf", "512") == 0);
	CHECK(load("{\"pipebuf\": 1024, \"maxdepth\": 7}") == 0);
	CHECK(config.file.limits.pipebuf == 512 && config.file.limits.maxdepth == 7);
	CHECK(set("maxdepth", "9") == 0 && config.file.limits.maxdepth == 9);
	/* What does not count must be right all the same. */
	CHECK(load("{\"pipebuf\": \"many\"}") == -EINVAL);
	CHECK(config.file.limits.pipebuf == 512);
	CHECK(set("match", "*.log") == 0 && load("{\"match\": \"*.x\"}") == 0);
	CHECK(strcmp(config.match, "*.log") == 0);

	fresh();
	write_file("{\"blank\": \"keep\"}");
	CHECK(set("config", path) == 0 && config.file.limits.blank == JSONL_BLANK_KEEP);
	CHECK(set("config", "") == -EINVAL && set("config", NULL) == -EINVAL);
	/* Not -ENOENT, which would mean that there is no such option. */
	CHECK(set("config", "/proc/nonexistent/file") == -EINVAL);
	CHECK(said("/proc/nonexistent/file") && said("No such file"));
}

static void test_rules(void)
{
	struct jsonl_settings settings;
	char where[128];

	fresh();
	CHECK(
	    load("{\"pipebuf\": 512, \"rules\": [\n"
		 "{\"match\": [\"audit/*.jsonl\", \"*.log\"], \"sync\": \"write\","
		 " \"maxrecord\": \"1M\", \"class\": \"governed\"},\n"
		 "{\"match\": \"big-*\", \"maxrecord\": \"32M\", \"locktimeout\": 0.5,\n"
		 " \"maxdepth\": 3}], \"maxdepth\": 7}") == 0,
	    "%s", error ? error : "");
	CHECK(config.nrules == 2 && config.file.limits.maxdepth == 7);
	CHECK(strcmp(config.rules[0].match, "audit/*.jsonl:*.log") == 0);
	CHECK(config.rules[0].line == 2 && config.rules[1].line == 3);
	CHECK(strcmp(config.rules[0].file, path) == 0);
	CHECK(jsonl_config_rules_class(&config.rules[0]));
	CHECK(!jsonl_config_rules_class(&config.rules[1]));
	CHECK(jsonl_config_maxrecord(&config) == 32U << 20);

	settings = config.file;
	jsonl_config_apply(&config.rules[0], &settings);
	CHECK(settings.sync == JSONL_SYNC_WRITE && settings.limits.maxrecord == 1U << 20);
	CHECK(settings.class == JSONL_CLASS_GOVERNED);
	CHECK(settings.limits.pipebuf == 512 && settings.limits.maxdepth == 7);
	jsonl_config_apply(&config.rules[1], &settings);
	CHECK(settings.sync == JSONL_SYNC_WRITE && settings.limits.maxdepth == 3);
	CHECK(settings.limits.maxrecord == 32U << 20 && settings.locktimeout_ms == 500);

	/* A record of that size could never be finished. */
	CHECK(set("pending_max", "20M") == 0);
	CHECK(jsonl_config_check(&config, &error) == -EINVAL && said("32M"));

	CHECK(load("{\"rules\": []}") == 0);
	/* What may not differ from file to file, with place and reason. */
	for (const char *const *key =
		 (const char *const[]){"state", "max_threads", "quarantine_max", "xattr",
				       "exclude", "ro", "config", NULL};
	     *key; key++) {
		char text[128];

		fresh();
		snprintf(text, sizeof(text),
			 "{\n\"rules\": [{\"match\": \"*\",\n\"%s\": 1}]}", *key);
		snprintf(where, sizeof(where), "%s:3: %s is an option of the whole mount",
			 path, *key);
		CHECK(load(text) == -EINVAL && said(where), "%s", error ? error : "");
		CHECK(config.nrules == 0);
	}
	CHECK(load("{\"rules\": [\n{\"sync\": \"none\"}]}") == -EINVAL);
	snprintf(where, sizeof(where), "%s:2: this rule has no \"match\"", path);
	CHECK_SAID(where);
	CHECK(load("{\"rules\": [{\"match\": \"*\"}]}") == -EINVAL &&
	      said("sets nothing"));
	CHECK(load("{\"rules\": [{\"match\": \"[\", \"sync\": \"none\"}]}") == -EINVAL);
	CHECK_SAID("[ has no ]");
	CHECK(load("{\"rules\": [{\"match\": \"\", \"sync\": \"none\"}]}") == -EINVAL);
	CHECK(load("{\"rules\": [{\"match\": \"*\", \"sync\": \"never\"}]}") == -EINVAL);
	CHECK_SAID("close, write, none");
	CHECK(load("{\"rules\": [{\"match\": \"*\", \"sink\": \"x\"}]}") == -EINVAL);
	CHECK_SAID("unknown option \"sink\" in a rule");
	CHECK(load("{\"rules\": \"*\"}") == -EINVAL && said("list of objects"));
	CHECK(load("{\"match\": [{\"match\": \"x\"}]}") == -EINVAL);
	CHECK_SAID("match is no list of objects");
	/* A class is for patterns alone. */
	CHECK(set("class", "governed") == -EINVAL && said("rules"));
	CHECK(load("{\"class\": \"governed\"}") == -EINVAL && said("rule"));
}

/* Reads the file again, which now has this text. */
static int reload(const char *text, struct jsonl_config *new, char **kept)
{
	write_file(text);
	free(error);
	return jsonl_config_reload(&config, path, new, kept, &error);
}

static void test_reload(void)
{
	struct jsonl_config new;
	char *kept = NULL;

	fresh();
	CHECK(set("onbad", "quarantine") == 0 && set("match", "*.log") == 0);
	CHECK(set("noallow_other", NULL) == 0);
	CHECK(load("{\"sync\": \"none\", \"archive_max\": \"3G\", \"fsname\": \"x\"}") ==
	      0);
	CHECK(reload("{\"onbad\": \"refuse\", \"match\": \"*\", \"exclude\": \"*.x\","
		     "\"archive_max\": \"2G\", \"xattr\": false, \"rules\": "
		     "[{\"match\": \"a\", \"sync\": \"write\"}]}",
		     &new, &kept) == 0,
	      "%s", error ? error : "");
	/* What was set stays, what the file said is gone, what it says now holds. */
	CHECK(new.file.onbad == JSONL_ONBAD_QUARANTINE &&strcmp(new.match, "*.log") == 0);
	CHECK(new.file.sync == JSONL_SYNC_CLOSE &&strcmp(new.exclude, "*.x") == 0);
	CHECK(new.nrules == 1 && strcmp(new.path, path) == 0);
	CHECK(new.archive_max == UINT64_C(2) << 30);
	/* But not of the whole mount. */
	CHECK(new.noallow_other &&new.xattr);
	CHECK(new.fsname &&strcmp(new.fsname, "x") == 0);
	CHECK(kept && strcmp(kept, "xattr, fsname") == 0, "%s", kept ? kept : "none");
	free(kept);
	jsonl_config_deinit(&new);

	CHECK(reload("{\"archive_max\": \"2G\", \"fsname\": \"x\"}", &new, &kept) == 0 &&
	      !kept);
	jsonl_config_deinit(&new);
	CHECK(reload("{\n\"sync\": 1}", &new, &kept) == -EINVAL && !kept &&
	      said(":2: sync"));
	/* The bounds are as if it were mounted now, and must agree. */
	CHECK(reload("{\"maxrecord\": \"512M\", \"quarantine_max\": \"1M\"}", &new,
		     &kept) == 0);
	CHECK(new.archive_max == UINT64_C(1) << 30 && new.quarantine_max == 1U << 20);
	CHECK(kept && strcmp(kept, "fsname") == 0);
	free(kept);
	jsonl_config_deinit(&new);
	CHECK(reload("{\"maxrecord\": \"512M\", \"pending_max\": \"1M\"}", &new, &kept) ==
	      -EINVAL);
	CHECK(!kept && said("pending_max"));
	/* What was set stays. */
	fresh();
	CHECK(set("pending_max", "16M") == 0 && load("{}") == 0);
	CHECK(reload("{\"maxrecord\": \"512M\"}", &new, &kept) == -EINVAL);
	CHECK(reload("{\"pending_max\": \"2G\"}", &new, &kept) == 0 && !kept);
	CHECK(new.pending_max == 16U << 20);
	jsonl_config_deinit(&new);
}

static void collect(void *ctx, const struct jsonl_config_value *v)
{
	static const char from[] = "dofr";

	fprintf(ctx, "%s=%s %c%u ", v->name, v->text, from[v->from], v->line);
}

static void test_explain(void)
{
	bool matches[] = {true, false, true};
	struct jsonl_config_value v;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		abort();
	fresh();
	CHECK(set("blank", "keep") == 0 && set("attr_timeout", "0.5") == 0);
	CHECK(set("noxattr", NULL) == 0);
	CHECK(load("{\"blank\": \"drop\", \"maxdepth\": 7,\n \"locktimeout\": 0.250,\n"
		   "\"rules\": [{\"match\": \"a\", \"sync\": \"none\", \"value\": "
		   "\"object\"},\n"
		   "{\"match\": \"b\", \"sync\": \"close\"},\n"
		   "{\"match\": \"a\", \"sync\": \"write\"}]}") == 0);
	jsonl_config_explain(&config, matches, collect, f);
	fflush(f);
	CHECK(strstr(text, "blank=keep o0 ") && strstr(text, "maxdepth=7 f1 "), "%s",
	      text);
	CHECK(strstr(text, "locktimeout=0.25 f2 ") && strstr(text, "value=object r3 "));
	CHECK(strstr(text, "sync=write r5 ") && strstr(text, "maxrecord=16M d0 "));
	CHECK(!strstr(text, "class=") && !strstr(text, "match="));
	rewind(f);
	jsonl_config_given(&config, collect, f);
	fclose(f);
	CHECK(strcmp(text, "blank=keep o0 attr_timeout=0.5 o0 xattr=no o0 ") == 0, "%s",
	      text);
	free(text);
	jsonl_config_source(&config, "locktimeout", &v);
	CHECK(v.from == JSONL_CONFIG_FILE && v.line == 2);
	jsonl_config_source(&config, "match", &v);
	CHECK(v.from == JSONL_CONFIG_DEFAULT);
}

static void test_option_list(void)
{
	char text[] = ",a=b\\,c,,d,e==,", *list = text, *value;

	CHECK(strcmp(jsonl_option_next(&list, &value), "a") == 0);
	CHECK(strcmp(value, "b,c") == 0);
	CHECK(strcmp(jsonl_option_next(&list, &value), "d") == 0 && !value);
	CHECK(strcmp(jsonl_option_next(&list, &value), "e") == 0);
	CHECK(strcmp(value, "=") == 0);
	CHECK(!jsonl_option_next(&list, &value) && !jsonl_option_next(&list, &value));
}

static void test_help(void)
{
	static const char *const names[] = {
	    "match",	     "exclude",	       "generations",
	    "state",	     "config",	       "onbad",
	    "oversize",	     "pipebuf",	       "maxrecord",
	    "pending_max",   "maxdepth",       "value",
	    "blank",	     "append",	       "sync",
	    "commit",	     "rewrite",	       "unlink",
	    "archive_max",   "quarantine_max", "locktimeout",
	    "attr_timeout",  "entry_timeout",  "max_threads",
	    "nopassthrough", "noxattr",	       "rw",
	    "noallow_other", "allow_root",     "default_permissions",
	    "fsname",	     "nosupervise",
	};
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		abort();
	jsonl_config_help(f);
	fclose(f);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		CHECK(strstr(text, names[i]), "%s", names[i]);
	CHECK(strstr(text, "16M") && strstr(text, "*.jsonl"));
	free(text);
}

/* Every option that -h shows has its place in the manual page, by its bare name. */
static void test_manual(const char *tests)
{
	char page[4096], line[1024], *help = NULL, *save = NULL, *manual = NULL;
	size_t size = 0, seen = 0;
	FILE *f = open_memstream(&help, &size);

	if (!f)
		abort();
	jsonl_config_help(f);
	fclose(f);
	snprintf(page, sizeof(page), "%s/../docs/jsonlfs.8", tests);
	f = fopen(page, "r");
	CHECK(f, "%s", page);
	if (!f || getdelim(&manual, &size, '\0', f) < 0)
		abort();
	fclose(f);
	for (char *l = strtok_r(help, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char name[64];

		if (sscanf(l, " -o %63[a-z_]", name) != 1)
			continue;
		seen++;
		snprintf(line, sizeof(line), "\n.BI %s= ", name);
		if (strstr(manual, line))
			continue;
		snprintf(line, sizeof(line), "\n.BR %s ", name);
		if (strstr(manual, line))
			continue;
		snprintf(line, sizeof(line), "\n.B %s\n", name);
		CHECK(strstr(manual, line), "%s is not in %s", name, page);
	}
	CHECK(seen >= 30, "%zu options", seen);
	free(manual);
	free(help);
}

struct told {
	char text[256];
};

static void tell(void *ctx, const struct jsonl_config_value *value)
{
	struct told *t = ctx;
	size_t n = strlen(t->text);

	snprintf(t->text + n, sizeof(t->text) - n, "%s=%s ", value->name, value->text);
}

/* A rule that is told value by value can be made of what was told. */
static void test_rule_by_value(void)
{
	struct told first = {{0}}, second = {{0}};

	fresh();
	CHECK(
	    load("{\"rules\": [{\"match\": \"*.log\", \"class\": \"governed\", "
		 "\"maxrecord\": 4096, \"locktimeout\": 0.5, \"value\": \"object\"}]}") ==
	    0);
	jsonl_config_rule(&config.rules[0], tell, &first);
	CHECK(strcmp(first.text,
		     "maxrecord=4096 value=object class=governed locktimeout=0.5 ") == 0,
	      "%s", first.text);

	CHECK(jsonl_config_rule_add(&config, "*", "here", 7, &error) == 0 && !error);
	CHECK(config.nrules == 2 && config.rules[1].line == 7 && !config.rules[1].set);
	CHECK(jsonl_config_rule_set(&config, "maxrecord", "4096", &error) == 0);
	CHECK(jsonl_config_rule_set(&config, "value", "object", &error) == 0);
	CHECK(jsonl_config_rule_set(&config, "class", "governed", &error) == 0);
	CHECK(jsonl_config_rule_set(&config, "locktimeout", "0.5", NULL) == 0);
	jsonl_config_rule(&config.rules[1], tell, &second);
	CHECK(strcmp(first.text, second.text) == 0, "%s", second.text);

	CHECK(jsonl_config_rule_set(&config, "value", "x", &error) == -EINVAL);
	CHECK(error && strstr(error, "here:7: value=x: allowed is"));
	free(error);
	CHECK(jsonl_config_rule_set(&config, "ro", "yes", &error) == -EINVAL && error);
	free(error);
	CHECK(jsonl_config_rule_add(&config, "[", "here", 8, &error) == -EINVAL && error);
	CHECK(config.nrules == 2);
	free(error);
	error = NULL;
}

int main(int argc, char **argv)
{
	int fd = mkstemp(path);

	if (fd < 0)
		return 1;
	close(fd);
	test_defaults();
	test_choices();
	test_available();
	test_sizes();
	test_numbers();
	test_flags();
	test_strings();
	test_combinations();
	test_file();
	test_precedence();
	test_rules();
	test_rule_by_value();
	test_reload();
	test_explain();
	test_option_list();
	test_help();
	test_manual(argc > 1 ? argv[1] : "tests");
	unlink(path);
	jsonl_config_deinit(&config);
	free(error);
	return check_done();
}
