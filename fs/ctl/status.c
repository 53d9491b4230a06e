/* jsonlfsctl status and writers: what a running mount tells of itself. */
#include "ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"

/* ---- finding the mount ---- */

/* Says why there is no status, and what to do about it. */
static int no_status(const char *path, int code)
{
	if (code == -ENOTCONN)
		ctl_error(
		    "%s: the mount is dead: mount it again by the same command, which "
		    "clears it, or remove it: umount -l %s",
		    path, path);
	else if (code == -ENOENT || code == -ENOTDIR || code == -EBADF)
		ctl_error(
		    "%s: no jsonlfs is mounted here: mount it with `mount %s` (from "
		    "/etc/fstab) or `jsonlfs SOURCE %s`",
		    path, path, path);
	else if (code == -EACCES)
		ctl_error(
		    "%s: %s: this mount is not for you; try as its owner or as root",
		    path, jsonl_error_text(code));
	else
		ctl_error("%s: %s", path, jsonl_error_text(code));
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
		*text = ctl_vault_read(v.root, name, &rc);
		*parsed = *text ? jsonl_report_parse(*text) : NULL;
		if (*text && !*parsed)
			rc = -EBADMSG;
	}
	ctl_vault_free(&v);
	return rc < 0 ? no_status(path, rc) : 0;
}

/* `[--json] PATH`: the path, or NULL after a message. */
static const char *parse(const struct ctl_command *command, int argc, char **argv,
			 bool *json)
{
	const char *path = NULL;
	bool options = true;

	for (int i = 1; i < argc; i++) {
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (options && strcmp(argv[i], "--json") == 0) {
			*json = true;
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
	if (!path)
		(void)ctl_usage(command, "a mount point is missing");
	return path;
}

/* ---- status ---- */

static uint64_t total(const struct jsonl_report *s, const char *name)
{
	return jsonl_report_get_uint(jsonl_report_get(s, "totals"), name);
}

static void row(const char *label, const char *value)
{
	printf("  %-24s %s\n", label, value);
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
	char bytes[CTL_NUMBER], max[CTL_NUMBER], number[CTL_NUMBER], text[128];

	(void)snprintf(text, sizeof(text), "%s of %s",
		       ctl_bytes(jsonl_report_get_uint(store, "bytes"), bytes),
		       ctl_bytes(jsonl_report_get_uint(store, "max"), max));
	if (entries) {
		size_t len = strlen(text);

		(void)snprintf(
		    text + len, sizeof(text) - len, ", %s entries",
		    ctl_number(jsonl_report_get_uint(store, "entries"), number));
	}
	row(label, text);
}

static void print_mount(const struct jsonl_report *s)
{
	const struct jsonl_report *through = jsonl_report_get(s, "passthrough");
	const char *reason = jsonl_report_get_string(through, "reason");
	const char *mountpoint = jsonl_report_get_string(s, "mountpoint");
	const char *source = jsonl_report_get_string(s, "source");
	const char *version = jsonl_report_get_string(s, "version");
	const char *started = jsonl_report_get_string(s, "started");

	(void)ctl_print_name(stdout, mountpoint ? mountpoint : "?");
	printf("\n  %-24s ", "source");
	(void)ctl_print_name(stdout, source ? source : "?");
	putchar('\n');
	row("version", version ? version : "?");
	row("mounted since", started ? started : "?");
	print_uptime(jsonl_report_get_uint(s, "uptime_s"));
	printf("  %-24s %s%s%s\n", "kernel passthrough",
	       jsonl_report_get_bool(through, "on") ? "on" : "off", reason ? ": " : "",
	       reason ? reason : "");
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
	count_row("syncs", total(s, "syncs"));
	row("unfinished, in memory",
	    ctl_bytes(jsonl_report_get_uint(s, "pending_bytes"), bytes));
	puts("\nrefused or set aside");
	count_row("writes refused", total(s, "refused"));
	count_row("operations denied", total(s, "denied"));
	count_row("fragments at close", total(s, "fragments"));
	count_row("tails repaired", total(s, "repairs"));
	count_row("files archived", total(s, "archived"));
	print_store("quarantine", jsonl_report_get(s, "quarantine"), true);
	print_store("archive", jsonl_report_get(s, "archive"), false);
}

/* What should not happen, and what to do when it has. */
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
	    {"lock_timeouts",
	     "writes waited too long for a lock of a program outside the "
	     "mount: the log names it"},
	};
	bool title = false;
	uint64_t suppressed =
	    jsonl_report_get_uint(jsonl_report_get(s, "log"), "suppressed");

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint64_t n = total(s, table[i].counter);
		char number[CTL_NUMBER];

		if (!n)
			continue;
		puts(title ? "" : "\nattention");
		title = true;
		printf("  %s %s", ctl_number(n, number), table[i].text);
	}
	if (title)
		putchar('\n');
	if (suppressed) {
		char number[CTL_NUMBER];

		printf("\n%s log lines were left out by the rate limit.\n",
		       ctl_number(suppressed, number));
	}
}

static int status_run(int argc, char **argv)
{
	struct jsonl_report *status = NULL;
	cleanup_free char *text = NULL;
	bool json = false;
	const char *path = parse(&ctl_status, argc, argv, &json);
	int code;

	if (!path)
		return CTL_USAGE;
	code = read_state(path, "status.json", &text, &status);
	if (code == 0 && json) {
		(void)fputs(text, stdout);
	} else if (code == 0) {
		print_mount(status);
		print_counts(status);
		print_attention(status);
	}
	jsonl_report_free(status);
	return code;
}

const struct ctl_command ctl_status = {
    .name = "status",
    .run = status_run,
    .synopsis = "[--json] MOUNTPOINT",
    .summary = "what a mount has done since it began",
    .help = "\n"
	    "MOUNTPOINT may be any directory in the mount.\n"
	    "\n"
	    "  --json   the document .jsonlfs/status.json as it is\n"
	    "\n"
	    "Exit status: 0, 8 when no mount is found, 16 wrong usage.",
};

/* ---- writers ---- */

static void pad(size_t used, size_t width)
{
	printf("%*s", used < width ? (int)(width - used) : 1, "");
}

static void print_habits(const struct jsonl_report *habits)
{
	for (size_t i = 0; i < jsonl_report_length(habits); i++) {
		const char *habit =
		    jsonl_report_get_string(jsonl_report_at(habits, i), NULL);

		printf("%s%s", i ? " " : "", habit ? habit : "?");
	}
	putchar('\n');
}

static void print_writer(const struct jsonl_report *w)
{
	const char *program = jsonl_report_get_string(w, "program");
	const char *path = jsonl_report_get_string(w, "path");
	char records[CTL_NUMBER], bytes[CTL_NUMBER], largest[CTL_NUMBER],
	    refused[CTL_NUMBER];

	pad(ctl_print_name(stdout, program ? program : "?"), 40);
	pad(ctl_print_name(stdout, path ? path : "?"), 28);
	printf("%12s %10s %10s %8s  ",
	       ctl_number(jsonl_report_get_uint(w, "records"), records),
	       ctl_bytes(jsonl_report_get_uint(w, "bytes"), bytes),
	       ctl_bytes(jsonl_report_get_uint(w, "largest"), largest),
	       ctl_number(jsonl_report_get_uint(w, "refused"), refused));
	print_habits(jsonl_report_get(w, "habits"));
}

/* Busy programs first. */
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
	size_t n = jsonl_report_length(list);
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
	for (size_t i = 0; i < n; i++)
		sorted[i] = jsonl_report_at(list, i);
	/* Pointers are sorted. NOLINTNEXTLINE(bugprone-sizeof-expression) */
	qsort(sorted, n, sizeof(*sorted), writer_order);
	printf("%-40s%-28s%12s %10s %10s %8s  %s\n", "PROGRAM", "FILE", "RECORDS",
	       "BYTES", "LARGEST", "REFUSED", "UNSAFE WITHOUT THE MOUNT");
	for (size_t i = 0; i < n; i++)
		print_writer(sorted[i]);
	free(sorted);
	return 0;
}

static int writers_run(int argc, char **argv)
{
	struct jsonl_report *writers = NULL;
	cleanup_free char *text = NULL;
	bool json = false;
	const char *path = parse(&ctl_writers, argc, argv, &json);
	int code;

	if (!path)
		return CTL_USAGE;
	code = read_state(path, "writers.json", &text, &writers);
	if (code == 0 && json)
		(void)fputs(text, stdout);
	else if (code == 0)
		code = print_writers(jsonl_report_get(writers, "writers"));
	jsonl_report_free(writers);
	return code;
}

const struct ctl_command ctl_writers = {
    .name = "writers",
    .run = writers_run,
    .synopsis = "[--json] MOUNTPOINT",
    .summary = "which program appends to which file, and with which habits",
    .help = "\n"
	    "Root is shown all writers, everybody else their own.\n"
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
