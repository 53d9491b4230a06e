#include "status.h"

#include <stdatomic.h>
#include <time.h>

#include "control.h"
#include "reload.h"
#include "report.h"

/* ---- status.json ---- */

static void add_time(struct jsonl_report *r, const char *key, time_t when)
{
	char text[32] = "";
	struct tm tm;

	if (gmtime_r(&when, &tm))
		(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	jsonl_report_add_string(r, key, text);
}

static void add_choice(struct jsonl_report *r, const char *key, const char *const *names,
		       int value)
{
	jsonl_report_add_string(r, key, names[value]);
}

/* In the order of their enums in config.h. */
static const char *const onbad_names[] = {"refuse", "quarantine"};
static const char *const oversize_names[] = {"warn", "reject", "allow"};
static const char *const blank_names[] = {"drop", "keep"};
static const char *const value_names[] = {"any", "container", "object"};
static const char *const sync_names[] = {"close", "write", "none"};
static const char *const unlink_names[] = {"archive", "deny", "allow"};
static const char *const append_names[] = {"policed", "strict"};
static const char *const rewrite_names[] = {"deny", "extend", "archive"};
static const char *const commit_names[] = {"line", "close"};

static struct jsonl_report *options_report(const struct jsonl_config *c)
{
	struct jsonl_report *r = jsonl_report_object();

	jsonl_report_add_string(r, "match", c->match);
	jsonl_report_add_string(r, "exclude", c->exclude ? c->exclude : "");
	jsonl_report_add_string(r, "generations", c->generations ? c->generations : "");
	add_choice(r, "onbad", onbad_names, c->file.onbad);
	add_choice(r, "oversize", oversize_names, c->file.limits.oversize);
	add_choice(r, "blank", blank_names, c->file.limits.blank);
	add_choice(r, "value", value_names, c->file.limits.value);
	add_choice(r, "sync", sync_names, c->file.sync);
	add_choice(r, "unlink", unlink_names, c->file.unlink);
	add_choice(r, "append", append_names, c->file.append);
	add_choice(r, "rewrite", rewrite_names, c->file.rewrite);
	add_choice(r, "commit", commit_names, c->file.commit);
	jsonl_report_add_uint(r, "maxdepth", c->file.limits.maxdepth);
	jsonl_report_add_uint(r, "pipebuf", c->file.limits.pipebuf);
	jsonl_report_add_uint(r, "maxrecord", c->file.limits.maxrecord);
	jsonl_report_add_uint(r, "locktimeout_ms", c->file.locktimeout_ms);
	jsonl_report_add_uint(r, "quarantine_max", c->quarantine_max);
	jsonl_report_add_uint(r, "archive_max", c->archive_max);
	jsonl_report_add_uint(r, "pending_max", c->pending_max);
	jsonl_report_add_bool(r, "xattr", c->xattr);
	jsonl_report_add_bool(r, "ro", c->readonly);
	return r;
}

static void add_given(void *ctx, const struct jsonl_config_value *value)
{
	struct jsonl_report *o = jsonl_report_object();

	jsonl_report_add_string(o, "option", value->name);
	jsonl_report_add_string(o, "value", value->text);
	jsonl_report_add(ctx, NULL, o);
}

static void add_value(void *ctx, const struct jsonl_config_value *value)
{
	jsonl_report_add_string(ctx, value->name, value->text);
}

/* As they stand in a configuration file, for jsonlfsctl, which need not be able to read
 * that, and by then it may say something else. */
static struct jsonl_report *rules_report(const struct jsonl_config *c)
{
	struct jsonl_report *rules = jsonl_report_array();

	for (size_t i = 0; i < c->nrules; i++) {
		struct jsonl_report *o = jsonl_report_object();

		jsonl_report_add_string(o, "match", c->rules[i].match);
		jsonl_config_rule(&c->rules[i], add_value, o);
		jsonl_report_add(rules, NULL, o);
	}
	return rules;
}

/* What holds now, and for who asks where it comes from: the configuration file and what
 * the command line says. */
static void add_options(struct fs_mount *m, struct jsonl_report *r)
{
	const struct jsonl_config *c = fs_reload_config(m);
	struct jsonl_report *given = jsonl_report_array();

	jsonl_report_add(r, "options", options_report(c));
	jsonl_report_add(r, "rules", rules_report(c));
	jsonl_config_given(c, add_given, given);
	fs_reload_config_put(m);
	jsonl_report_add(r, "given", given);
	if (m->config.path)
		jsonl_report_add_string(r, "config", m->config.path);
	jsonl_report_add_uint(r, "reloads", jsonl_policy_serial(m->policy));
}

static struct jsonl_report *totals_report(const struct fs_stats *s)
{
	struct jsonl_report *r = jsonl_report_object();

#define X(name) jsonl_report_add_uint(r, #name, atomic_load(&s->name));
	FS_TOTAL_COUNTERS(X)
#undef X
	return r;
}

static struct jsonl_report *passthrough_report(struct fs_mount *m)
{
	struct jsonl_report *r = jsonl_report_object();
	const char *reason = atomic_load(&m->passthrough_reason);
	bool on = m->passthrough && !reason;

	jsonl_report_add_bool(r, "on", on);
	if (!on)
		jsonl_report_add_string(r, "reason",
					reason ? reason : "not negotiated yet");
	return r;
}

static struct jsonl_report *quarantine_report(struct fs_mount *m)
{
	struct jsonl_report *r = jsonl_report_object();
	uint64_t bytes = 0, entries = 0;

	if (m->quarantine) /* none on a read-only vault that never had one */
		jsonl_quarantine_usage(m->quarantine, &bytes, &entries);
	jsonl_report_add_uint(r, "bytes", bytes);
	jsonl_report_add_uint(r, "entries", entries);
	jsonl_report_add_uint(r, "max", fs_reload_config(m)->quarantine_max);
	fs_reload_config_put(m);
	return r;
}

static struct jsonl_report *archive_report(struct fs_mount *m)
{
	struct jsonl_report *r = jsonl_report_object();

	jsonl_report_add_uint(r, "bytes", atomic_load(&m->archive_bytes));
	jsonl_report_add_uint(r, "max", atomic_load(&m->archive_max));
	return r;
}

static struct jsonl_report *log_report(void)
{
	struct jsonl_report *r = jsonl_report_object();
	uint64_t written = 0, suppressed = 0;

	fs_log_counts(&written, &suppressed);
	jsonl_report_add_uint(r, "written", written);
	jsonl_report_add_uint(r, "suppressed", suppressed);
	return r;
}

static uint64_t open_handles(struct fs_mount *m)
{
	uint64_t count = 0;

	pthread_mutex_lock(&m->handles_lock);
	for (const struct fs_handle *h = m->handles; h; h = h->next)
		count++;
	pthread_mutex_unlock(&m->handles_lock);
	return count;
}

char *fs_status_text(struct fs_mount *m)
{
	struct jsonl_report *r = jsonl_report_object();
	time_t now = time(NULL);
	char *text;

	jsonl_report_add_string(r, "version", JSONLFS_VERSION);
	jsonl_report_add_string(r, "source", m->source);
	jsonl_report_add_string(r, "mountpoint", m->mountpoint);
	add_time(r, "started", m->started.tv_sec);
	jsonl_report_add_int(r, "uptime_s",
			     now > m->started.tv_sec ? now - m->started.tv_sec : 0);
	jsonl_report_add_uint(r, "uid", m->uid);
	jsonl_report_add_int(r, "pid", getpid());
	jsonl_report_add_string(r, "control", fs_control_path(m));
	jsonl_report_add(r, "passthrough", passthrough_report(m));
	jsonl_report_add_uint(r, "open_handles", open_handles(m));
	jsonl_report_add_uint(r, "pending_bytes", atomic_load(&m->pending_bytes));
	jsonl_report_add(r, "totals", totals_report(&m->stats));
	jsonl_report_add(r, "quarantine", quarantine_report(m));
	jsonl_report_add(r, "archive", archive_report(m));
	jsonl_report_add(r, "log", log_report());
	add_options(m, r);
	text = jsonl_report_text(r, true);
	jsonl_report_free(r);
	return text;
}

/* ---- writers.json ---- */

/* Entries live as long as the mount, so a list of pointers is a snapshot that can be
 * printed without their table's lock. */
struct selection {
	const struct fs_writer_stats **list;
	size_t count, cap;
	uid_t uid;
	bool everybody, failed;
};

static void select_writer(void *ctx, const struct fs_writer_stats *w)
{
	struct selection *s = ctx;

	if (!s->everybody && w->uid != s->uid)
		return;
	if (s->count == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 64;
		/* Of pointers. NOLINTNEXTLINE(bugprone-sizeof-expression) */
		void *grown = realloc(s->list, cap * sizeof(*s->list));

		if (!grown) {
			s->failed = true;
			return;
		}
		s->list = grown;
		s->cap = cap;
	}
	s->list[s->count++] = w;
}

/* What the mount makes safe, and what would not be without it. */
static struct jsonl_report *habits_report(const struct fs_writer_stats *w)
{
	struct jsonl_report *r = jsonl_report_array();

	if (atomic_load(&w->opens_without_append))
		jsonl_report_add_string(r, NULL, "no-append");
	if (atomic_load(&w->oversize))
		jsonl_report_add_string(r, NULL, "oversize");
	if (atomic_load(&w->closes_without_newline))
		jsonl_report_add_string(r, NULL, "missing-newline");
	if (atomic_load(&w->split_records))
		jsonl_report_add_string(r, NULL, "split-writes");
	if (atomic_load(&w->closes_without_sync))
		jsonl_report_add_string(r, NULL, "no-sync");
	return r;
}

static struct jsonl_report *writer_report(const struct fs_writer_stats *w)
{
	struct jsonl_report *r = jsonl_report_object();
	int64_t first = atomic_load(&w->first), last = atomic_load(&w->last);

	jsonl_report_add_string(r, "program", w->program);
	jsonl_report_add_string(r, "path", w->path);
	if (w->uid != (uid_t)-1)
		jsonl_report_add_uint(r, "uid", w->uid);
#define X(name) jsonl_report_add_uint(r, #name, atomic_load(&w->name));
	FS_WRITER_COUNTERS(X)
#undef X
	jsonl_report_add_uint(r, "largest", atomic_load(&w->largest));
	if (first)
		add_time(r, "first", (time_t)first);
	if (last)
		add_time(r, "last", (time_t)last);
	jsonl_report_add(r, "habits", habits_report(w));
	return r;
}

char *fs_status_writers_text(struct fs_mount *m, uid_t uid, bool everybody)
{
	struct selection s = {.uid = uid, .everybody = everybody};
	struct jsonl_report *r, *list;
	char *text;

	fs_stats_each(&m->stats, select_writer, &s);
	r = jsonl_report_object();
	list = s.failed ? NULL : jsonl_report_array();
	for (size_t i = 0; list && i < s.count; i++)
		jsonl_report_add(list, NULL, writer_report(s.list[i]));
	free(s.list);
	add_time(r, "time", time(NULL));
	jsonl_report_add_uint(r, "pipebuf", fs_reload_config(m)->file.limits.pipebuf);
	fs_reload_config_put(m);
	jsonl_report_add(r, "writers", list);
	text = jsonl_report_text(r, true);
	jsonl_report_free(r);
	return text;
}
