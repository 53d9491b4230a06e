/* SPDX-License-Identifier: MIT */
#include "ctl/check/check_report.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "ctl/check/check_progress.h"

#define TOLD_PER_FILE  20     /* findings of a file that are printed without --all */
#define JSON_FINDINGS  100000 /* of a whole report */
#define JSON_LINKS     10000  /* the same */
#define JSON_FILES     100000 /* the same */

struct check_report {
	bool json, all;
	struct jsonl_check_counts sum;
	uint64_t files, damaged, errors;
	/* The file that is being read: */
	const char *shown;
	unsigned told, untold;
	/* JSON: */
	struct jsonl_report *findings, *failures, *mounts, *programs, *links, *by_file;
	uint64_t listed, omitted, links_out;
	struct check_progress progress;
};

struct check_report *check_report_new(bool json, bool all)
{
	struct check_report *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->json = json;
	r->all = all;
	r->findings = jsonl_report_array();
	r->failures = jsonl_report_array();
	r->mounts = jsonl_report_array();
	r->programs = jsonl_report_array();
	r->links = jsonl_report_array();
	r->by_file = jsonl_report_array();
	check_progress_begin(&r->progress);
	return r;
}

void check_report_free(struct check_report *r)
{
	jsonl_report_free(r->findings);
	jsonl_report_free(r->failures);
	jsonl_report_free(r->mounts);
	jsonl_report_free(r->programs);
	jsonl_report_free(r->links);
	jsonl_report_free(r->by_file);
	free(r);
}

/* ---- progress ---- */

bool check_report_wants_total(const struct check_report *r)
{
	return r->progress.terminal;
}

void check_report_expect(struct check_report *r, uint64_t bytes)
{
	r->progress.expected += bytes;
}

void check_report_progress(struct check_report *r, uint64_t bytes)
{
	check_progress_add(&r->progress, bytes, r->shown);
}

/* ---- mounted vaults ---- */

/* Lists a program that relies on the mount, as its habits in writers.json say. */
static void list_program(struct check_report *r, const char *mountpoint,
			 const struct jsonl_report *writer)
{
	static const char *const texts[] = {"program", "path", "first", "last"};
	static const char *const numbers[] = {"records", "bytes", "oversize", "refused"};
	const struct jsonl_report *habits = jsonl_report_get(writer, "habits");
	struct jsonl_report *item, *list;

	if (!jsonl_report_length(habits))
		return;
	item = jsonl_report_object();
	list = jsonl_report_array();
	jsonl_report_add_string(item, "mountpoint", mountpoint);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		const char *text = jsonl_report_get_string(writer, texts[i]);

		if (text)
			jsonl_report_add_string(item, texts[i], text);
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		jsonl_report_add_uint(item, numbers[i],
				      jsonl_report_get_uint(writer, numbers[i]));
	for (size_t i = 0; i < jsonl_report_length(habits); i++)
		jsonl_report_add_string(
		    list, NULL,
		    jsonl_report_get_string(jsonl_report_at(habits, i), NULL));
	jsonl_report_add(item, "habits", list);
	jsonl_report_add(r->programs, NULL, item);
}

static void list_programs(struct check_report *r, const struct ctl_vault *v,
			  const char *mountpoint)
{
	struct jsonl_report *report;
	const struct jsonl_report *writers;
	int error;
	cleanup_free char *text = ctl_vault_read(v, "writers.json", &error);

	if (!text) {
		check_report_error(r, mountpoint, error);
		return;
	}
	report = jsonl_report_parse(text);
	writers = jsonl_report_get(report, "writers");
	for (size_t i = 0; i < jsonl_report_length(writers); i++)
		list_program(r, mountpoint, jsonl_report_at(writers, i));
	jsonl_report_free(report);
}

/* Returns true when this mount was reported already, for another path. */
static bool is_listed(const struct check_report *r, const char *mountpoint)
{
	for (size_t i = 0; i < jsonl_report_length(r->mounts); i++) {
		const char *other =
		    jsonl_report_get_string(jsonl_report_at(r->mounts, i), "mountpoint");

		if (other && strcmp(other, mountpoint) == 0)
			return true;
	}
	return false;
}

/* Notes that a vault is mounted: a mount shows whole records only, and so hides half a
 * record at the end of a file. */
void check_report_vault(struct check_report *r, const struct ctl_vault *v)
{
	const char *source = jsonl_report_get_string(v->status, "source");
	const char *mountpoint = jsonl_report_get_string(v->status, "mountpoint");
	struct jsonl_report *mount;
	bool apart;

	if (!v->status || !source || !mountpoint || is_listed(r, mountpoint))
		return;
	apart = strcmp(source, mountpoint) != 0 && access(source, R_OK | X_OK) == 0;
	mount = jsonl_report_object();
	jsonl_report_add_string(mount, "mountpoint", mountpoint);
	jsonl_report_add_string(mount, "source", source);
	jsonl_report_add_bool(mount, "source_reachable", apart);
	jsonl_report_add(r->mounts, NULL, mount);
	if (r->json) {
		list_programs(r, v, mountpoint);
		return;
	}
	check_progress_erase(&r->progress);
	(void)fputs("note: ", stderr);
	(void)ctl_print_name(stderr, mountpoint);
	(void)fputs(" is mounted, and the mount hides torn tails", stderr);
	if (apart) {
		(void)fputs(" until they are repaired; to see them: jsonlfsctl check ",
			    stderr);
		(void)ctl_print_name(stderr, source);
	} else {
		(void)fputs(" until they are repaired", stderr);
	}
	(void)fputc('\n', stderr);
}

/* ---- findings ---- */

void check_report_begin(struct check_report *r, const char *shown)
{
	r->files++;
	r->shown = shown;
	r->told = r->untold = 0;
}

static void list_finding(struct check_report *r, const struct jsonl_finding *f)
{
	struct jsonl_report *item;

	if (r->listed >= JSON_FINDINGS) {
		r->omitted++;
		return;
	}
	r->listed++;
	item = jsonl_report_object();
	jsonl_report_add_string(item, "file", r->shown);
	jsonl_report_add_uint(item, "line", f->line);
	jsonl_report_add_uint(item, "offset", f->offset);
	jsonl_report_add_uint(item, "length", f->length);
	jsonl_report_add_string(item, "kind", jsonl_finding_name(f->kind));
	jsonl_report_add_bool(item, "note", jsonl_finding_is_note(f->kind));
	jsonl_report_add_string(item, "reason", jsonl_error_name(f->verdict));
	jsonl_report_add_string(item, "text",
				f->verdict ? jsonl_error_text(f->verdict)
					   : jsonl_finding_text(f->kind));
	jsonl_report_add(r->findings, NULL, item);
}

static void print_finding(struct check_report *r, const struct jsonl_finding *f)
{
	const char *text = jsonl_finding_text(f->kind);

	if (!r->all && r->told >= TOLD_PER_FILE) {
		r->untold++;
		return;
	}
	r->told++;
	check_progress_erase(&r->progress);
	if (f->kind == JSONL_FINDING_INVALID || f->kind == JSONL_FINDING_VALUE)
		text = jsonl_error_text(f->verdict);
	(void)ctl_print_name(stdout, r->shown);
	printf(":%llu: byte %llu: %s%s: %s", (unsigned long long)f->line,
	       (unsigned long long)f->offset,
	       jsonl_finding_is_note(f->kind) ? "note: " : "",
	       jsonl_finding_name(f->kind), text);
	if (f->kind == JSONL_FINDING_NUL || f->kind == JSONL_FINDING_TOO_LONG ||
	    f->kind == JSONL_FINDING_OVERSIZE)
		printf(" (%llu bytes)", (unsigned long long)f->length);
	putchar('\n');
}

void check_report_finding(struct check_report *r, const struct jsonl_finding *f)
{
	if (r->json)
		list_finding(r, f);
	else
		print_finding(r, f);
}

void check_report_link(struct check_report *r, const char *shown, const char *target)
{
	struct jsonl_report *item;

	r->links_out++;
	if (!r->json) {
		check_progress_erase(&r->progress);
		(void)ctl_print_name(stdout, shown);
		printf(": note: a link that leads out of the vault, to ");
		(void)ctl_print_name(stdout, target);
		putchar('\n');
		return;
	}
	if (r->links_out > JSON_LINKS)
		return;
	item = jsonl_report_object();
	jsonl_report_add_string(item, "link", shown);
	jsonl_report_add_string(item, "target", target);
	jsonl_report_add(r->links, NULL, item);
}

static void list_file(struct check_report *r, const struct jsonl_check_counts *c)
{
	struct jsonl_report *item;

	if (!r->json || r->files > JSON_FILES)
		return;
	item = jsonl_report_object();
	jsonl_report_add_string(item, "file", r->shown);
	jsonl_report_add_uint(item, "records", c->records);
	jsonl_report_add_uint(item, "bytes", c->bytes);
	jsonl_report_add_uint(item, "damage", jsonl_check_damage(c));
	jsonl_report_add(r->by_file, NULL, item);
}

void check_report_end(struct check_report *r, const struct jsonl_check_counts *c)
{
	list_file(r, c);
	jsonl_check_add(&r->sum, c);
	r->damaged += jsonl_check_damage(c) > 0;
	if (r->untold) {
		check_progress_erase(&r->progress);
		(void)ctl_print_name(stdout, r->shown);
		printf(": %u more findings, which --all shows\n", r->untold);
	}
	r->shown = NULL;
}

void check_report_error(struct check_report *r, const char *shown, int code)
{
	struct jsonl_report *item = jsonl_report_object();

	r->errors++;
	jsonl_report_add_string(item, "file", shown);
	jsonl_report_add_string(item, "error", ctl_explain(shown, code));
	jsonl_report_add(r->failures, NULL, item);
	check_progress_erase(&r->progress);
	ctl_error("%s: %s%s", shown,
		  code == -EINVAL ? "neither a directory nor a regular file"
				  : ctl_explain(shown, code),
		  code == -EACCES ? " (try as root)" : "");
}

/* ---- the sum ---- */

static void add_kinds(struct jsonl_report *to, const struct jsonl_check_counts *s,
		      bool notes)
{
	struct jsonl_report *kinds = jsonl_report_object();

	for (int i = 0; i < JSONL_FINDING_COUNT; i++)
		if (jsonl_finding_is_note(i) == notes)
			jsonl_report_add_uint(kinds, jsonl_finding_name(i),
					      s->findings[i]);
	jsonl_report_add(to, notes ? "notes" : "damage", kinds);
}

/* Returns true when there is not even a note. */
static bool is_compliant(const struct check_report *r)
{
	for (int i = 0; i < JSONL_FINDING_COUNT; i++)
		if (r->sum.findings[i])
			return false;
	return !r->errors;
}

static struct jsonl_report *take(struct jsonl_report **r)
{
	return steal_ptr(r);
}

static int print_json(struct check_report *r, char *const *paths, int npaths)
{
	struct jsonl_report *out = jsonl_report_object(), *list = jsonl_report_array();
	char when[JSONL_STAMP];

	jsonl_stamp_text_now(0, when);
	for (int i = 0; i < npaths; i++)
		jsonl_report_add_string(list, NULL, paths[i]);
	jsonl_report_add_string(out, "tool", "jsonlfsctl check");
	jsonl_report_add_string(out, "version", JSONLFS_VERSION);
	jsonl_report_add_string(out, "time", when);
	jsonl_report_add(out, "paths", list);
	jsonl_report_add(out, "mounts", take(&r->mounts));
	jsonl_report_add_bool(out, "clean", !jsonl_check_damage(&r->sum) && !r->errors);
	jsonl_report_add_bool(out, "compliant", is_compliant(r));
	jsonl_report_add_uint(out, "files", r->files);
	jsonl_report_add_uint(out, "files_damaged", r->damaged);
	jsonl_report_add_uint(out, "lines", r->sum.lines);
	jsonl_report_add_uint(out, "records", r->sum.records);
	jsonl_report_add_uint(out, "bytes", r->sum.bytes);
	jsonl_report_add_uint(out, "blank", r->sum.blank);
	jsonl_report_add_uint(out, "oversize", r->sum.oversize);
	jsonl_report_add_uint(out, "largest", r->sum.largest);
	add_kinds(out, &r->sum, false);
	add_kinds(out, &r->sum, true);
	jsonl_report_add(out, "by_file", take(&r->by_file));
	jsonl_report_add(out, "findings", take(&r->findings));
	jsonl_report_add_uint(out, "findings_omitted", r->omitted);
	jsonl_report_add_uint(out, "links_out", r->links_out);
	jsonl_report_add(out, "links", take(&r->links));
	jsonl_report_add(out, "errors", take(&r->failures));
	jsonl_report_add(out, "programs", take(&r->programs));
	return ctl_print_report(out);
}

static void print_row(const char *name, uint64_t n)
{
	char number[CTL_NUMBER];

	printf("%-18s %15s\n", name, ctl_number(n, number));
}

static void print_table(const struct check_report *r)
{
	uint64_t damage = jsonl_check_damage(&r->sum);

	if (r->sum.lines && (damage || r->sum.blank || r->sum.oversize))
		putchar('\n');
	print_row("files", r->files);
	print_row("records", r->sum.records);
	print_row("bytes", r->sum.bytes);
	print_row("largest record", r->sum.largest);
	print_row("oversize records", r->sum.oversize);
	print_row("blank lines", r->sum.blank);
	if (r->links_out)
		print_row("links leading out", r->links_out);
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < JSONL_FINDING_COUNT; i++) {
			if (!r->sum.findings[i] || jsonl_finding_is_note(i) != pass ||
			    i == JSONL_FINDING_OVERSIZE || i == JSONL_FINDING_BLANK)
				continue;
			print_row(jsonl_finding_name(i), r->sum.findings[i]);
		}
	}
	if (damage)
		printf("\nDAMAGED: %llu finding%s in %llu file%s\n",
		       (unsigned long long)damage, damage == 1 ? "" : "s",
		       (unsigned long long)r->damaged, r->damaged == 1 ? "" : "s");
	else if (r->errors)
		puts("\nNo damage was found, but not everything could be read.");
	else
		puts("\nclean");
}

int check_report_finish(struct check_report *r, char *const *paths, int npaths)
{
	int code = CTL_OK;

	check_progress_erase(&r->progress);
	if (jsonl_check_damage(&r->sum))
		code |= CTL_DAMAGE;
	if (r->errors)
		code |= CTL_FAILURE;
	if (!r->json)
		print_table(r);
	else
		code |= print_json(r, paths, npaths);
	return code;
}
