/* SPDX-License-Identifier: MIT */
#include "ctl/kept/quarantine_restore.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "base/stamp.h"
#include "ctl/ask/control.h"
#include "ctl/kept/quarantine_others.h"
#include "ctl/kept/quarantine_store.h"
#include "ctl/write/appender.h"
#include "ctl/find/content.h"
#include "file/replace.h"
#include "jsonl_internal.h"
#include "tools/check.h"

/* ---- judging ---- */

struct lines {
	const char *data;
	size_t len;
	uint64_t bad, records;
};

/* Calls one() for each line that is not blank, until it returns not 0. 0, or what it
 * returned. */
static int each_line(const struct lines *l,
		     int (*one)(void *ctx, uint64_t number, const char *line, size_t len),
		     void *ctx)
{
	uint64_t number = 1;
	int rc = 0;

	for (size_t at = 0; at < l->len && rc == 0; number++) {
		const char *newline = memchr(l->data + at, '\n', l->len - at);
		size_t n = newline ? (size_t)(newline - l->data) - at : l->len - at;
		size_t offset;

		if (jsonl_validate(l->data + at, n, &offset) != JSONL_BLANK)
			rc = one(ctx, number, l->data + at, n);
		at += n + 1;
	}
	return rc;
}

static int judge_one(void *ctx, const struct jsonl_finding *f)
{
	struct lines *l = ctx;
	const char *newline =
	    memrchr(l->data, '\n', f->offset < l->len ? f->offset : l->len);
	uint64_t start = newline ? (uint64_t)(newline - l->data) + 1 : 0;

	if (jsonl_finding_is_note(f->kind))
		return 0;
	l->bad++;
	ctl_error("line %llu: byte %llu: %s", (unsigned long long)f->line,
		  (unsigned long long)(f->offset - start),
		  f->verdict ? jsonl_error_text(f->verdict)
			     : jsonl_finding_text(f->kind));
	return 0;
}

/* Judges records by the limits of the file `path` of the vault. 0 or -errno. */
static int judge_by(const struct jsonl_config *config, const char *path, struct lines *l)
{
	const struct jsonl_check check = {.finding = judge_one, .ctx = l};
	struct jsonl_check_counts counts = {0};
	cleanup_close int fd = ctl_content_new();
	struct jsonl_limits limits;
	int rc = fd < 0 ? fd : ctl_options_limits_of(config, path, &limits);

	if (rc == 0)
		rc = ctl_content_add_bytes(fd, l->data, l->len);
	/* So that a last line without a newline counts. */
	if (rc == 0)
		rc = ctl_content_add_bytes(fd, "\n", 1);
	if (rc == 0)
		rc = jsonl_check_fd(&jsonl_io_system, fd, &limits, &check, &counts);
	l->records = counts.records;
	return rc;
}

/* Checks that all lines are records. 0, or an exit code after messages. */
static int judge(const struct ctl_store *s, const struct ctl_restore *r, const char *path,
		 struct lines *l)
{
	struct jsonl_config config;
	int rc = jsonl_config_init(&config), code = 0;

	if (rc == 0) {
		code = ctl_options_apply(&ctl_quarantine, r->options, &s->vault, &config);
		if (code == 0)
			rc = judge_by(&config, path, l);
		jsonl_config_deinit(&config);
	}
	if (rc < 0) {
		ctl_error("%s: %s", r->name, jsonl_error_text(rc));
		return CTL_FAILURE;
	}
	if (code || (!l->bad && l->records))
		return code;
	ctl_error(
	    "%s: nothing was appended: %s; correct it: jsonlfsctl quarantine show %s "
	    "%s > FILE, edit FILE, then restore with --edited=FILE",
	    r->name, l->bad ? "these lines are no records" : "it has no records", r->path,
	    r->name);
	return CTL_DAMAGE;
}

void ctl_restored(const char *shown, uint64_t done, uint64_t records, bool all)
{
	printf("%llu of %llu record%s appended to ", (unsigned long long)done,
	       (unsigned long long)records, records == 1 ? "" : "s");
	(void)ctl_print_name(stdout, shown);
	printf("\n%s",
	       all ? "the entry is kept: jsonlfsctl quarantine drop removes it\n" : "");
}

struct restoring {
	struct ctl_appender to;
	const char *shown; /* the file */
	uint64_t done;
	bool unsure; /* one more record may be in the file */
};

static int append_one(void *ctx, uint64_t number, const char *line, size_t len)
{
	struct restoring *restoring = ctx;
	int rc = ctl_appender_add(&restoring->to, line, len);

	if (rc == 0) {
		restoring->done++;
		return 0;
	}
	restoring->unsure = ctl_appender_unsure(&restoring->to, rc);
	ctl_error("line %llu: %s: it is %s what follows", (unsigned long long)number,
		  ctl_appender_explain(restoring->shown, rc),
		  restoring->unsure ? "in the file or not: look; not appended is"
				    : "not appended, nor is");
	return rc;
}

static int append_durably(int dir, const char *name, const char *text, size_t len)
{
	int copy = fcntl(dir, F_DUPFD_CLOEXEC, 3);
	struct jsonl_log *log;
	int rc = copy < 0 ? -errno : jsonl_open_in(copy, name, 0666, &log);

	if (rc)
		return rc;
	rc = jsonl_append(log, text, len);
	if (rc == 0)
		rc = jsonl_sync(log);
	jsonl_close(log);
	return rc;
}

/* Notes the restore in the index of a bare vault. */
static int note_bare(const struct ctl_store *s, const char *name, uint64_t records)
{
	struct jsonl_report *o = jsonl_report_object();
	cleanup_free char *text = NULL;
	char stamp[JSONL_STAMP];

	jsonl_stamp_text_now(0, stamp);
	jsonl_report_add_string(o, "time", stamp);
	jsonl_report_add_string(o, "event", "restored");
	jsonl_report_add_string(o, "file", name);
	jsonl_report_add_uint(o, "records", records);
	text = jsonl_report_text(o, false);
	jsonl_report_free(o);
	if (!text)
		return -ENOMEM;
	return append_durably(s->state_fd, "quarantine.jsonl", text, strcspn(text, "\n"));
}

/* Notes in the index that the entry was restored. If that fails, its records are in the
 * log all the same. */
static void note_restored(const struct ctl_store *s, const char *name, uint64_t records)
{
	struct jsonl_report *o = ctl_control_request("quarantine-restored");
	int rc;

	jsonl_report_add_string(o, "name", name);
	jsonl_report_add_uint(o, "records", records);
	rc = ctl_control_ask(&s->vault, o, NULL, 0, NULL);
	if (rc == -ENOENT)
		rc = note_bare(s, name, records);
	if (rc)
		ctl_error(CTL_NOT_NOTED, name);
}

/* Names the log that gets the records. Its directory is opened once, below the vault's
 * root: users may have made links of the directories on the way. */
struct target {
	const char *path; /* from the vault's root */
	char *shown;
	int dir;
	const char *name;
	bool mounted;
};

/* Appends the records. *done: how many are certainly in the file; *there: how many may
 * be. */
static int append_lines(const struct target *t, const struct lines *l, uint64_t *done,
			uint64_t *there)
{
	struct restoring restoring = {.shown = t->shown};
	int rc = ctl_appender_open_in(&restoring.to, t->dir, t->name, t->mounted), closed;

	if (rc) {
		ctl_error("%s: %s", t->shown, ctl_appender_explain(t->shown, rc));
		return CTL_FAILURE;
	}
	rc = each_line(l, append_one, &restoring);
	if (rc == 0) {
		rc = ctl_appender_sync(&restoring.to);
		if (rc)
			ctl_error("%s: %s: what was appended may not be on the disk",
				  t->shown, jsonl_error_text(rc));
	}
	closed = ctl_appender_close(&restoring.to);
	if (rc == 0 && closed)
		ctl_error("%s: %s: look which of the records are there before this is "
			  "tried again",
			  t->shown, jsonl_error_text(closed));
	*done = restoring.done;
	*there = restoring.done + restoring.unsure;
	return rc || closed ? CTL_FAILURE : 0;
}

/* Reads the text to restore: the entry, or the file of --edited. To be freed; NULL after
 * a message. */
static char *read_source(const struct ctl_store *s, const struct ctl_restore *r,
			 size_t *len)
{
	char *data = NULL;
	int rc = 0;
	cleanup_close int entry = ctl_store_open_entry(s, r->name);
	cleanup_close int edited = -1;

	if (entry < 0)
		return NULL;
	if (r->edited && strcmp(r->edited, "-") == 0) {
		data = ctl_content_read(STDIN_FILENO, len, &rc);
	} else if (r->edited) {
		edited = ctl_open_input(r->edited);
		rc = edited < 0 ? edited : 0;
		if (rc == 0)
			data = ctl_content_read(edited, len, &rc);
	} else {
		data = ctl_content_read(entry, len, &rc);
	}
	if (!data)
		ctl_error("%s: %s", r->edited ? r->edited : r->name,
			  ctl_explain(r->edited ? r->edited : r->name, rc));
	return data;
}

/* Creates the log, if it is gone, with the owner and the mode of its entry. If the caller
 * may not do that, it is created as any new file when the records are appended. */
static void make_like_entry(const struct ctl_store *s, const char *name,
			    const struct target *t)
{
	cleanup_close int entry = ctl_open_file(s->files.dir, name, O_RDONLY, 0);
	struct jsonl_replace log;
	struct stat st;

	if (entry < 0 || fstatat(t->dir, t->name, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	    jsonl_replace_begin(&log, &jsonl_io_system, t->dir, t->name, entry) < 0)
		return;
	log.new_times = true;
	(void)!jsonl_replace_commit(&log, RENAME_NOREPLACE);
}

/* 0, or an exit code after a message. The directory and `shown` are to be released in any
 * case. */
static int target_open(struct target *t, const struct ctl_store *s, const char *path)
{
	*t = (struct target){.path = path, .dir = -1, .mounted = s->vault.mount};
	if (asprintf(&t->shown, "%s/%s", s->vault.root, path) < 0)
		t->shown = NULL;
	if (!t->shown) {
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	t->dir = ctl_open_parent(s->vault.root_fd, path, &t->name);
	if (t->dir >= 0)
		return 0;
	ctl_error("%s: %s", t->shown,
		  t->dir == -ELOOP || t->dir == -ENOTDIR
		      ? "a directory on the way is a symbolic link, or none: nothing "
			"was appended; use jsonlfsctl quarantine show and append"
		      : ctl_explain(t->shown, t->dir));
	return CTL_FAILURE;
}

static int restore_to(const struct ctl_store *s, const struct ctl_restore *r,
		      const struct target *t)
{
	cleanup_free char *data = NULL;
	struct lines l = {0};
	uint64_t done = 0, there = 0;
	int code;

	data = read_source(s, r, &l.len);
	if (!data)
		return CTL_FAILURE;
	l.data = data;
	code = judge(s, r, t->path, &l);
	if (code)
		return code;
	make_like_entry(s, r->name, t);
	code = append_lines(t, &l, &done, &there);
	if (there)
		note_restored(s, r->name, there);
	ctl_restored(t->shown, done, l.records, code == 0);
	return code;
}

/* Locks the entry against other restores. The index is read after that, so that it shows
 * what they did. *others: only others can read the entry, and the daemon is to restore it.
 * 0, or an exit code after a message. */
static int take_entry(const struct ctl_restore *r, int *entry, bool *others)
{
	struct ctl_store s;
	int code = ctl_store_open(&s, r->path, r->state), rc;

	if (code)
		return code;
	*others = ctl_is_for_daemon(r, &s);
	*entry = *others ? -1 : ctl_store_open_entry(&s, r->name);
	ctl_store_close(&s);
	if (*entry < 0)
		return *others ? 0 : CTL_FAILURE;
	rc = fs_lock_wait(*entry, FS_LOCK_MS);
	if (rc == 0)
		return 0;
	ctl_error("%s: %s", r->name,
		  rc == -EWOULDBLOCK ? "is being restored at this moment"
				     : jsonl_error_text(rc));
	return CTL_FAILURE;
}

/* Restores an entry to the file that the index names. */
static int restore_entry(const struct ctl_restore *r, const struct ctl_store *s)
{
	const char *restored, *path;
	uint64_t events;
	const struct jsonl_report *line = ctl_store_line(s, r->name, &restored, &events);
	struct target t;
	int code;

	path = jsonl_report_get_string(line, "path");
	if (restored && !r->again) {
		ctl_error("%s: was restored at %s: --again does it once more", r->name,
			  restored);
		return CTL_FAILURE;
	}
	if (!path || !path[0]) {
		ctl_error(
		    "%s: the index does not say which file it is of: use jsonlfsctl "
		    "quarantine show %s %s | jsonlfsctl append FILE",
		    r->name, r->path, r->name);
		return CTL_FAILURE;
	}
	code = target_open(&t, s, path);
	if (code == 0)
		code = restore_to(s, r, &t);
	if (t.dir >= 0)
		(void)close(t.dir);
	free(t.shown);
	return code;
}

int ctl_restore(const struct ctl_restore *r)
{
	cleanup_close int entry = -1;
	struct ctl_store s;
	bool others;
	int code = take_entry(r, &entry, &others);

	if (code == 0)
		code = ctl_store_open(&s, r->path, r->state);
	if (code)
		return code;
	code = others ? ctl_restore_by_daemon(r, &s) : restore_entry(r, &s);
	ctl_store_close(&s);
	return code;
}
