/* SPDX-License-Identifier: MIT */
#include "ctl/repair/repair_report.h"

#include <stdlib.h>

#define FILE_SHOWN 20	  /* changes of a file that are printed without --all */
#define JSON_MAX   100000 /* changes listed in the JSON document */

struct repair_report {
	bool json, all, apply;
	const char *shown;
	struct jsonl_report *files, *changes, *errors; /* of the document */
	uint64_t told, omitted;			       /* changes of this file, of all */
	uint64_t listed;
	uint64_t looked_at, damaged, repaired, failed, left;
	struct jsonl_repair_counts sum;
};

struct repair_report *repair_report_new(bool json, bool all, bool apply)
{
	struct repair_report *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->json = json;
	r->all = all;
	r->apply = apply;
	r->files = jsonl_report_array();
	r->changes = jsonl_report_array();
	r->errors = jsonl_report_array();
	return r;
}

void repair_report_free(struct repair_report *r)
{
	if (!r)
		return;
	jsonl_report_free(r->files);
	jsonl_report_free(r->changes);
	jsonl_report_free(r->errors);
	free(r);
}

void repair_report_begin(struct repair_report *r, const char *shown)
{
	r->shown = shown;
	r->told = 0;
}

static void list_change(struct repair_report *r, const struct jsonl_repair_change *c)
{
	struct jsonl_report *o;

	if (r->listed++ >= JSON_MAX) {
		r->omitted++;
		return;
	}
	o = jsonl_report_object();
	jsonl_report_add_string(o, "file", r->shown);
	jsonl_report_add_uint(o, "line", c->line);
	jsonl_report_add_uint(o, "offset", c->offset);
	jsonl_report_add_uint(o, "length", c->length);
	jsonl_report_add_string(o, "change", jsonl_repair_name(c->kind));
	if (c->kind == JSONL_REPAIR_SET_ASIDE) {
		jsonl_report_add_string(o, "reason", jsonl_error_name(c->verdict));
		jsonl_report_add_string(o, "text", jsonl_error_text(c->verdict));
	}
	if (c->kind == JSONL_REPAIR_SPLIT)
		jsonl_report_add_uint(o, "records", c->parts);
	jsonl_report_add(r->changes, NULL, o);
}

void repair_report_change(struct repair_report *r, const struct jsonl_repair_change *c)
{
	if (r->json) {
		list_change(r, c);
		return;
	}
	if (r->told++ >= FILE_SHOWN && !r->all)
		return;
	(void)ctl_print_name(stdout, r->shown);
	printf(":%llu: byte %llu: %s: ", (unsigned long long)c->line,
	       (unsigned long long)c->offset, jsonl_repair_name(c->kind));
	if (c->kind == JSONL_REPAIR_SET_ASIDE)
		printf("%s (%llu bytes)\n", jsonl_error_text(c->verdict),
		       (unsigned long long)c->length);
	else if (c->kind == JSONL_REPAIR_SPLIT)
		printf("into %llu records\n", (unsigned long long)c->parts);
	else if (c->kind == JSONL_REPAIR_NULS)
		printf("%llu bytes\n", (unsigned long long)c->length);
	else if (c->kind == JSONL_REPAIR_BOM)
		puts("before the first record");
	else
		puts("the last record had none");
}

static void add_counts(struct jsonl_report *o, const struct jsonl_repair_counts *c)
{
	jsonl_report_add_uint(o, "bytes_before", c->bytes);
	jsonl_report_add_uint(o, "bytes_after", c->kept);
	jsonl_report_add_uint(o, "records", c->records);
	jsonl_report_add_uint(o, "lines_set_aside", c->changes[JSONL_REPAIR_SET_ASIDE]);
	jsonl_report_add_uint(o, "bytes_set_aside", c->set_aside_bytes);
	jsonl_report_add_uint(o, "lines_split", c->changes[JSONL_REPAIR_SPLIT]);
	jsonl_report_add_uint(o, "records_split", c->split_records);
	jsonl_report_add_uint(o, "nul_runs", c->changes[JSONL_REPAIR_NULS]);
	jsonl_report_add_uint(o, "nul_bytes", c->nul_bytes);
	jsonl_report_add_uint(o, "newlines_added", c->changes[JSONL_REPAIR_NEWLINE]);
	jsonl_report_add_uint(o, "marks_removed", c->changes[JSONL_REPAIR_BOM]);
}

static void add_up(struct jsonl_repair_counts *sum, const struct jsonl_repair_counts *c)
{
	sum->bytes += c->bytes;
	sum->kept += c->kept;
	sum->records += c->records;
	sum->set_aside_bytes += c->set_aside_bytes;
	sum->split_records += c->split_records;
	sum->nul_bytes += c->nul_bytes;
	for (int i = 0; i < JSONL_REPAIR_COUNT; i++)
		sum->changes[i] += c->changes[i];
}

static void print_end(const struct repair_report *r,
		      const struct jsonl_repair_counts *counts, bool done,
		      const char *kept, const char *bad)
{
	char bytes[CTL_NUMBER], before[CTL_NUMBER];

	if (r->told > FILE_SHOWN && !r->all)
		printf("  and %llu more changes (--all tells them)\n",
		       (unsigned long long)(r->told - FILE_SHOWN));
	(void)ctl_print_name(stdout, r->shown);
	printf(": %s: %s bytes %s %s, ", done ? "repaired" : "would be repaired",
	       ctl_number(counts->bytes, before), done ? "became" : "would become",
	       ctl_number(counts->kept, bytes));
	printf("%s record%s\n", ctl_number(counts->records, bytes),
	       counts->records == 1 ? "" : "s");
	if (!done)
		return;
	printf("  the original is ");
	(void)ctl_print_name(stdout, kept);
	if (counts->changes[JSONL_REPAIR_SET_ASIDE]) {
		printf("\n  what was set aside is in ");
		(void)ctl_print_name(stdout, bad[0] ? bad : "the quarantine");
	}
	putchar('\n');
}

void repair_report_end(struct repair_report *r, const struct jsonl_repair_counts *counts,
		       bool done, const char *kept, const char *bad)
{
	struct jsonl_report *o;

	r->looked_at++;
	add_up(&r->sum, counts);
	if (!jsonl_repair_is_needed(counts))
		return;
	r->damaged++;
	r->repaired += done;
	r->left += !done;
	if (!r->json) {
		print_end(r, counts, done, kept, bad);
		return;
	}
	o = jsonl_report_object();
	jsonl_report_add_string(o, "file", r->shown);
	jsonl_report_add_bool(o, "repaired", done);
	if (done)
		jsonl_report_add_string(o, "original", kept);
	if (done && bad[0])
		jsonl_report_add_string(o, "set_aside", bad);
	add_counts(o, counts);
	jsonl_report_add(r->files, NULL, o);
}

void repair_report_error(struct repair_report *r, const char *shown, const char *text,
			 bool left)
{
	struct jsonl_report *o;

	r->failed++;
	r->looked_at += left;
	r->left += left;
	r->damaged += left;
	ctl_error("%s: %s", shown, text);
	o = jsonl_report_object();
	jsonl_report_add_string(o, "file", shown);
	jsonl_report_add_string(o, "text", text);
	jsonl_report_add(r->errors, NULL, o);
}

static int print_document(struct repair_report *r)
{
	struct jsonl_report *o = jsonl_report_object();

	jsonl_report_add_string(o, "version", JSONLFS_VERSION);
	jsonl_report_add_bool(o, "apply", r->apply);
	jsonl_report_add_uint(o, "files", r->looked_at);
	jsonl_report_add_uint(o, "files_damaged", r->damaged);
	jsonl_report_add_uint(o, "files_repaired", r->repaired);
	add_counts(o, &r->sum);
	jsonl_report_add(o, "damaged", r->files);
	jsonl_report_add(o, "changes", r->changes);
	jsonl_report_add_uint(o, "changes_omitted", r->omitted);
	jsonl_report_add(o, "errors", r->errors);
	r->files = r->changes = r->errors = NULL;
	return ctl_print_report(o);
}

static void print_sum(const struct repair_report *r)
{
	char files[CTL_NUMBER], damaged[CTL_NUMBER], repaired[CTL_NUMBER];

	printf("%s file%s looked at, %s damaged, %s repaired\n",
	       ctl_number(r->looked_at, files), r->looked_at == 1 ? "" : "s",
	       ctl_number(r->damaged, damaged), ctl_number(r->repaired, repaired));
	if (r->damaged && !r->apply)
		puts("nothing was changed: --apply does it");
}

int repair_report_finish(struct repair_report *r)
{
	int code = 0;

	if (r->json)
		code = print_document(r);
	else
		print_sum(r);
	return code | (r->repaired ? CTL_REPAIRED : 0) | (r->left ? CTL_DAMAGE : 0) |
	       (r->failed ? CTL_FAILURE : 0);
}
