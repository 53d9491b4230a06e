/* SPDX-License-Identifier: MIT */
/* Defines what the commands of jsonlfsctl share: exit codes, messages, the vault that a
 * path lies in. One thread. Every command prints its own messages; standard output
 * carries results only. */
#ifndef FS_CTL_CTL_H
#define FS_CTL_CTL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "report/report.h"

/* Exit codes, as fsck(8) has them; they add up. */
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
    ctl_delete_record, ctl_edit, ctl_metrics, ctl_quarantine, ctl_reap, ctl_reload, ctl_repair,
    ctl_replace, ctl_report, ctl_rotate, ctl_status, ctl_watch, ctl_writers;

/* ---- main.c ---- */
/* "jsonlfsctl: ..." and a newline on standard error, as ctl_print_name() does it. */
__attribute__((format(printf, 1, 2))) void ctl_error(const char *format, ...);
/* Prints a message, and how to get help; returns CTL_USAGE. */
__attribute__((format(printf, 2, 3))) int ctl_usage(const struct ctl_command *command,
						    const char *format, ...);
/* Takes the value of option `name` if argv[*i] is that, as NAME=VALUE or NAME VALUE, and
 * steps over it. False if it is not, also when the value is missing: then the caller
 * reports an unknown option. */
bool ctl_take_value(const char *name, int argc, char **argv, int *i, const char **value);

/* ---- text.c: numbers and names as people read them ---- */
#define CTL_NUMBER 32
/* 1234567 -> "1,234,567". */
const char *ctl_number(uint64_t n, char buf[CTL_NUMBER]);
/* "1.2 GiB". */
const char *ctl_bytes(uint64_t n, char buf[CTL_NUMBER]);
/* A name that cannot do anything to the terminal: control characters and what is not
 * UTF-8 become \xNN. Returns the columns that it takes; NULL: nothing is printed. */
size_t ctl_print_name(FILE *to, const char *name);
size_t ctl_print_bytes(FILE *to, const char *name, size_t len);

/* Returns it as text, to be freed; NULL out of memory. */
char *ctl_safe_text(const char *name);
/* Prints it on standard output, filled up with spaces. */
void ctl_print_column(const char *text, size_t width);
/* Returns the width that a column needs for this text as well, with a space behind it. */
size_t ctl_column_width(size_t width, const char *text);
/* Prints the text of a JSON document on standard output; what could do something to the
 * terminal is escaped as JSON has it. */
void ctl_print_json(const char *text);
/* Prints a report on standard output, indented, and frees it. 0 or CTL_FAILURE. */
int ctl_print_report(struct jsonl_report *o);

#endif
