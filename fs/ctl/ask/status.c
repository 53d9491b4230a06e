/* SPDX-License-Identifier: MIT */
/* jsonlfsctl status and writers: print what a running mount says about itself. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ctl/ask/live.h"
#include "ctl/ask/open_ends.h"
#include "ctl/find/vault.h"

#define ARCHIVE_ATTENTION 80 /* percent */

/* ---- finding the mount ---- */

/* Says why there is no status, and what to do about it. */
static int no_status(const char *path, int code)
{
	if (code == -ENOENT || code == -ENOTDIR || code == -EBADF)
		ctl_error(
		    "%s: no jsonlfs is mounted here: mount it with `mount %s` (from "
		    "/etc/fstab) or `jsonlfs SOURCE %s`",
		    path, path, path);
	else
		ctl_error("%s: %s", path, ctl_explain(path, code));
	return CTL_FAILURE;
}

/* Reads NAME of the vault that `path` lies in: the text, or the parsed document. */
static int read_state(const char *path, const char *name, char **text,
		      struct jsonl_report **parsed)
{
	struct ctl_vault v;
	int rc = ctl_vault_find(path, &v);

	if (rc < 0)
		return no_status(path, rc);
	rc = v.status_error;
	if (rc == 0) {
		*text = ctl_vault_read(&v, name, &rc);
		*parsed = *text ? jsonl_report_parse(*text) : NULL;
		if (*text && !*parsed)
			rc = -EBADMSG;
	}
	ctl_vault_free(&v);
	return rc < 0 ? no_status(path, rc) : 0;
}

/* `[--json] [--once] [PATH]`: the path, or NULL after a message. `once` is NULL where it is no
 * option. */
static const char *parse(const struct ctl_command *command, int argc, char **argv,
			 bool *json, bool *once)
{
	const char *path = NULL;
	bool options = true;

	for (int i = 1; i < argc; i++) {
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (options && strcmp(argv[i], "--json") == 0) {
			*json = true;
		} else if (options && once && strcmp(argv[i], "--once") == 0) {
			*once = true;
		} else if (options && argv[i][0] == '-') {
			(void)ctl_usage(command, "unknown option %s", argv[i]);
			return NULL;
		} else if (path) {
			(void)ctl_usage(command, "one mount point at a time");
			return NULL;
		} else {
			path = argv[i];
		}
	}
	return path ? path : ".";
}

/* ---- status ---- */

static uint64_t total(const struct jsonl_report *s, const char *name)
{
	return jsonl_report_get_uint(jsonl_report_get(s, "totals"), name);
}

static void row(const char *label, const char *value)
{
	printf("  %-24s ", label);
	(void)ctl_print_name(stdout, value);
	putchar('\n');
}

static void count_row(const char *label, uint64_t n)
{
	char number[CTL_NUMBER];

	row(label, ctl_number(n, number));
}

/* 93784 -> "1 day 2:03:04". */
static void print_uptime(uint64_t s)
{
	char text[64];

	if (s >= 86400)
		(void)snprintf(text, sizeof(text), "%llu day%s %llu:%02llu:%02llu",
			       (unsigned long long)(s / 86400), s / 86400 == 1 ? "" : "s",
			       (unsigned long long)(s / 3600 % 24),
			       (unsigned long long)(s / 60 % 60),
			       (unsigned long long)(s % 60));
	else
		(void)snprintf(text, sizeof(text), "%llu:%02llu:%02llu",
			       (unsigned long long)(s / 3600),
			       (unsigned long long)(s / 60 % 60),
			       (unsigned long long)(s % 60));
	row("up", text);
}

static void print_store(const char *label, const struct jsonl_report *store, bool entries)
{
	uint64_t n = jsonl_report_get_uint(store, "entries");
	char bytes[CTL_NUMBER], max[CTL_NUMBER], number[CTL_NUMBER], text[128];

	(void)snprintf(text, sizeof(text), "%s of %s",
		       ctl_bytes(jsonl_report_get_uint(store, "bytes"), bytes),
		       ctl_bytes(jsonl_report_get_uint(store, "max"), max));
	if (entries) {
		size_t len = strlen(text);

		(void)snprintf(
		    text + len, sizeof(text) - len, ", %s %s", ctl_number(n, number),
		    n == 1 ? "entry" : "entries");
	}
	row(label, text);
}

static void print_mount(const struct jsonl_report *s)
{
	const struct jsonl_report *through = jsonl_report_get(s, "passthrough");
	const char *reason = jsonl_report_get_string(through, "reason");

	(void)ctl_print_name(stdout, ctl_text_of(s, "mountpoint"));
	printf("\n  %-24s ", "source");
	(void)ctl_print_name(stdout, ctl_text_of(s, "source"));
	putchar('\n');
	row("version", ctl_text_of(s, "version"));
	row("mounted since", ctl_text_of(s, "started"));
	print_uptime(jsonl_report_get_uint(s, "uptime_s"));
	printf("  %-24s %s%s", "kernel passthrough",
	       jsonl_report_get_bool(through, "on") ? "on" : "off", reason ? ": " : "");
	(void)ctl_print_name(stdout, reason ? reason : "");
	putchar('\n');
	count_row("open handles", jsonl_report_get_uint(s, "open_handles"));
}

static void print_counts(const struct jsonl_report *s)
{
	char bytes[CTL_NUMBER];

	puts("\nappended");
	count_row("records", total(s, "records"));
	row("bytes", ctl_bytes(total(s, "bytes"), bytes));
	count_row("oversize records", total(s, "oversize"));
	count_row("blank lines dropped", total(s, "blank"));
	count_row("byte order marks dropped", total(s, "marks"));
	count_row("syncs", total(s, "syncs"));
	row("unfinished, in memory",
	    ctl_bytes(jsonl_report_get_uint(s, "pending_bytes"), bytes));
	puts("\nrefused or set aside");
	count_row("lines refused", total(s, "refused"));
	count_row("operations denied", total(s, "denied"));
	count_row("fragments at close", total(s, "fragments"));
	count_row("tails repaired", total(s, "repairs"));
	count_row("files archived", total(s, "archived"));
	print_store("quarantine", jsonl_report_get(s, "quarantine"), true);
	print_store("archive", jsonl_report_get(s, "archive"), true);
}

/* Prints how many lines did not get to the log, and why. */
static void print_log(const struct jsonl_report *log)
{
	uint64_t suppressed = jsonl_report_get_uint(log, "suppressed");
	uint64_t undelivered = jsonl_report_get_uint(log, "undelivered");
	const char *to = jsonl_report_get_string(log, "to");
	const char *error = jsonl_report_get_string(log, "error");
	char number[CTL_NUMBER];

	if (suppressed)
		printf("\n%s log line%s left out by the rate limit.\n",
		       ctl_number(suppressed, number), suppressed == 1 ? " was" : "s were");
	if (undelivered)
		printf(
		    "\n%s log line%s found no receiver (%s%s%s): mount with log=FILE, or "
		    "start a syslog daemon.\n",
		    ctl_number(undelivered, number), undelivered == 1 ? "" : "s", to ? to : "?", error ? ": " : "",
		    error ? error : "");
}

/* Warns about conditions that should not be, and says what to do. */
static void print_attention(const struct jsonl_report *s)
{
	static const struct {
		const char *counter, *text;
	} table[] = {
	    {"lost",
	     "fragments found no room in the quarantine and are LOST: see the log, "
	     "empty the quarantine or raise quarantine_max"},
	    {"quarantine_full",
	     "refused writes found the quarantine full and no copy was "
	     "kept: empty it or raise quarantine_max"},
	    {"sync_failures", "syncs failed: see the kernel's log about the disk"},
	    {"poisoned_files",
	     "files took no more appends after a failed sync: check the "
	     "disk, then jsonlfsctl check"},
	    {"ungoverned",
	     "files were made to be appended to under names of generations, and nothing "
	     "watches over them: the log names the first; name them in match= if they are "
	     "logs"},
	    {"lock_timeouts",
	     "writes waited too long for a lock of a program outside the "
	     "mount: the log names it"},
	    {"lost_locks",
	     "times the servers of a vault of several hosts did not answer in time under "
	     "the lock of a log: look at the network and the servers"},
	};
	const struct jsonl_report *archive = jsonl_report_get(s, "archive");
	uint64_t full = jsonl_report_get_uint(archive, "percent");
	bool title = false;
	uint64_t deaths = jsonl_report_get_uint(s, "deaths");

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint64_t n = total(s, table[i].counter);
		char number[CTL_NUMBER];

		if (!n)
			continue;
		puts(title ? "" : "\nattention");
		title = true;
		printf("  %s %s", ctl_number(n, number), table[i].text);
	}
	if (full >= ARCHIVE_ATTENTION) {
		puts(title ? "" : "\nattention");
		title = true;
		printf("  archive: %llu %% of what one user may have in it is used: the oldest "
		       "entries go as more is removed, so far %llu; keep what you need "
		       "elsewhere, jsonlfsctl archive drop the rest, or raise archive_max",
		       (unsigned long long)full,
		       (unsigned long long)total(s, "evicted"));
	}
	if (deaths) {
		puts(title ? "" : "\nattention");
		title = true;
		printf("  %llu death%s of the daemon of this mount, which was started "
		       "again: "
		       "its last messages say why",
		       (unsigned long long)deaths, deaths == 1 ? "" : "s");
	}
	if (title)
		putchar('\n');
	print_log(jsonl_report_get(s, "log"));
}

/* Prints how many logs are written without the mount, and names those that the caller
 * may see. */
static void print_bypass(const char *path, const struct jsonl_report *s)
{
	uint64_t count = jsonl_report_get_uint(s, "bypass");
	struct jsonl_report *writers = NULL;
	cleanup_free char *text = NULL;
	const struct jsonl_report *list, *one;

	if (!count || read_state(path, "writers.json", &text, &writers))
		return;
	printf("\n%llu log%s open in programs before the mount, and what these write is "
	       "not checked: restart them\n",
	       (unsigned long long)count, count == 1 ? " was" : "s were");
	list = jsonl_report_get(writers, "bypass");
	for (size_t i = 0; (one = jsonl_report_at(list, i)); i++) {
		printf("  ");
		(void)ctl_print_name(stdout, jsonl_report_get_string(one, "program"));
		printf(" (process %lld)  ", (long long)jsonl_report_get_uint(one, "pid"));
		(void)ctl_print_name(stdout, jsonl_report_get_string(one, "path"));
		putchar('\n');
	}
	jsonl_report_free(writers);
}

static int status_run(int argc, char **argv)
{
	struct jsonl_report *status = NULL;
	cleanup_free char *text = NULL;
	bool json = false, once = false;
	const char *path = parse(&ctl_status, argc, argv, &json, &once);
	int code;

	if (!path)
		return CTL_USAGE;
	code = read_state(path, "status.json", &text, &status);
	if (code == 0 && !json && !once && ctl_live_possible()) {
		code = ctl_live(path, NULL);
	} else if (code == 0 && json) {
		ctl_print_json(text);
	} else if (code == 0) {
		print_mount(status);
		print_counts(status);
		print_attention(status);
		print_bypass(path, status);
		ctl_print_open_ends(path);
	}
	jsonl_report_free(status);
	return code;
}

const struct ctl_command ctl_status = {
    .name = "status",
    .run = status_run,
    .synopsis = "[--json] [--once] [DIR]",
    .summary = "what a mount has done since it began",
    .help =
	"\n"
	"Prints the counters of the mount in which DIR (the current directory) lies.\n"
	"In a terminal it is a page that is drawn anew each second: what comes a\n"
	"second, the busiest programs, the bounds of quarantine and archive; q ends\n"
	"it.\n"
	"\n"
	"  --once   print it once, also in a terminal\n"
	"  --json   the document .jsonlfs/status.json as it is\n"
	"\n"
	"Exit status: 0, 8 when no mount is found, 16 wrong usage.",
};

/* ---- writers ---- */

static void print_habits(const struct jsonl_report *habits)
{
	for (size_t i = 0; i < jsonl_report_length(habits); i++) {
		const char *habit =
		    jsonl_report_get_string(jsonl_report_at(habits, i), NULL);

		(void)fputs(i ? " " : "", stdout);
		(void)ctl_print_name(stdout, habit ? habit : "?");
	}
	putchar('\n');
}

static void print_writer(const struct jsonl_report *w, size_t program, size_t path)
{
	char records[CTL_NUMBER], bytes[CTL_NUMBER], largest[CTL_NUMBER],
	    refused[CTL_NUMBER];

	ctl_print_column(ctl_text_of(w, "program"), program);
	ctl_print_column(ctl_text_of(w, "path"), path);
	printf("%12s %10s %10s %8s  ",
	       ctl_number(jsonl_report_get_uint(w, "records"), records),
	       ctl_bytes(jsonl_report_get_uint(w, "bytes"), bytes),
	       ctl_bytes(jsonl_report_get_uint(w, "largest"), largest),
	       ctl_number(jsonl_report_get_uint(w, "refused"), refused));
	print_habits(jsonl_report_get(w, "habits"));
}

/* Sorts busy programs first. */
static int writer_order(const void *a, const void *b)
{
	const struct jsonl_report *x = *(const struct jsonl_report *const *)a;
	const struct jsonl_report *y = *(const struct jsonl_report *const *)b;
	uint64_t n = jsonl_report_get_uint(x, "records");
	uint64_t m = jsonl_report_get_uint(y, "records");

	return (n < m) - (n > m);
}

static int print_writers(const struct jsonl_report *list)
{
	size_t n = jsonl_report_length(list), program = 40, path = 28;
	const struct jsonl_report **sorted;

	if (!n) {
		puts("nobody has opened a governed file for writing yet");
		return 0;
	}
	sorted = malloc(n * sizeof(struct jsonl_report *));
	if (!sorted) {
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	for (size_t i = 0; i < n; i++) {
		sorted[i] = jsonl_report_at(list, i);
		program = ctl_column_width(program, ctl_text_of(sorted[i], "program"));
		path = ctl_column_width(path, ctl_text_of(sorted[i], "path"));
	}
	/* Pointers are sorted. NOLINTNEXTLINE(bugprone-sizeof-expression) */
	qsort(sorted, n, sizeof(*sorted), writer_order);
	printf("%-*s%-*s%12s %10s %10s %8s  %s\n", (int)program, "PROGRAM", (int)path,
	       "FILE", "RECORDS", "BYTES", "LARGEST", "REFUSED", "UNSAFE WITHOUT THE MOUNT");
	for (size_t i = 0; i < n; i++)
		print_writer(sorted[i], program, path);
	free(sorted);
	return 0;
}

static int writers_run(int argc, char **argv)
{
	struct jsonl_report *writers = NULL;
	cleanup_free char *text = NULL;
	bool json = false;
	const char *path = parse(&ctl_writers, argc, argv, &json, NULL);
	int code;

	if (!path)
		return CTL_USAGE;
	code = read_state(path, "writers.json", &text, &writers);
	if (code == 0 && json)
		ctl_print_json(text);
	else if (code == 0)
		code = print_writers(jsonl_report_get(writers, "writers"));
	jsonl_report_free(writers);
	return code;
}

const struct ctl_command ctl_writers = {
    .name = "writers",
    .run = writers_run,
    .synopsis = "[--json] [DIR]",
    .summary = "which program appends to which file, and with which habits",
    .help = "\n"
	    "Of the mount that DIR (the current directory) lies in. Root is shown all "
	    "writers,\n"
	    "everybody else their own.\n"
	    "\n"
	    "  --json   the document .jsonlfs/writers.json as it is\n"
	    "\n"
	    "Habits that the mount makes safe and that would not be safe without it:\n"
	    "  no-append        opened without O_APPEND\n"
	    "  oversize         records of pipebuf bytes (4096) or more\n"
	    "  missing-newline  closed without a newline at the end\n"
	    "  split-writes     records that came in more than one write\n"
	    "  no-sync          closed after appending without fsync\n"
	    "\n"
	    "Exit status: 0, 8 when no mount is found, 16 wrong usage.",
};
