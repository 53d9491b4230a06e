/* SPDX-License-Identifier: MIT */
/* jsonlfsctl quarantine: lists, shows, restores and drops what was set aside. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "ctl/find/names.h"
#include "ctl/kept/drop.h"
#include "ctl/kept/quarantine_restore.h"
#include "ctl/kept/quarantine_store.h"
#include "ctl/kept/selection.h"
#include "ctl/options.h"
#include "ctl/find/content.h"

struct request {
	bool json, again;
	const char *state, *edited;
	struct ctl_options options;	/* restore: what a record is */
	bool judged;			/* an option of these was given */
	struct ctl_selection selection; /* drop: which entries, unless by name */
	char **rest;			/* arguments besides options: PATH, NAME... */
	int count;
};

/* ---- list ---- */

enum { EVENT, REASON, PROGRAM, PATH, COLUMNS };
static const char *const columns[COLUMNS] = {"event", "reason", "program", "path"};

static void measure(const struct ctl_store *s, const struct ctl_names *names, size_t *width)
{
	for (size_t i = 0; i < names->count; i++) {
		const char *restored;
		uint64_t events;
		const struct jsonl_report *line =
		    ctl_store_line(s, names->list[i], &restored, &events);

		for (size_t c = 0; c < COLUMNS; c++)
			width[c] =
			    ctl_column_width(width[c], ctl_text_of(line, columns[c]));
	}
}

static void print_entry(const char *name, const struct stat *st,
			const struct jsonl_report *line, const char *restored,
			uint64_t events, const size_t *width)
{
	char bytes[CTL_NUMBER], when[20];

	/* Without the fraction of the second, which the name has. */
	(void)snprintf(when, sizeof(when), "%.19s", ctl_text_of(line, "time"));
	ctl_print_column(when, 21);
	ctl_print_column(ctl_text_of(line, "event"), width[EVENT]);
	ctl_print_column(ctl_text_of(line, "reason"), width[REASON]);
	printf("%10s  ", ctl_bytes((uint64_t)st->st_size, bytes));
	ctl_print_column(ctl_text_of(line, "program"), width[PROGRAM]);
	ctl_print_column(ctl_text_of(line, "path"), width[PATH]);
	(void)ctl_print_name(stdout, name);
	if (events > 1)
		printf("  (%llu events)", (unsigned long long)events);
	puts(restored ? "  (restored)" : "");
}

static void list_entry(struct jsonl_report *list, const char *name, const struct stat *st,
		       const struct jsonl_report *line, const char *restored,
		       uint64_t events)
{
	static const char *const strings[] = {"time",	"event", "path",
					      "reason", "text",	 "program"};
	struct jsonl_report *o = jsonl_report_object();

	jsonl_report_add_string(o, "file", name);
	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
		if (jsonl_report_get_string(line, strings[i]))
			jsonl_report_add_string(
			    o, strings[i], jsonl_report_get_string(line, strings[i]));
	jsonl_report_add_uint(o, "bytes", (uint64_t)st->st_size);
	if (line) {
		jsonl_report_add_uint(o, "events", events);
		jsonl_report_add_uint(o, "offset", jsonl_report_get_uint(line, "offset"));
		jsonl_report_add_uint(o, "pid", jsonl_report_get_uint(line, "pid"));
		jsonl_report_add_uint(o, "uid", jsonl_report_get_uint(line, "uid"));
	}
	if (restored)
		jsonl_report_add_string(o, "restored", restored);
	jsonl_report_add(list, NULL, o);
}

static int print_list(struct jsonl_report *list, uint64_t entries, uint64_t bytes)
{
	struct jsonl_report *o = jsonl_report_object();

	jsonl_report_add_uint(o, "entries", entries);
	jsonl_report_add_uint(o, "bytes", bytes);
	jsonl_report_add(o, "quarantine", list);
	return ctl_print_report(o);
}

static int list_names(const struct ctl_store *s, const struct request *r,
		      const struct ctl_names *names)
{
	struct jsonl_report *list = r->json ? jsonl_report_array() : NULL;
	char number[CTL_NUMBER], size[CTL_NUMBER];
	uint64_t entries = 0, bytes = 0;
	size_t width[COLUMNS] = {10, 14, 24, 24};

	measure(s, names, width);
	if (!r->json && names->count)
		printf("%-21s%-*s%-*s%10s  %-*s%-*s%s\n", "TIME (UTC)", (int)width[EVENT],
		       "EVENT", (int)width[REASON], "REASON", "SIZE", (int)width[PROGRAM],
		       "PROGRAM", (int)width[PATH], "PATH", "NAME");
	for (size_t i = 0; i < names->count; i++) {
		const char *restored;
		uint64_t events;
		const struct jsonl_report *line =
		    ctl_store_line(s, names->list[i], &restored, &events);
		struct stat st;

		if (fstatat(s->files.dir, names->list[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		entries++;
		bytes += (uint64_t)st.st_size;
		if (r->json)
			list_entry(list, names->list[i], &st, line, restored, events);
		else
			print_entry(names->list[i], &st, line, restored, events, width);
	}
	if (r->json)
		return print_list(list, entries, bytes);
	printf("%s %s, %s\n", ctl_number(entries, number),
	       entries == 1 ? "entry" : "entries", ctl_bytes(bytes, size));
	return 0;
}

static int list(const struct request *r)
{
	struct ctl_names names = {0};
	struct ctl_store s;
	int code = ctl_store_open(&s, r->rest[0], r->state), rc;

	if (code)
		return code;
	rc = ctl_entries_read(&s.files, NULL, NULL, &names);
	if (rc < 0) {
		ctl_error("%s: %s", r->rest[0], jsonl_error_text(rc));
		code = CTL_FAILURE;
	} else {
		code = list_names(&s, r, &names);
	}
	ctl_names_free(&names);
	ctl_store_close(&s);
	return code;
}

/* ---- show ---- */

/* Tells a user at a terminal where the bytes came from. */
static void tell_origin(const struct jsonl_report *line)
{
	(void)fputs("# ", stderr);
	(void)ctl_print_name(stderr, ctl_text_of(line, "time"));
	(void)fputs(", ", stderr);
	(void)ctl_print_name(stderr, ctl_text_of(line, "text"));
	(void)fprintf(stderr, " at byte %llu, by ",
		      (unsigned long long)jsonl_report_get_uint(line, "offset"));
	(void)ctl_print_name(stderr, ctl_text_of(line, "program"));
	(void)fputs(", of ", stderr);
	(void)ctl_print_name(stderr, ctl_text_of(line, "path"));
	(void)fputc('\n', stderr);
}

/* Prints the bytes and nothing else, so that they can be edited; on a terminal they are
 * escaped. */
static void print_data(const char *data, size_t len)
{
	if (isatty(STDOUT_FILENO) != 1) {
		(void)fwrite(data, 1, len, stdout);
		return;
	}
	for (size_t at = 0; at < len;) {
		const char *newline = memchr(data + at, '\n', len - at);
		size_t n = newline ? (size_t)(newline - data) - at : len - at;

		(void)ctl_print_bytes(stdout, data + at, n);
		putchar('\n');
		at += n + 1;
	}
}

static int show(const struct request *r)
{
	const char *name = r->rest[1], *restored;
	cleanup_free char *data = NULL;
	const struct jsonl_report *line;
	uint64_t events;
	struct ctl_store s;
	int code = ctl_store_open(&s, r->rest[0], r->state), rc = 0;
	size_t len;

	if (code)
		return code;
	cleanup_close int fd = ctl_store_open_entry(&s, name);

	if (fd >= 0)
		data = ctl_content_read(fd, &len, &rc);
	if (!data && rc)
		ctl_error("%s: %s", name, jsonl_error_text(rc));
	line = ctl_store_line(&s, name, &restored, &events);
	if (data && line && isatty(STDERR_FILENO) == 1)
		tell_origin(line);
	if (data)
		print_data(data, len);
	ctl_store_close(&s);
	return data ? 0 : CTL_FAILURE;
}

/* ---- restore ---- */

static int restore(const struct request *r)
{
	const struct ctl_restore restore = {.path = r->rest[0],
					    .state = r->state,
					    .name = r->rest[1],
					    .edited = r->edited,
					    .again = r->again,
					    .options = &r->options};

	return ctl_restore(&restore);
}

/* ---- drop ---- */

static int drop(const struct request *r)
{
	struct ctl_store s;
	const struct ctl_drop d = {.part = "quarantine",
				   .path = r->rest[0],
				   .vault = &s.vault,
				   .entries = &s.files,
				   .selection = &r->selection,
				   .names = r->rest + 1,
				   .count = r->count - 1};
	int code = ctl_store_open(&s, r->rest[0], r->state);

	if (code)
		return code;
	code = ctl_drop(&d);
	ctl_store_close(&s);
	return code;
}

/* ---- the command line ---- */

static const struct {
	const char *name;
	int (*run)(const struct request *r);
	int least, most;
	const char *wants;
} actions[] = {
    {"list", list, 1, 1, "PATH"},
    {"show", show, 2, 2, "PATH NAME"},
    {"restore", restore, 2, 2, "PATH NAME"},
    {"drop", drop, 1, 1 << 30, "PATH NAME... (or --all, --older-than, --owner)"},
};

#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

static int parse(struct request *r, int argc, char **argv)
{
	bool options = true;
	int out = 1, code = 0;

	for (int i = 1; i < argc && code == 0; i++) {
		if (!options || argv[i][0] != '-' || argv[i][1] == '\0')
			argv[out++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			options = false;
		else if (strcmp(argv[i], "--json") == 0)
			r->json = true;
		else if (strcmp(argv[i], "--again") == 0)
			r->again = true;
		else if ((code = ctl_selection_take(&ctl_quarantine, &r->selection, argc,
						    argv, &i)) == 1)
			code = 0;
		else if (code == 0 &&
			 !ctl_take_value("--state", argc, argv, &i, &r->state) &&
			 !ctl_take_value("--edited", argc, argv, &i, &r->edited)) {
			r->judged = true;
			code = ctl_options_take(&ctl_quarantine, &r->options, argc, argv,
						&i);
		}
	}
	if (code)
		return code;
	if (out < 2)
		return ctl_usage(&ctl_quarantine,
				 "list, show, restore or drop is missing");
	if (out == 2)
		argv[out++] = (char *)"."; /* the last of argv is NULL */
	r->rest = argv + 2;
	r->count = out - 2;
	return 0;
}

static int quarantine_run(int argc, char **argv)
{
	struct request r = {0};
	int code = parse(&r, argc, argv);

	if (code)
		return code;
	for (size_t i = 0; i < ACTIONS; i++) {
		if (strcmp(argv[1], actions[i].name) != 0)
			continue;
		if (r.count < actions[i].least || r.count > actions[i].most)
			return ctl_usage(&ctl_quarantine, "%s wants %s", actions[i].name,
					 actions[i].wants);
		if (r.json && actions[i].run != list)
			return ctl_usage(&ctl_quarantine, "--json is for list");
		if ((r.edited || r.again || r.judged) && actions[i].run != restore)
			return ctl_usage(&ctl_quarantine,
					 "--edited, --again and options of the mount "
					 "are for restore");
		if (actions[i].run != drop && ctl_selection_given(&r.selection))
			return ctl_usage(&ctl_quarantine,
					 "--all, --older-than and --owner are for drop");
		code =
		    actions[i].run == drop
			? ctl_selection_check(&ctl_quarantine, &r.selection, r.count - 1)
			: 0;
		return code ? code : actions[i].run(&r);
	}
	return ctl_usage(&ctl_quarantine, "%s is not list, show, restore or drop",
			 argv[1]);
}

const struct ctl_command ctl_quarantine = {
    .name = "quarantine",
    .run = quarantine_run,
    .synopsis =
	"list|show|restore|drop [--json] [--all] [--older-than=AGE] [--owner=USER] "
	"[--state=DIR] [--OPTION=VALUE...] PATH [NAME...]",
    .summary = "list, restore or drop what was set aside",
    .help =
	"\n"
	"PATH is a vault, mounted or not, or any directory in it. In a mounted vault\n"
	"root and the owner of the mount list and drop all entries; others see those\n"
	"of their own files and of their own writes, and restore what they can read.\n"
	"An unmounted vault is for root.\n"
	"\n"
	"  list [--json] PATH      the entries: when, why, by which program, of which\n"
	"                          file\n"
	"  show PATH NAME          the bytes of an entry, unchanged\n"
	"  restore PATH NAME       append the records of an entry to the file that they\n"
	"                          were meant for, if all of its lines are records\n"
	"    --edited=FILE         append FILE (- is standard input) instead, an edited\n"
	"                          copy of the entry\n"
	"    --again               even if it was restored before\n"
	"    --config=FILE         take what a record is from this configuration file,\n"
	"                          not from the mount; also --value, --maxdepth,\n"
	"                          --maxrecord\n"
	"  drop PATH NAME...       remove entries, for good\n"
	"    --all                 all of them, without a NAME\n"
	"    --older-than=AGE      those older than a number and s, m, h, d or w\n"
	"    --owner=USER          those that belong to this user\n"
	"\n"
	"  --state=DIR             the state directory, if not .jsonlfs in the vault\n"
	"\n"
	"A program may have written the good records of a refused write again: look\n"
	"whether they are in the file already before you restore them.\n"
	"\n"
	"Exit status: 0, 4 a line is not a record and nothing was restored, 8\n"
	"something could not be read or done, 16 wrong usage.",
};
