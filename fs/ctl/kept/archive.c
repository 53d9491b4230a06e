/* SPDX-License-Identifier: MIT */
/* jsonlfsctl archive: lists, restores and drops files that unlink, rewrites and repair
 * have kept. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/archived.h"
#include "base/cleanup.h"
#include "ctl/ctl.h"
#include "ctl/find/names.h"
#include "ctl/find/vault.h"
#include "ctl/kept/archive.h"
#include "ctl/kept/drop.h"
#include "ctl/kept/selection.h"

/* Converts the time that begins an entry's name, 20261120T101112.123456789Z-..., to
 * 2026-11-20T10:11:12.123456789Z. */
static void decode_time(const char *name, char text[40])
{
	if (strlen(name) > 26 && name[8] == 'T' && name[15] == '.' && name[25] == 'Z')
		(void)snprintf(text, 40, "%.4s-%.2s-%.2sT%.2s:%.2s:%.2s%.11s", name,
			       name + 4, name + 6, name + 9, name + 11, name + 13,
			       name + 15);
	else
		(void)snprintf(text, 40, "?");
}

static void tell(struct jsonl_report *list, const char *name, const struct stat *st,
		 size_t width)
{
	char when[40], size[CTL_NUMBER];
	struct jsonl_archived said;

	jsonl_archived_parse(name, &said);
	decode_time(name, when);
	if (list) {
		struct jsonl_report *o = jsonl_report_object();

		jsonl_report_add_string(o, "file", name);
		jsonl_report_add_string(o, "time", when);
		jsonl_report_add_string(o, "path", said.path);
		jsonl_report_add_uint(o, "bytes", (uint64_t)st->st_size);
		jsonl_report_add_uint(o, "uid", st->st_uid);
		jsonl_report_add(list, NULL, o);
		return;
	}
	when[19] = '\0';
	ctl_print_column(when, 21);
	printf("%10s  ", ctl_bytes((uint64_t)st->st_size, size));
	ctl_print_column(said.path, width);
	(void)ctl_print_name(stdout, name);
	putchar('\n');
}

static int print_list(struct jsonl_report *list, uint64_t files, uint64_t bytes)
{
	struct jsonl_report *o = jsonl_report_object();

	jsonl_report_add_uint(o, "files", files);
	jsonl_report_add_uint(o, "bytes", bytes);
	jsonl_report_add(o, "archive", list);
	return ctl_print_report(o);
}

static int list_names(const struct archive_request *r, int dir, const struct ctl_names *names)
{
	struct jsonl_report *list = r->json ? jsonl_report_array() : NULL;
	char number[CTL_NUMBER], size[CTL_NUMBER];
	uint64_t files = 0, bytes = 0;
	size_t width = 32;

	for (size_t i = 0; i < names->count; i++) {
		struct jsonl_archived said;

		jsonl_archived_parse(names->list[i], &said);
		width = ctl_column_width(width, said.path);
	}
	if (!r->json && names->count)
		printf("%-21s%10s  %-*s%s\n", "TIME (UTC)", "SIZE", (int)width, "PATH", "NAME");
	for (size_t i = 0; i < names->count; i++) {
		struct stat st;

		if (fstatat(dir, names->list[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		files++;
		bytes += (uint64_t)st.st_size;
		tell(list, names->list[i], &st, width);
	}
	if (r->json)
		return print_list(list, files, bytes);
	printf("%s file%s, %s\n", ctl_number(files, number), files == 1 ? "" : "s",
	       ctl_bytes(bytes, size));
	return 0;
}

int archive_open(const struct archive_request *r, const struct ctl_vault *v,
			struct ctl_entries *e)
{
	cleanup_close int state = ctl_vault_state(v, r->state);

	*e = (struct ctl_entries){.dir = -1};
	return state < 0 ? state : ctl_entries_open(e, v, state, "archive");
}

static int list(const struct archive_request *r, const struct ctl_vault *v)
{
	struct ctl_names names = {0};
	struct ctl_entries e;
	int rc = archive_open(r, v, &e), code;

	if (rc == 0)
		rc = ctl_entries_read(&e, NULL, NULL, &names);
	code = rc < 0 ? ctl_entries_unreadable("archive", r->rest[0], rc)
		      : list_names(r, e.dir, &names);
	ctl_names_free(&names);
	ctl_entries_close(&e);
	return code;
}

/* ---- drop ---- */

static int drop(const struct archive_request *r, const struct ctl_vault *v)
{
	struct ctl_entries e;
	const struct ctl_drop d = {.part = "archive",
				   .path = r->rest[0],
				   .vault = v,
				   .entries = &e,
				   .selection = &r->selection,
				   .names = r->rest + 1,
				   .count = r->count - 1};
	int rc = archive_open(r, v, &e);
	int code =
	    rc < 0 ? ctl_entries_unreadable("archive", r->rest[0], rc) : ctl_drop(&d);

	ctl_entries_close(&e);
	return code;
}

/* ---- the command line ---- */

static const struct {
	const char *name;
	int (*run)(const struct archive_request *r, const struct ctl_vault *v);
	int least, most;
	const char *wants;
} actions[] = {
    {"list", list, 1, 1, "PATH"},
    {"restore", archive_restore, 2, 2, "PATH NAME"},
    {"drop", drop, 1, 1 << 30, "PATH NAME... (or --all, --older-than, --owner)"},
};

#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

static int parse(struct archive_request *r, int argc, char **argv)
{
	int i = 0, out = 1, code;

	while ((i = ctl_next_option(argc, argv, i + 1, &out)) < argc) {
		if (strcmp(argv[i], "--json") == 0)
			r->json = true;
		else if ((code = ctl_selection_take(&ctl_archive, &r->selection, argc,
						    argv, &i)) > 1)
			return code;
		else if (code == 0 &&
			 !ctl_take_value("--state", argc, argv, &i, &r->state) &&
			 !ctl_take_value("--as", argc, argv, &i, &r->as))
			return ctl_usage(&ctl_archive, "unknown option %s", argv[i]);
	}
	if (out < 2)
		return ctl_usage(&ctl_archive, "list, restore or drop is missing");
	if (out == 2)
		argv[out++] = (char *)"."; /* the last of argv is NULL */
	r->rest = argv + 2;
	r->count = out - 2;
	return 0;
}

static int run_action(const struct archive_request *r, size_t i)
{
	struct ctl_vault v;
	int rc, code;

	if (r->count < actions[i].least || r->count > actions[i].most)
		return ctl_usage(&ctl_archive, "%s wants %s", actions[i].name,
				 actions[i].wants);
	if (r->json && actions[i].run != list)
		return ctl_usage(&ctl_archive, "--json is for list");
	if (r->as && actions[i].run != archive_restore)
		return ctl_usage(&ctl_archive, "--as is for restore");
	if (actions[i].run == drop) {
		code = ctl_selection_check(&ctl_archive, &r->selection, r->count - 1);
		if (code)
			return code;
	} else if (ctl_selection_given(&r->selection)) {
		return ctl_usage(&ctl_archive,
				 "--all, --older-than and --owner are for drop");
	}
	rc = ctl_vault_find(r->rest[0], &v);
	if (rc < 0) {
		ctl_error("%s: %s", r->rest[0], ctl_explain(r->rest[0], rc));
		return CTL_FAILURE;
	}
	code = actions[i].run(r, &v);
	ctl_vault_free(&v);
	return code;
}

static int archive_run(int argc, char **argv)
{
	struct archive_request r = {0};
	int code = parse(&r, argc, argv);

	if (code)
		return code;
	for (size_t i = 0; i < ACTIONS; i++)
		if (strcmp(argv[1], actions[i].name) == 0)
			return run_action(&r, i);
	return ctl_usage(&ctl_archive, "%s is not list, restore or drop", argv[1]);
}

const struct ctl_command ctl_archive = {
    .name = "archive",
    .run = archive_run,
    .synopsis = "list|restore|drop [--json] [--as=PATH] [--all] [--older-than=AGE] "
		"[--owner=USER] [--state=DIR] PATH [NAME...]",
    .summary = "files that were removed, replaced or repaired, as they were",
    .help =
	"\n"
	"PATH is a vault, mounted or not, or any directory in it. In a mounted vault\n"
	"root and the owner of the mount list and drop all entries; others see those\n"
	"of their own files, and restore what they can read. An unmounted vault is\n"
	"for root.\n"
	"\n"
	"  list [--json] PATH  the files: when they came, how large, from where\n"
	"  restore PATH NAME   put a file back where it was, with its owner, mode and\n"
	"                      times, if nothing is there and all of its lines are\n"
	"                      records\n"
	"    --as=PATH         put it there instead\n"
	"  drop PATH NAME...   remove files from the archive, for good\n"
	"    --all             all of them, without a NAME\n"
	"    --older-than=AGE  those older than a number and s, m, h, d or w\n"
	"    --owner=USER      those that belong to this user\n"
	"\n"
	"  --state=DIR         the state directory, if it is not .jsonlfs in the vault\n"
	"\n"
	"Exit status: 0, 4 not all lines are records and nothing was restored, 8\n"
	"something could not be read or done, 16 wrong usage.",
};
