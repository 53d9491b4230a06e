/* SPDX-License-Identifier: MIT */
/* Holds the options of a mount and their defaults. The table in config.c is the only
 * place that names an option: -o, the configuration file, its rules and -h read it. An
 * option that may differ from file to file is in struct jsonl_settings; rules of the
 * configuration file override it by pattern (policy.h). A value set by jsonl_config_set
 * wins over the configuration file, whichever comes first. One thread while it is filled;
 * constant afterwards, any thread. */
#ifndef JSONL_CONFIG_H
#define JSONL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "rules/limits.h"

enum jsonl_onbad { JSONL_ONBAD_REPORT, JSONL_ONBAD_QUARANTINE, JSONL_ONBAD_REFUSE };
enum jsonl_sync { JSONL_SYNC_CLOSE, JSONL_SYNC_WRITE, JSONL_SYNC_NONE };
enum jsonl_unlink { JSONL_UNLINK_ARCHIVE, JSONL_UNLINK_DENY, JSONL_UNLINK_ALLOW };
enum jsonl_append { JSONL_APPEND_POLICED, JSONL_APPEND_STRICT };
enum jsonl_rewrite { JSONL_REWRITE_DENY, JSONL_REWRITE_EXTEND, JSONL_REWRITE_ARCHIVE };
enum jsonl_commit { JSONL_COMMIT_LINE, JSONL_COMMIT_CLOSE };
enum jsonl_killed { JSONL_KILLED_DROP, JSONL_KILLED_COMMIT };
enum jsonl_follow { JSONL_FOLLOW_FILE, JSONL_FOLLOW_PATH };
enum jsonl_onbroken {
	JSONL_ONBROKEN_ERROR,
	JSONL_ONBROKEN_EMPTY,
	JSONL_ONBROKEN_LAST_GOOD
};
/* Symbolic links that lead out of the vault. */
enum jsonl_links { JSONL_LINKS_ANY, JSONL_LINKS_INSIDE };
/* Several daemons over one directory: when there are or may be others, always, never. */
enum jsonl_shared { JSONL_SHARED_AUTO, JSONL_SHARED_ON, JSONL_SHARED_OFF };
enum jsonl_lostupdate { JSONL_LOSTUPDATE_WARN, JSONL_LOSTUPDATE_REFUSE };

/* Classes of regular files. */
enum jsonl_class {
	JSONL_CLASS_PLAIN,
	JSONL_CLASS_GOVERNED, /* records are appended, whole */
	JSONL_CLASS_REPLACE,  /* a state file: rewritten as a whole */
	JSONL_CLASS_TEXT,     /* a log of any text: blocks are appended, whole */
};

/* The options of one file. Compared as bytes: it has no pointers, and its padding is
 * zeroed. */
struct jsonl_settings {
	struct jsonl_limits limits;
	uint64_t locktimeout_ms; /* 5000; written as seconds, fractions allowed */
	int class; /* enum jsonl_class; set by rules only, never by an option */
	int onbad; /* enum jsonl_onbad, and so on */
	int sync;
	int unlink;
	int append;
	int rewrite;
	int commit;
	int killed;
	int follow;
	int onbroken;
	int lostupdate;
};

/* The most rules of a configuration file. */
#define JSONL_CONFIG_RULES 256
/* The most options. */
#define JSONL_CONFIG_OPTIONS 64

/* One entry of "rules" in a configuration file. */
struct jsonl_rule {
	char *match; /* owned; colon-separated globs */
	char
	    *file; /* owned; the configuration file, and the line where the rule begins */
	unsigned line;
	uint64_t set; /* private: the values that it gives, one bit an option */
	struct jsonl_settings values;
};

struct jsonl_config {
	/* Owned strings, colon-separated globs. */
	char *match;	   /* "*.jsonl" */
	char *exclude;	   /* ""; "**" "/.git/" "**" is always excluded, too */
	char *generations; /* "": more names of generations */
	char *state;	   /* NULL: .jsonlfs in the vault's root */
	char *fsname;	   /* NULL: the source path */
	char *log;	   /* "syslog", "journal", "none" or a path; NULL: not said */
	/* For a file that no rule matches. */
	struct jsonl_settings file;
	struct jsonl_rule *rules; /* owned; applied in this order, later ones win */
	size_t nrules, rules_cap;
	uint64_t archive_max;	 /* bytes: 1 GiB */
	uint64_t archive_age;	 /* days: 30 */
	uint64_t quarantine_max; /* bytes: 256 MiB */
	uint64_t pending_max; /* bytes of unfinished records in the whole mount: 1 GiB */
	double attr_timeout;  /* seconds: 1.0, plain files and directories */
	double entry_timeout; /* seconds: 1.0 */
	int links;	      /* enum jsonl_links */
	int shared;	      /* enum jsonl_shared */
	uint64_t max_threads; /* worker threads */
	bool passthrough;     /* on */
	bool xattr;	      /* on */
	bool readonly;	      /* ro */
	bool supervise;	      /* on: mount again when the daemon dies */
	/* When neither of the first two was given, mounts by root are for everybody. */
	bool allow_other, noallow_other, allow_root;
	bool default_permissions; /* on; see jsonl_config_check */
	char *path;	/* owned; the last configuration file that was read, or NULL */
	uint64_t given; /* private: options set by jsonl_config_set */
	unsigned lines[JSONL_CONFIG_OPTIONS]; /* private: in the file; 0: not there */
};

/* Fills in the defaults. Pair with _deinit. 0 or -ENOMEM. */
int jsonl_config_init(struct jsonl_config *config) jsonl_must_check;
void jsonl_config_deinit(struct jsonl_config *config);

/* Sets one option. A flag takes the value NULL ("passthrough", "nopassthrough"), yes or
 * no; sizes take K, M, G; "config" loads that file. 0; -EINVAL with *error, a sentence
 * that says what is allowed, to be freed by the caller; -ENOENT with *error: no option of
 * jsonlfs; -ENOMEM. A failure changes nothing, but "config" keeps the members before the
 * error. `error` may be NULL. */
int jsonl_config_set(struct jsonl_config *config, const char *key, const char *value,
		     char **error) jsonl_must_check;
/* Reads a configuration file: one JSON object whose keys are names of options. Lists of
 * globs may be arrays, flags are true or false, and "rules" is a list of objects. An
 * unknown key, or one that comes twice, is an error. 0; -EINVAL, or -errno of reading it,
 * with *error, which names file and line; -ENOMEM. */
int jsonl_config_load(struct jsonl_config *config, const char *path,
		      char **error) jsonl_must_check;
/* Checks options against each other, after all of them are set. 0 or -EINVAL with *error.
 */
int jsonl_config_check(const struct jsonl_config *config, char **error) jsonl_must_check;

/* Fills *new, which was not initialised, with the options of a mount of `old` after its
 * configuration file was read again, from `path`. Options set by jsonl_config_set stay,
 * the others are as at a new mount. But options of the whole mount do not change, other
 * than match, exclude, generations, archive_max, archive_age, quarantine_max and pending_max; *kept
 * lists those to which the file gives another value by now, separated by commas, to be
 * freed; NULL: none. Returns as jsonl_config_load and jsonl_config_check; after a failure
 * *new is empty. */
int jsonl_config_reload(const struct jsonl_config *old, const char *path,
			struct jsonl_config *new, char **kept,
			char **error) jsonl_must_check;

/* One value and where it comes from. */
struct jsonl_config_value {
	const char *name, *text;
	enum {
		JSONL_CONFIG_DEFAULT,
		JSONL_CONFIG_OPTION, /* jsonl_config_set */
		JSONL_CONFIG_FILE,
		JSONL_CONFIG_RULE,
	} from;
	unsigned line; /* of the file, where the member or the rule stands */
	size_t rule;   /* its number, from 0 */
};

/* Calls each() with the values of one file, but for its class. `matches` says of each
 * rule whether it matches that file. */
void jsonl_config_explain(const struct jsonl_config *config, const bool *matches,
			  void (*each)(void *ctx, const struct jsonl_config_value *value),
			  void *ctx);
/* Returns the default of an option, as it would be written; NULL: there is none, or no
 * such option. */
const char *jsonl_config_standard(const char *name);
/* Calls each() with the options that were set by jsonl_config_set, as it takes them. */
void jsonl_config_given(const struct jsonl_config *config,
			void (*each)(void *ctx, const struct jsonl_config_value *value),
			void *ctx);
/* One value of the mount, as a report has it. */
struct jsonl_config_item {
	const char *name;
	enum {
		JSONL_CONFIG_TEXT,
		JSONL_CONFIG_NUMBER,
		JSONL_CONFIG_MILLIS, /* that people write as seconds */
		JSONL_CONFIG_FLAG,
	} kind;
	const char *text; /* "" for one that is not set */
	uint64_t number;
};
/* Calls each() with every option, as it holds where no rule says otherwise. */
void jsonl_config_each(const struct jsonl_config *config,
		       void (*each)(void *ctx, const struct jsonl_config_item *item),
		       void *ctx);
/* Fills in where the value of an option comes from; rules do not count. */
void jsonl_config_source(const struct jsonl_config *config, const char *name,
			 struct jsonl_config_value *value);
/* Calls each() with the values that a rule gives: its class, too, but not its `match`. */
void jsonl_config_rule(const struct jsonl_rule *rule,
		       void (*each)(void *ctx, const struct jsonl_config_value *value),
		       void *ctx);
/* Adds a rule behind the others, which gives nothing until _rule_set sets values in the
 * last rule, as a configuration file would. `file`, `line`: for messages. 0, -ENOMEM, or
 * -EINVAL with *error. */
int jsonl_config_rule_add(struct jsonl_config *config, const char *match,
			  const char *file, unsigned line, char **error) jsonl_must_check;
int jsonl_config_rule_set(struct jsonl_config *config, const char *key, const char *value,
			  char **error) jsonl_must_check;
/* Overrides the settings that the rule gives. */
void jsonl_config_apply(const struct jsonl_rule *rule, struct jsonl_settings *settings);
/* Returns true when the rule gives a class. */
bool jsonl_config_rules_class(const struct jsonl_rule *rule);
/* Returns the longest record that any file may have, bytes. */
uint64_t jsonl_config_maxrecord(const struct jsonl_config *config);
/* Prints the options, one a line with default and meaning, for -h. */
void jsonl_config_help(FILE *to);

#endif
