/* What the commands of jsonlfsctl share: exit codes, messages, the vault that a path lies
 * in. One thread. Every command prints its own messages; standard output carries results
 * only. */
#ifndef FS_CTL_CTL_H
#define FS_CTL_CTL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "report.h"

/* As fsck(8) has them; they add up. */
enum ctl_exit {
	CTL_OK = 0,
	CTL_REPAIRED = 1, /* damage was repaired */
	CTL_DAMAGE = 4,	  /* left as it was */
	CTL_FAILURE = 8,  /* something could not be read, or not be done */
	CTL_USAGE = 16,
};

struct ctl_command {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the command's name */
	const char *synopsis;
	const char *summary;
	const char *help; /* further lines */
};

extern const struct ctl_command ctl_append, ctl_archive, ctl_check, ctl_config,
    ctl_delete_record, ctl_edit, ctl_quarantine, ctl_reap, ctl_reload, ctl_repair,
    ctl_replace, ctl_rotate, ctl_status, ctl_watch, ctl_writers;

/* ---- main.c ---- */
/* "jsonlfsctl: ..." and a newline on standard error. */
__attribute__((format(printf, 1, 2))) void ctl_error(const char *format, ...);
/* The same, and how to get help; returns CTL_USAGE. */
__attribute__((format(printf, 2, 3))) int ctl_usage(const struct ctl_command *command,
						    const char *format, ...);
/* Is argv[*i] the option `name`, as NAME=VALUE or NAME VALUE? Then takes its value and
 * steps over it. A value that is missing is for the caller's "unknown option". */
bool ctl_take_value(const char *name, int argc, char **argv, int *i, const char **value);
void ctl_help(const struct ctl_command *command);

/* ---- vault.c ---- */
struct ctl_vault {
	char *root;   /* canonical path of the directory that holds .jsonlfs; of the
		       * directory itself when there is none above */
	char *prefix; /* from root to the path that was asked for: "" or "dir/" */
	char *name;   /* the path that was asked for, from root; of a file in no vault
		       * its name */
	struct jsonl_report *status; /* of the mount; NULL: the vault is bare */
	int status_error; /* why there is none: -errno, 0 when status is there */
};

/* Finds the vault of a directory, or of a file (then prefix means nothing). 0 or -errno
 * (of path itself). */
int ctl_vault_find(const char *path, struct ctl_vault *v) jsonl_must_check;
void ctl_vault_free(struct ctl_vault *v);
/* Opens the state directory: `state` when that is given, else ROOT/.jsonlfs. The
 * descriptor or -errno. */
int ctl_vault_state(const struct ctl_vault *v, const char *state) jsonl_must_check;
/* ROOT/.jsonlfs/NAME as text, to be freed; NULL and *error (-errno). */
char *ctl_vault_read(const char *root, const char *name, int *error);

/* ---- text.c: numbers and names as people read them ---- */
#define CTL_NUMBER 32
/* 1234567 -> "1,234,567". */
const char *ctl_number(uint64_t n, char buf[CTL_NUMBER]);
/* "1.2 GiB". */
const char *ctl_bytes(uint64_t n, char buf[CTL_NUMBER]);
/* A name that cannot do anything to the terminal: control characters and what is not
 * UTF-8 become \xNN. Returns the columns that it takes. */
size_t ctl_print_name(FILE *to, const char *name);

/* Prints a report on standard output, indented, and frees it. 0 or CTL_FAILURE. */
int ctl_print_report(struct jsonl_report *o);

#endif
