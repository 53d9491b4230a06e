/* SPDX-License-Identifier: MIT */
#include "ctl/check/page.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "ctl/ctl.h"

#define ROWS_MAX 500 /* of one table: more are counted */

/* Loads nothing from elsewhere, and follows the browser's light or dark mode. */
static const char STYLE[] =
    ":root{color-scheme:light dark}"
    "body{font:15px/1.45 system-ui,sans-serif;max-width:70rem;margin:2rem auto;"
    "padding:0 1rem}"
    "h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}"
    "p{margin:.3rem 0}small{opacity:.7}"
    ".tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:1rem 0}"
    ".tile{border:1px solid #8886;border-radius:.5rem;padding:.6rem .9rem;min-width:8rem}"
    ".tile b{display:block;font-size:1.3rem}"
    ".good b{color:#2a8a3e}.bad b{color:#c0392b}"
    ".scroll{overflow-x:auto}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884;"
    "vertical-align:top;overflow-wrap:anywhere}"
    "th.n,td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".bar{background:#8883;border-radius:.3rem;height:.6rem;max-width:24rem}"
    ".bar i{display:block;height:100%;border-radius:.3rem;background:#3b7dd8}"
    ".bar.full i{background:#c0392b}";

/* ---- pieces ---- */

static void escape(const char *text)
{
	cleanup_free char *safe = ctl_safe_text(text ? text : "?");

	for (const char *c = safe ? safe : "?"; *c; c++) {
		switch (*c) {
		case '<':
			(void)fputs("&lt;", stdout);
			break;
		case '>':
			(void)fputs("&gt;", stdout);
			break;
		case '&':
			(void)fputs("&amp;", stdout);
			break;
		case '"':
			(void)fputs("&quot;", stdout);
			break;
		default:
			putchar(*c);
		}
	}
}

static void cell(const char *text)
{
	(void)fputs("<td>", stdout);
	escape(text);
	(void)fputs("</td>", stdout);
}

static void number_cell(uint64_t n)
{
	char number[CTL_NUMBER];

	printf("<td class=n>%s</td>", ctl_number(n, number));
}

static void bytes_cell(uint64_t n)
{
	char bytes[CTL_NUMBER];

	printf("<td class=n>%s</td>", ctl_bytes(n, bytes));
}

static void tile(const char *kind, const char *value, const char *label)
{
	printf("<div class=\"tile %s\"><b>%s</b>%s</div>\n", kind, value, label);
}

static void count_tile(uint64_t n, const char *label, bool should_be_none)
{
	char number[CTL_NUMBER];

	tile(!should_be_none ? "" : n ? "bad" : "good", ctl_number(n, number), label);
}

/* Begins a table. `n` has a letter per column: n for numbers, which are aligned right, -
 * for text. */
static void table_begin(const char *const *heads, const char *n)
{
	(void)fputs("<div class=scroll><table>\n<tr>", stdout);
	for (; *heads; heads++, n++)
		printf("<th%s>%s</th>", *n == 'n' ? " class=n" : "", *heads);
	puts("</tr>");
}

static void table_end(size_t rows)
{
	char number[CTL_NUMBER];

	puts("</table></div>");
	if (rows > ROWS_MAX)
		printf("<p><small>and %s more</small></p>\n",
		       ctl_number(rows - ROWS_MAX, number));
}

/* Converts 2026-11-20T10:11:12... to seconds since 1970; 0: it is not a time. */
static time_t seconds_of(const char *text)
{
	struct tm tm = {0};

	return text && strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) ? timegm(&tm) : 0;
}

/* ---- the head ---- */

static void print_tiles(const struct ctl_page *p)
{
	const struct jsonl_report *totals = jsonl_report_get(p->status, "totals");
	char bytes[CTL_NUMBER];
	bool clean = jsonl_report_get_bool(p->check, "clean");

	puts("<div class=tiles>");
	tile(clean ? "good" : "bad", clean ? "clean" : "DAMAGED", "every line was read");
	count_tile(jsonl_report_get_uint(p->check, "files"), "files", false);
	count_tile(jsonl_report_get_uint(p->check, "records"), "records", false);
	tile("", ctl_bytes(jsonl_report_get_uint(p->check, "bytes"), bytes), "in logs");
	if (p->status) {
		count_tile(jsonl_report_get_uint(totals, "refused"),
			   "lines refused since the mount began", false);
		count_tile(jsonl_report_get_uint(totals, "lost"),
			   "fragments lost since the mount began", true);
		count_tile(jsonl_report_get_uint(totals, "sync_failures"),
			   "syncs failed since the mount began", true);
	} else {
		tile("bad", "not mounted", "nothing watches over the logs");
	}
	puts("</div>");
}

static void print_head(const struct ctl_page *p)
{
	const char *when = jsonl_report_get_string(p->check, "time");
	const char *before = jsonl_report_get_string(p->earlier, "time");

	puts("<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
	     "<meta name=viewport content=\"width=device-width,initial-scale=1\">");
	(void)fputs("<title>JSON Lines in ", stdout);
	escape(p->path);
	printf("</title>\n<style>%s</style>\n</head>\n<body>\n<h1>JSON Lines in ", STYLE);
	escape(p->path);
	(void)fputs("</h1>\n<p>", stdout);
	escape(when);
	if (before) {
		(void)fputs("; what came a day is counted since ", stdout);
		escape(before);
	}
	puts("</p>");
	print_tiles(p);
}

/* ---- files ---- */

static int by_file(const void *a, const void *b)
{
	const char *x =
	    jsonl_report_get_string(*(const struct jsonl_report *const *)a, "file");
	const char *y =
	    jsonl_report_get_string(*(const struct jsonl_report *const *)b, "file");

	return strcmp(x ? x : "", y ? y : "");
}

/* Sorts the members of a list by their files; to be freed. */
static const struct jsonl_report **sorted(const struct jsonl_report *list, size_t *count)
{
	size_t n = jsonl_report_length(list);
	const struct jsonl_report **all =
	    calloc(n ? n : 1, sizeof(const struct jsonl_report *));

	*count = all ? n : 0;
	for (size_t i = 0; i < *count; i++)
		all[i] = jsonl_report_at(list, i);
	if (*count)
		/* Pointers are sorted. NOLINTNEXTLINE(bugprone-sizeof-expression) */
		qsort(all, *count, sizeof(*all), by_file);
	return all;
}

/* Prints the growth per day between two counts; after a rotation the count began at
 * 0. */
static void rate_cell(uint64_t now, uint64_t before, double days, bool bytes)
{
	uint64_t came = now >= before ? now - before : now;

	if (days <= 0)
		(void)fputs("<td class=n>-</td>", stdout);
	else if (bytes)
		bytes_cell((uint64_t)((double)came / days + 0.5));
	else
		number_cell((uint64_t)((double)came / days + 0.5));
}

static void print_file(const struct jsonl_report *f, const struct jsonl_report *before,
		       double days)
{
	uint64_t records = jsonl_report_get_uint(f, "records");
	uint64_t bytes = jsonl_report_get_uint(f, "bytes");

	(void)fputs("<tr>", stdout);
	cell(jsonl_report_get_string(f, "file"));
	number_cell(records);
	bytes_cell(bytes);
	rate_cell(records, jsonl_report_get_uint(before, "records"), days, false);
	rate_cell(bytes, jsonl_report_get_uint(before, "bytes"), days, true);
	number_cell(jsonl_report_get_uint(f, "damage"));
	puts("</tr>");
}

static void print_files(const struct ctl_page *p)
{
	static const char *const heads[] = {"File",	   "Records",	  "Bytes",
					    "Records a day", "Bytes a day", "Findings",
					    NULL};
	const struct jsonl_report *list = jsonl_report_get(p->check, "by_file");
	time_t now = seconds_of(jsonl_report_get_string(p->check, "time"));
	time_t then = seconds_of(jsonl_report_get_string(p->earlier, "time"));
	double days = then && now > then ? (double)(now - then) / 86400 : 0;
	size_t n, count = jsonl_report_length(list);
	const struct jsonl_report **before =
	    sorted(jsonl_report_get(p->earlier, "files"), &n);

	puts("<h2>Files</h2>");
	table_begin(heads, "-nnnnn");
	for (size_t i = 0; i < count && i < ROWS_MAX; i++) {
		const struct jsonl_report *f = jsonl_report_at(list, i), **old;

		/* NOLINTNEXTLINE(bugprone-sizeof-expression) */
		old = n ? bsearch(&f, before, n, sizeof(*before), by_file) : NULL;
		print_file(f, old ? *old : NULL, days);
	}
	table_end(count);
	free(before);
}

/* ---- findings ---- */

static void print_findings(const struct ctl_page *p)
{
	static const char *const heads[] = {"File", "Line", "Byte", "What", NULL};
	const struct jsonl_report *list = jsonl_report_get(p->check, "findings");
	const struct jsonl_report *errors = jsonl_report_get(p->check, "errors");
	size_t count = jsonl_report_length(list);

	puts("<h2>Findings</h2>");
	if (!count && !jsonl_report_length(errors))
		puts("<p>None: every line is a record.</p>");
	for (size_t i = 0; i < jsonl_report_length(errors); i++) {
		const struct jsonl_report *e = jsonl_report_at(errors, i);

		(void)fputs("<p>", stdout);
		escape(jsonl_report_get_string(e, "file"));
		(void)fputs(": ", stdout);
		escape(jsonl_report_get_string(e, "error"));
		puts("</p>");
	}
	if (!count)
		return;
	table_begin(heads, "-nn-");
	for (size_t i = 0; i < count && i < ROWS_MAX; i++) {
		const struct jsonl_report *f = jsonl_report_at(list, i);

		(void)fputs("<tr>", stdout);
		cell(jsonl_report_get_string(f, "file"));
		number_cell(jsonl_report_get_uint(f, "line"));
		number_cell(jsonl_report_get_uint(f, "offset"));
		(void)fputs("<td>", stdout);
		if (jsonl_report_get_bool(f, "note"))
			(void)fputs("note: ", stdout);
		escape(jsonl_report_get_string(f, "kind"));
		(void)fputs(": ", stdout);
		escape(jsonl_report_get_string(f, "text"));
		puts("</td></tr>");
	}
	table_end(count + jsonl_report_get_uint(p->check, "findings_omitted"));
}

/* ---- programs ---- */

static void print_programs(const struct ctl_page *p)
{
	static const char *const heads[] = {
	    "Program", "File", "Records", "Refused", "Unsafe without the mount", NULL};
	const struct jsonl_report *list = jsonl_report_get(p->check, "programs");
	size_t count = jsonl_report_length(list);

	puts("<h2>Programs against the contract</h2>");
	if (!p->status) {
		puts("<p>Only a mount knows them.</p>");
		return;
	}
	if (!count) {
		puts("<p>None: each program that has written would be safe without the "
		     "mount.</p>");
		return;
	}
	table_begin(heads, "--nn-");
	for (size_t i = 0; i < count && i < ROWS_MAX; i++) {
		const struct jsonl_report *w = jsonl_report_at(list, i);
		const struct jsonl_report *habits = jsonl_report_get(w, "habits");

		(void)fputs("<tr>", stdout);
		cell(jsonl_report_get_string(w, "program"));
		cell(jsonl_report_get_string(w, "path"));
		number_cell(jsonl_report_get_uint(w, "records"));
		number_cell(jsonl_report_get_uint(w, "refused"));
		(void)fputs("<td>", stdout);
		for (size_t k = 0; k < jsonl_report_length(habits); k++) {
			(void)fputs(k ? ", " : "", stdout);
			escape(jsonl_report_get_string(jsonl_report_at(habits, k), NULL));
		}
		puts("</td></tr>");
	}
	table_end(count);
}

/* ---- quarantine and archive ---- */

static void print_bound(const struct jsonl_report *store)
{
	uint64_t bytes = jsonl_report_get_uint(store, "bytes");
	uint64_t max = jsonl_report_get_uint(store, "max");
	unsigned percent = max ? (unsigned)(100.0 * (double)bytes / (double)max) : 0;
	char is[CTL_NUMBER], may[CTL_NUMBER];

	if (!max)
		return;
	printf("<p>%s of %s</p>\n<div class=\"bar%s\"><i style=\"width:%u%%\"></i></div>\n",
	       ctl_bytes(bytes, is), ctl_bytes(max, may), percent >= 80 ? " full" : "",
	       percent < 100 ? percent : 100);
}

static void print_ages(const struct jsonl_report *list, time_t now)
{
	static const struct {
		const char *name;
		time_t upto; /* seconds */
	} ages[] = {{"up to a day", 86400},
		    {"up to a week", 7L * 86400},
		    {"up to 30 days", 30L * 86400},
		    {"older", 0}};
	static const char *const heads[] = {"Age", "Entries", "Bytes", NULL};
	const size_t kinds = sizeof(ages) / sizeof(ages[0]);
	uint64_t entries[sizeof(ages) / sizeof(ages[0])] = {0};
	uint64_t bytes[sizeof(ages) / sizeof(ages[0])] = {0};

	for (size_t i = 0; i < jsonl_report_length(list); i++) {
		const struct jsonl_report *e = jsonl_report_at(list, i);
		time_t age = now - seconds_of(jsonl_report_get_string(e, "time"));
		size_t k = 0;

		while (k + 1 < kinds && age > ages[k].upto)
			k++;
		entries[k]++;
		bytes[k] += jsonl_report_get_uint(e, "bytes");
	}
	table_begin(heads, "-nn");
	for (size_t k = 0; k < kinds; k++) {
		printf("<tr><td>%s</td>", ages[k].name);
		number_cell(entries[k]);
		bytes_cell(bytes[k]);
		puts("</tr>");
	}
	table_end(0);
}

static void print_store(const struct ctl_page *p, const char *title, const char *key,
			const struct jsonl_report *said)
{
	const struct jsonl_report *list = jsonl_report_get(said, key);

	printf("<h2>%s</h2>\n", title);
	if (!said) {
		puts("<p>There is none here, or it could not be read.</p>");
		return;
	}
	print_bound(jsonl_report_get(p->status, key));
	print_ages(list, seconds_of(jsonl_report_get_string(p->check, "time")));
}

/* ---- for the next page ---- */

static void print_data(const struct ctl_page *p)
{
	const struct jsonl_report *list = jsonl_report_get(p->check, "by_file");
	struct jsonl_report *data = jsonl_report_object(), *files = jsonl_report_array();
	const char *when = jsonl_report_get_string(p->check, "time");
	cleanup_free char *text = NULL;

	for (size_t i = 0; i < jsonl_report_length(list); i++) {
		const struct jsonl_report *f = jsonl_report_at(list, i);
		const char *name = jsonl_report_get_string(f, "file");
		struct jsonl_report *o = jsonl_report_object();

		jsonl_report_add_string(o, "file", name ? name : "");
		jsonl_report_add_uint(o, "records", jsonl_report_get_uint(f, "records"));
		jsonl_report_add_uint(o, "bytes", jsonl_report_get_uint(f, "bytes"));
		jsonl_report_add(files, NULL, o);
	}
	jsonl_report_add_string(data, "time", when ? when : "");
	jsonl_report_add(data, "files", files);
	text = jsonl_report_text(data, false);
	jsonl_report_free(data);
	(void)fputs(CTL_PAGE_DATA, stdout);
	/* A name must not end the script element. */
	for (const char *c = text ? text : "{}"; *c; c++)
		(void)fputs(*c == '<' ? "\\u003c" : (char[]){*c, '\0'}, stdout);
	puts("</script>");
}

void ctl_page_print(const struct ctl_page *page)
{
	print_head(page);
	print_findings(page);
	print_files(page);
	print_programs(page);
	print_store(page, "Quarantine", "quarantine", page->quarantine);
	print_store(page, "Archive", "archive", page->archive);
	print_data(page);
	puts("</body>\n</html>");
}
