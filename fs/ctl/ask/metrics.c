/* SPDX-License-Identifier: MIT */
/* jsonlfsctl metrics: prints what mounts have done, in the text format of Prometheus. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "ctl/find/vault.h"
#include "ctl/child.h"
#include "ctl/output.h"

#define PATIENCE_MS 5000 /* for all daemons that do not answer, together */
#define LEAST_MS    500	 /* then for each further one */

/* A mount in the report. */
struct subject {
	char *labels;		     /* {mountpoint="...",source="..."} */
	struct jsonl_report *status; /* NULL: it does not answer */
};

struct subjects {
	struct subject *list;
	size_t count, cap;
};

struct metric {
	const char *name, *help;
	const char *group, *key; /* in status.json; no group: at the top */
};

/* Sums since the mount began. */
static const struct metric counters[] = {
    {"records_total", "Records appended.", "totals", "records"},
    {"bytes_total", "Bytes appended.", "totals", "bytes"},
    {"oversize_records_total", "Records of pipebuf bytes or more.", "totals", "oversize"},
    {"refused_total", "Lines refused or set aside.", "totals", "refused"},
    {"denied_total", "Operations that a log does not allow.", "totals", "denied"},
    {"fragments_total", "Fragments at close.", "totals", "fragments"},
    {"repairs_total", "Torn tails repaired.", "totals", "repairs"},
    {"quarantined_total", "Pieces set aside.", "totals", "quarantined"},
    {"quarantine_full_total", "Pieces of which the full quarantine kept no copy.",
     "totals", "quarantine_full"},
    {"lost_total", "Fragments that found no room and are lost.", "totals", "lost"},
    {"archived_total", "Files archived.", "totals", "archived"},
    {"evicted_total", "Files that left the archive to make room.", "totals", "evicted"},
    {"syncs_total", "Syncs.", "totals", "syncs"},
    {"sync_failures_total", "Syncs that failed.", "totals", "sync_failures"},
    {"lock_timeouts_total", "Writes that waited too long for a foreign lock.", "totals",
     "lock_timeouts"},
    {"lost_locks_total", "Turns at a log of several hosts that ended in an error.",
     "totals", "lost_locks"},
    {"log_suppressed_total", "Log lines left out by the rate limit.", "log",
     "suppressed"},
};

static const struct metric gauges[] = {
    {"uptime_seconds", "Seconds since the mount began.", NULL, "uptime_s"},
    {"open_handles", "Handles that programs have open.", NULL, "open_handles"},
    {"pending_bytes", "Unfinished records in memory.", NULL, "pending_bytes"},
    {"poisoned_files", "Files that took no more appends after a failed sync.", "totals",
     "poisoned_files"},
    {"quarantine_bytes", "Bytes in the quarantine.", "quarantine", "bytes"},
    {"quarantine_max_bytes", "The bound of the quarantine.", "quarantine", "max"},
    {"quarantine_entries", "Entries of the quarantine.", "quarantine", "entries"},
    {"archive_bytes", "Bytes in the archive.", "archive", "bytes"},
    {"archive_max_bytes", "The bound of the archive.", "archive", "max"},
    {"archive_entries", "Files in the archive.", "archive", "entries"},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- which mounts ---- */

static void print_label(FILE *to, const char *name, const char *value)
{
	cleanup_free char *safe = ctl_safe_text(value);

	(void)fprintf(to, "%s=\"", name);
	for (const char *c = safe ? safe : "?"; *c; c++)
		(void)fprintf(to, *c == '\\' || *c == '"' ? "\\%c" : "%c", *c);
	(void)fputc('"', to);
}

static char *make_labels(const char *point, const char *source)
{
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	if (!to)
		return NULL;
	(void)fputc('{', to);
	print_label(to, "mountpoint", point);
	(void)fputc(',', to);
	print_label(to, "source", source);
	(void)fputc('}', to);
	return fclose(to) == 0 ? text : NULL;
}

/* Takes `status` over. 0 or -ENOMEM. */
static int add(struct subjects *all, const char *point, const char *source,
	       struct jsonl_report *status)
{
	char *labels = make_labels(point, source);

	if (!labels ||
	    jsonl_grow(&all->list, &all->cap, all->count + 1, sizeof(*all->list))) {
		jsonl_report_free(status);
		free(labels);
		return -ENOMEM;
	}
	all->list[all->count++] = (struct subject){.labels = labels, .status = status};
	return 0;
}

static int look(void *ctx)
{
	struct ctl_vault v;

	if (ctl_vault_find(ctx, &v) == 0)
		ctl_vault_free(&v);
	return 0;
}

/* Returns true when the daemon of a mount does not answer. Waiting for one that was
 * stopped, or hangs, would hold up the whole report. */
static bool hangs(const char *path)
{
	static int left = PATIENCE_MS;
	bool late = ctl_child(look, (void *)path, -1, left) == -ETIMEDOUT;

	if (late)
		left = LEAST_MS;
	return late;
}

static bool is_dead(int rc)
{
	return rc == -ENOTCONN || rc == -ECONNABORTED;
}

/* Adds the mount of a directory from the command line. 0, or an exit code after a
 * message. */
static int add_named(struct subjects *all, const char *path)
{
	struct ctl_vault v;
	int rc = hangs(path) ? -ENOTCONN : ctl_vault_find(path, &v);

	if (rc < 0 && !is_dead(rc)) {
		ctl_error("%s: %s", path, ctl_explain(path, rc));
		return CTL_FAILURE;
	}
	if (rc < 0) {
		rc = add(all, path, "", NULL);
	} else if (!v.status && !is_dead(v.status_error)) {
		ctl_error("%s: no jsonlfs is mounted here: name a directory in a mount",
			  path);
		ctl_vault_free(&v);
		return CTL_FAILURE;
	} else {
		rc = add(all, v.mount->point, v.mount->source, steal_ptr(&v.status));
		ctl_vault_free(&v);
	}
	if (rc < 0)
		ctl_error("out of memory");
	return rc < 0 ? CTL_FAILURE : 0;
}

/* Adds a mount from the kernel's table. One that is closed to us is left out. */
static int add_mount(struct subjects *all, const struct ctl_mount *mount)
{
	struct ctl_vault v;
	int rc = hangs(mount->point) ? -ENOTCONN : ctl_vault_find(mount->point, &v);

	if (is_dead(rc))
		return add(all, mount->point, mount->source, NULL);
	if (rc < 0)
		return rc == -ENOMEM ? rc : 0;
	rc = v.mount && v.mount->id == mount->id
		 ? add(all, mount->point, mount->source, steal_ptr(&v.status))
		 : 0;
	ctl_vault_free(&v);
	return rc;
}

static int add_all(struct subjects *all)
{
	struct ctl_mounts mounts;
	int rc = ctl_mounts_read(&mounts);

	for (size_t i = 0; i < mounts.count && rc == 0; i++)
		if (strcmp(mounts.list[i].root, "/") == 0)
			rc = add_mount(all, &mounts.list[i]);
	ctl_mounts_free(&mounts);
	if (rc == 0)
		return 0;
	ctl_error("%s", jsonl_error_text(rc));
	return CTL_FAILURE;
}

static void free_subjects(struct subjects *all)
{
	for (size_t i = 0; i < all->count; i++) {
		free(all->list[i].labels);
		jsonl_report_free(all->list[i].status);
	}
	free(all->list);
}

/* ---- printing ---- */

static void print_metric(const struct subjects *all, const struct metric *m,
			 const char *type)
{
	printf("# HELP jsonlfs_%s %s\n# TYPE jsonlfs_%s %s\n", m->name, m->help, m->name,
	       type);
	for (size_t i = 0; i < all->count; i++) {
		const struct jsonl_report *r = all->list[i].status;

		if (!r)
			continue;
		if (m->group)
			r = jsonl_report_get(r, m->group);
		printf("jsonlfs_%s%s %llu\n", m->name, all->list[i].labels,
		       (unsigned long long)jsonl_report_get_uint(r, m->key));
	}
}

static void print_all(const struct subjects *all)
{
	puts("# HELP jsonlfs_up Does the daemon of the mount answer?\n"
	     "# TYPE jsonlfs_up gauge");
	for (size_t i = 0; i < all->count; i++)
		printf("jsonlfs_up%s %d\n", all->list[i].labels,
		       all->list[i].status != NULL);
	for (size_t i = 0; i < COUNT(counters); i++)
		print_metric(all, &counters[i], "counter");
	for (size_t i = 0; i < COUNT(gauges); i++)
		print_metric(all, &gauges[i], "gauge");
}

static int metrics_run(int argc, char **argv)
{
	struct subjects all = {0};
	struct ctl_output output;
	const char *file = NULL;
	int i = 0, out = 1, code;

	while ((i = ctl_next_option(argc, argv, i + 1, &out)) < argc)
		if (!ctl_take_value("--output", argc, argv, &i, &file))
			return ctl_usage(&ctl_metrics, "unknown option %s", argv[i]);
	code = ctl_output_begin(&output, file, NULL);
	if (code)
		return code;
	code = out > 1 ? 0 : add_all(&all);
	for (i = 1; i < out; i++)
		code |= add_named(&all, argv[i]);
	print_all(&all);
	free_subjects(&all);
	return ctl_output_end(&output, code);
}

const struct ctl_command ctl_metrics = {
    .name = "metrics",
    .run = metrics_run,
    .synopsis = "[--output=FILE] [DIR...]",
    .summary = "what mounts have done, for Prometheus",
    .help =
	"\n"
	"Prints the counters of `jsonlfsctl status` in the text format of Prometheus:\n"
	"of the mount in which each DIR lies, or of all mounts that are visible here.\n"
	"jsonlfs_up is 0 for a mount whose daemon is dead, or does not answer for\n"
	"seconds.\n"
	"\n"
	"  --output=FILE  write to FILE, which is replaced when the new one is whole,\n"
	"                 as node_exporter's textfile collector wants it\n"
	"\n"
	"Exit status: 0, 8 a DIR lies in no mount, or FILE could not be written, 16\n"
	"wrong usage.",
};
