/* Options and their defaults -> one validated struct. The table in config.c is the only
 * place that names an option: -o parsing, the configuration file, its rules and -h all
 * read it. What may differ from file to file is in struct jsonl_settings: the options
 * give its defaults, rules of the configuration file override them by pattern (policy.h).
 * What is set by jsonl_config_set wins over the configuration file, whichever comes
 * first. Not thread-safe while it is being filled; read-only, and shared freely,
 * afterwards. */
#ifndef JSONL_CONFIG_H
#define JSONL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "error.h"
#include "frame.h"

enum jsonl_onbad { JSONL_ONBAD_REFUSE, JSONL_ONBAD_QUARANTINE };
enum jsonl_oversize { JSONL_OVERSIZE_WARN, JSONL_OVERSIZE_REJECT, JSONL_OVERSIZE_ALLOW };
enum jsonl_blank { JSONL_BLANK_DROP, JSONL_BLANK_KEEP };
enum jsonl_value { JSONL_VALUE_ANY, JSONL_VALUE_CONTAINER, JSONL_VALUE_OBJECT };
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
enum jsonl_lostupdate { JSONL_LOSTUPDATE_WARN, JSONL_LOSTUPDATE_REFUSE };

/* How a regular file is treated. */
enum jsonl_class {
	JSONL_CLASS_PLAIN,
	JSONL_CLASS_GOVERNED, /* records are appended, whole */
	JSONL_CLASS_REPLACE,  /* a state file: rewritten as a whole */
	JSONL_CLASS_TEXT,     /* a log of any text: blocks are appended, whole */
};

/* What holds for one file. Compared as bytes: no pointers, and no padding that is not
 * zeroed with the rest. */
struct jsonl_settings {
	struct jsonl_limits limits;
	uint64_t locktimeout_ms; /* 5000; written as seconds, fractions allowed */
	int class; /* enum jsonl_class; set by rules alone, never by an option */
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

/* A file has no more rules than this. */
#define JSONL_CONFIG_RULES 256
/* There are no more options than this. */
#define JSONL_CONFIG_OPTIONS 64

/* One entry of "rules" in a configuration file. */
struct jsonl_rule {
	char *match; /* owned; colon-separated globs */
	char *file;  /* owned; the configuration file and the line where it begins */
	unsigned line;
	uint64_t set; /* private: which values it gives, one bit an option */
	struct jsonl_settings values;
};

struct jsonl_config {
	/* Owned strings, colon-separated globs. */
	char *match;	   /* "*.jsonl" */
	char *exclude;	   /* "" ; "**" "/.git/" "**" is always excluded besides */
	char *generations; /* "" ; more names of generations */
	char *state;	   /* NULL: .jsonlfs in the vault's root */
	char *fsname;	   /* NULL: the source path */
	/* What holds for a file that no rule speaks of. */
	struct jsonl_settings file;
	struct jsonl_rule *rules; /* owned; applied in this order, later ones win */
	size_t nrules;
	uint64_t archive_max;	 /* bytes: 1 GiB */
	uint64_t quarantine_max; /* bytes: 256 MiB */
	uint64_t pending_max; /* bytes of unfinished records in the whole mount: 1 GiB */
	double attr_timeout;  /* seconds: 1.0, plain files and directories */
	double entry_timeout; /* seconds: 1.0 */
	uint64_t max_threads; /* worker threads */
	bool passthrough;     /* on */
	bool xattr;	      /* on */
	bool readonly;	      /* ro */
	bool supervise;	      /* on: mount again when the daemon dies */
	/* Neither of the first two: not said, so root's mounts are for everybody. */
	bool allow_other, noallow_other, allow_root;
	bool default_permissions; /* on; see jsonl_config_check */
	char *path; /* owned; the configuration file that was read last, or NULL */
	uint64_t given;		  /* private: options that were set by jsonl_config_set */
	unsigned lines[JSONL_CONFIG_OPTIONS]; /* private: where in the file; 0: nowhere */
};

/* Fills in the defaults. Pair with _deinit. 0 or -ENOMEM. */
int jsonl_config_init(struct jsonl_config *config) jsonl_must_check;
void jsonl_config_deinit(struct jsonl_config *config);

/* Sets one option. A flag takes value NULL ("passthrough", "nopassthrough") or yes or no.
 * Sizes take K, M, G. "config" loads that file. On failure -EINVAL and *error, a sentence
 * that says what is allowed, to be freed by the caller. -ENOENT: no such option of ours
 * (*error is set too). -ENOMEM. A failure changes nothing, except that "config" leaves
 * what stood in the file before the error. `error` may be NULL. */
int jsonl_config_set(struct jsonl_config *config, const char *key, const char *value,
		     char **error) jsonl_must_check;
/* Reads a configuration file (one JSON object, the keys are the options' names, lists of
 * globs may be arrays, flags are true or false; "rules" is a list of objects). Unknown
 * keys and keys that are given twice are errors. -EINVAL, -errno of reading it, or
 * -ENOMEM; *error names file and line. */
int jsonl_config_load(struct jsonl_config *config, const char *path,
		      char **error) jsonl_must_check;
/* Checks what depends on more than one option; call last. 0 or -EINVAL with *error. */
int jsonl_config_check(const struct jsonl_config *config, char **error) jsonl_must_check;

/* What holds for a mount of `old` once its configuration file has been read again, from
 * `path`, in a struct that was not initialised: what jsonl_config_set has set stays, the
 * rest is as if it were mounted now. Options of the whole mount stay as they are, but for
 * match, exclude, generations, archive_max, quarantine_max and pending_max; *kept lists
 * those of which the file says something else by now, separated by commas, NULL: none; to
 * be freed. Errors as jsonl_config_load and jsonl_config_check; then there is nothing in
 * *new. */
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

/* Calls each() with all values that may differ from file to file, but for the class, as
 * they hold for a file for which `matches` says of each rule whether it does. */
void jsonl_config_explain(const struct jsonl_config *config, const bool *matches,
			  void (*each)(void *ctx, const struct jsonl_config_value *value),
			  void *ctx);
/* The same with all options that were set by jsonl_config_set, as it takes them. */
void jsonl_config_given(const struct jsonl_config *config,
			void (*each)(void *ctx, const struct jsonl_config_value *value),
			void *ctx);
/* Where the value of this option comes from, to tell; not from a rule. */
void jsonl_config_source(const struct jsonl_config *config, const char *name,
			 struct jsonl_config_value *value);
/* The same with what a rule gives, the class too; but for `match`. */
void jsonl_config_rule(const struct jsonl_rule *rule,
		       void (*each)(void *ctx, const struct jsonl_config_value *value),
		       void *ctx);
/* Adds a rule behind those that are there, which gives nothing until the other function
 * has set values in it, as a configuration file would. `file`, `line`: where it stands,
 * to tell. 0, -ENOMEM, or -EINVAL with *error. */
int jsonl_config_rule_add(struct jsonl_config *config, const char *match,
			  const char *file, unsigned line, char **error) jsonl_must_check;
int jsonl_config_rule_set(struct jsonl_config *config, const char *key, const char *value,
			  char **error) jsonl_must_check;
/* Overrides what the rule gives. */
void jsonl_config_apply(const struct jsonl_rule *rule, struct jsonl_settings *settings);
/* Does the rule say anything of the class? */
bool jsonl_config_rules_class(const struct jsonl_rule *rule);
/* The longest record that any file may have, bytes. */
uint64_t jsonl_config_maxrecord(const struct jsonl_config *config);
/* Prints the options, one a line with default and meaning, for -h. */
void jsonl_config_help(FILE *to);

#endif
