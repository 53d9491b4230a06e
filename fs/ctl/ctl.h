/* SPDX-License-Identifier: MIT */
/* Defines what every command of jsonlfsctl uses: exit codes, messages, numbers and names
 * as text. One thread. Messages go to standard error, results alone to standard
 * output. */
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
	CTL_DAMAGE = 4,	  /* damage was found and left alone */
	CTL_FAILURE = 8,  /* something could not be read or done */
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
/* Prints "jsonlfsctl: MESSAGE" on standard error, escaped as by ctl_print_name(). */
__attribute__((format(printf, 1, 2))) void ctl_error(const char *format, ...);
/* Prints a message and how to get help; returns CTL_USAGE. */
__attribute__((format(printf, 2, 3))) int ctl_usage(const struct ctl_command *command,
						    const char *format, ...);
/* Takes the value of option `name`: if argv[*i] is NAME=VALUE, or NAME with an argument
 * behind it, sets *value, steps *i over it and returns true. A NAME without a value
 * returns false, too: the caller reports it as an unknown option. */
bool ctl_take_value(const char *name, int argc, char **argv, int *i, const char **value);

/* Returns the index of the next option from argv[i] on, argc: there is none. Arguments
 * before it, and all behind "--", move to argv[*out] and count there. */
int ctl_next_option(int argc, char **argv, int i, int *out);

/* ---- text.c: numbers and names as people read them ---- */
#define CTL_NUMBER 32
/* 1234567 -> "1,234,567". */
const char *ctl_number(uint64_t n, char buf[CTL_NUMBER]);
/* "1.2 GiB". */
const char *ctl_bytes(uint64_t n, char buf[CTL_NUMBER]);
/* Prints a name with control characters and invalid UTF-8 as \xNN, so that it cannot
 * control the terminal. Returns its width in columns; with `to` NULL it only measures. */
size_t ctl_print_name(FILE *to, const char *name);
size_t ctl_print_bytes(FILE *to, const char *name, size_t len);

/* Returns a name escaped in the same way, to be freed; NULL out of memory. */
char *ctl_safe_text(const char *name);
/* Prints text on standard output, padded with spaces to `width`. */
void ctl_print_column(const char *text, size_t width);
/* Returns the larger of `width` and the columns that `text` and a space behind it
 * need. */
size_t ctl_column_width(size_t width, const char *text);
/* Prints a JSON document on standard output; characters that could control the terminal
 * become \uNNNN. */
void ctl_print_json(const char *text);
/* Returns a member of a report that is text, "?" if it is missing. */
const char *ctl_text_of(const struct jsonl_report *o, const char *key);
/* Prints a report on standard output, indented, and frees it. 0 or CTL_FAILURE. */
int ctl_print_report(struct jsonl_report *o);

#endif
