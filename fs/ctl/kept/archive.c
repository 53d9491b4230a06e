/* SPDX-License-Identifier: MIT */
/* jsonlfsctl archive: what unlink, rewrites and repair have kept. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/archived.h"
#include "base/cleanup.h"
#include "ctl/ask/control.h"
#include "ctl/ctl.h"
#include "ctl/find/names.h"
#include "ctl/find/vault.h"
#include "ctl/kept/archive.h"
#include "ctl/kept/selection.h"

/* 20261120T101112.123456789Z-... as 2026-11-20T10:11:12.123456789Z. */
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

bool archive_is_name(const char *name)
{
	return name[0] && name[0] != '.' && !strchr(name, '/');
}

static int wanted(void *ctx, const char *name)
{
	return name[0] != '.';
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

int archive_unreadable(const struct archive_request *r, int rc)
{
	if (rc == -ENOENT || rc == -ENOTDIR)
		ctl_error(
		    "%s: no state directory with an archive here: this vault has nothing "
		    "in it, or it is no vault: name the vault, mounted or not, or the "
		    "directory that state= names with --state",
		    r->rest[0]);
	else if (rc == -EACCES || rc == -EPERM)
		ctl_error("%s: while the vault is not mounted its archive is for root: "
			  "mount it, or try as root",
			  r->rest[0]);
	else
		ctl_error("%s: %s", r->rest[0], ctl_explain(r->rest[0], rc));
	return CTL_FAILURE;
}

static int list(const struct archive_request *r, const struct ctl_vault *v)
{
	struct ctl_names names = {0};
	struct ctl_entries e;
	int rc = archive_open(r, v, &e), code;

	if (rc == 0)
		rc = ctl_entries_read(&e, wanted, NULL, &names);
	code = rc < 0 ? archive_unreadable(r, rc) : list_names(r, e.dir, &names);
	ctl_names_free(&names);
	ctl_entries_close(&e);
	return code;
}

/* ---- drop ---- */

static int drop_names(const struct archive_request *r, int dir, char *const *names, int count)
{
	int code = 0;

	for (int i = 0; i < count; i++) {
		const char *name = names[i];
		bool good = archive_is_name(name);

		if (good && unlinkat(dir, name, 0) == 0)
			continue;
		ctl_error("%s: %s: jsonlfsctl archive list tells the names", name,
			  good ? jsonl_error_text(-errno) : "no name of an entry");
		code = CTL_FAILURE;
	}
	if (fsync(dir) < 0) {
		ctl_error("%s: %s", r->rest[0], jsonl_error_text(-errno));
		code = CTL_FAILURE;
	}
	return code;
}

static int drop_these(const struct archive_request *r, const struct ctl_vault *v, int dir,
		      char *const *names, int count)
{
	int code = ctl_control_drop(v, "archive-drop", r->rest[0], names, count);
	const struct ctl_mount *mount;

	if (code != -ENOENT)
		return code;
	if (ctl_vault_has_mount(v, dir, &mount)) {
		ctl_vault_refuse("archive drop", r->rest[0], mount);
		return CTL_FAILURE;
	}
	return drop_names(r, dir, names, count);
}

static int drop_selected(const struct archive_request *r, const struct ctl_vault *v,
			 const struct ctl_entries *e)
{
	struct ctl_names names = {0};
	char number[CTL_NUMBER];
	int rc = ctl_selection_read(&r->selection, e, &names);
	int code = rc < 0	 ? archive_unreadable(r, rc)
		   : names.count ? drop_these(r, v, e->dir, names.list, (int)names.count)
				 : 0;

	if (code == 0)
		printf("%s %s removed\n", ctl_number(names.count, number),
		       names.count == 1 ? "entry was" : "entries were");
	ctl_names_free(&names);
	return code;
}

static int drop(const struct archive_request *r, const struct ctl_vault *v)
{
	struct ctl_entries e;
	int rc = archive_open(r, v, &e), code;

	if (rc < 0)
		code = archive_unreadable(r, rc);
	else if (r->count > 1)
		code = drop_these(r, v, e.dir, r->rest + 1, r->count - 1);
	else
		code = drop_selected(r, v, &e);
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
	bool options = true;
	int out = 1, code;

	for (int i = 1; i < argc; i++) {
		if (!options || argv[i][0] != '-')
			argv[out++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			options = false;
		else if (strcmp(argv[i], "--json") == 0)
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
	"PATH is a vault, mounted or not, or any directory in it. Root, and the owner of "
	"a\n"
	"mounted vault, list and drop all entries; others see those of their own files, "
	"and\n"
	"restore what they can read. Not mounted it is for root.\n"
	"\n"
	"  list [--json] PATH  the files: when they came, how large, from where\n"
	"  restore PATH NAME   put a file back where it was, with its owner, mode and "
	"times,\n"
	"                      if nothing is there and all of its lines are records\n"
	"    --as=PATH         put it there instead\n"
	"  drop PATH NAME...   remove files from the archive, for good\n"
	"    --all             all of them, without a NAME\n"
	"    --older-than=AGE  those that came so long ago: a number and s, m, h, d or "
	"w\n"
	"    --owner=USER      those that belong to this user\n"
	"\n"
	"  --state=DIR         the state directory, if it is not .jsonlfs in the vault\n"
	"\n"
	"Exit status: 0, 4 not all lines are records and nothing was restored, 8 "
	"something\n"
	"could not be read or done, 16 wrong usage.",
};
