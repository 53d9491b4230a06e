/* SPDX-License-Identifier: MIT */
#include "virtual/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/stamp.h"
#include "base/stats.h"
#include "base/syslog.h"
#include "quarantine/quarantine.h"
#include "report/report.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/handles.h"
#include "tree/mount.h"
#include "vault/archive.h"
#include "vault/config.h"
#include "vault/hosts.h"
#include "virtual/bypassers.h"

void fs_status_add_time(struct jsonl_report *r, const char *key, time_t when)
{
	const struct timespec at = {.tv_sec = when};
	char text[JSONL_STAMP];

	jsonl_stamp_text(&at, 0, text);
	jsonl_report_add_string(r, key, text);
}

static void add_option(void *ctx, const struct jsonl_config_item *item)
{
	char name[64];

	if (item->kind == JSONL_CONFIG_TEXT) {
		jsonl_report_add_string(ctx, item->name, item->text);
	} else if (item->kind == JSONL_CONFIG_FLAG) {
		jsonl_report_add_bool(ctx, item->name, item->number != 0);
	} else {
		(void)snprintf(name, sizeof(name), "%s%s", item->name,
			       item->kind == JSONL_CONFIG_MILLIS ? "_ms" : "");
		jsonl_report_add_uint(ctx, name, item->number);
	}
}

static struct jsonl_report *options_report(const struct jsonl_config *c)
{
	struct jsonl_report *r = jsonl_report_object();

	jsonl_config_each(c, add_option, r);
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

/* Reports the rules as a configuration file has them, for jsonlfsctl, which may not be
 * allowed to read the file; and the file may have changed by then. */
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

/* Adds the options in effect, with where they come from: the configuration file and what
 * the command line says. */
static void add_options(struct fs_mount *m, struct jsonl_report *r)
{
	const struct jsonl_config *c = fs_config_get(&m->vault);
	struct jsonl_report *given = jsonl_report_array();

	jsonl_report_add(r, "options", options_report(c));
	jsonl_report_add(r, "rules", rules_report(c));
	jsonl_config_given(c, add_given, given);
	fs_config_put(&m->vault);
	jsonl_report_add(r, "given", given);
	if (m->vault.config.path)
		jsonl_report_add_string(r, "config", m->vault.config.path);
	jsonl_report_add_uint(r, "reloads", jsonl_policy_serial(m->vault.policy));
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
	const char *reason = atomic_load(&m->tree.passthrough_reason);
	bool on = m->tree.passthrough && !reason;

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

	if (m->vault.quarantine) /* none on a read-only vault that never had one */
		jsonl_quarantine_usage(m->vault.quarantine, &bytes, &entries);
	jsonl_report_add_uint(r, "bytes", bytes);
	jsonl_report_add_uint(r, "entries", entries);
	jsonl_report_add_uint(r, "max", fs_config_get(&m->vault)->quarantine_max);
	fs_config_put(&m->vault);
	return r;
}

static struct jsonl_report *archive_report(struct fs_mount *m)
{
	struct jsonl_report *r = jsonl_report_object();
	struct fs_archive_usage u;

	fs_archive_usage(&m->vault, &u);
	jsonl_report_add_uint(r, "bytes", u.bytes);
	jsonl_report_add_uint(r, "entries", u.entries);
	jsonl_report_add_uint(r, "percent", u.percent);
	jsonl_report_add_uint(r, "max", u.max);
	return r;
}

static struct jsonl_report *log_report(void)
{
	struct jsonl_report *r = jsonl_report_object();
	struct fs_syslog_counts counts;

	fs_syslog_counts(&counts);
	jsonl_report_add_string(r, "to", counts.to);
	jsonl_report_add_uint(r, "written", counts.written);
	jsonl_report_add_uint(r, "suppressed", counts.suppressed);
	jsonl_report_add_uint(r, "undelivered", counts.undelivered);
	if (counts.error)
		jsonl_report_add_string(r, "error", jsonl_error_text(counts.error));
	return r;
}

static void add_host(void *ctx, const struct fs_host *host)
{
	struct jsonl_report *says = jsonl_report_parse(host->says);
	struct jsonl_report *o = jsonl_report_object();
	const char *name = jsonl_report_get_string(says, "host");
	const char *mountpoint = jsonl_report_get_string(says, "mountpoint");

	jsonl_report_add_string(o, "id", host->id);
	jsonl_report_add_string(o, "host", name ? name : "");
	jsonl_report_add_uint(o, "pid", jsonl_report_get_uint(says, "pid"));
	jsonl_report_add_string(o, "mountpoint", mountpoint ? mountpoint : "");
	fs_status_add_time(o, "seen", host->seen);
	jsonl_report_add(ctx, NULL, o);
	jsonl_report_free(says);
}

/* Reports whether other daemons have the directory, and which. */
static struct jsonl_report *shared_report(struct fs_mount *m)
{
	struct jsonl_report *r = jsonl_report_object();
	struct jsonl_report *hosts = jsonl_report_array();

	jsonl_report_add_bool(r, "on", fs_shared(&m->vault));
	jsonl_report_add_string(r, "file_system", m->vault.engine.type);
	jsonl_report_add_string(r, "fences", m->vault.engine.fences);
	fs_hosts_each(&m->vault, add_host, hosts);
	jsonl_report_add(r, "hosts", hosts);
	return r;
}

static bool count_handle(struct fs_handle *h, void *count)
{
	++*(uint64_t *)count;
	return true;
}

static uint64_t open_handles(struct fs_mount *m)
{
	uint64_t count = 0;

	fs_handles_each(m, count_handle, &count);
	return count;
}

char *fs_status_text(struct fs_mount *m)
{
	struct jsonl_report *r = jsonl_report_object();
	time_t now = time(NULL);
	char *text;

	jsonl_report_add_string(r, "version", JSONLFS_VERSION);
	jsonl_report_add_string(r, "source", m->vault.source);
	jsonl_report_add_string(r, "mountpoint", m->vault.mountpoint);
	fs_status_add_time(r, "started", m->vault.started.tv_sec);
	jsonl_report_add_int(r, "uptime_s",
			     now > m->vault.started.tv_sec ? now - m->vault.started.tv_sec
							   : 0);
	jsonl_report_add_uint(r, "uid", m->vault.uid);
	jsonl_report_add_int(r, "pid", getpid());
	jsonl_report_add_string(r, "control",
				m->vault.control_path ? m->vault.control_path : "");
	jsonl_report_add(r, "passthrough", passthrough_report(m));
	jsonl_report_add_uint(r, "deaths", m->deaths);
	jsonl_report_add_uint(r, "bypass", fs_bypassers_each(m->bypassers, NULL, NULL));
	jsonl_report_add_uint(r, "open_handles", open_handles(m));
	jsonl_report_add_uint(r, "pending_bytes", atomic_load(&m->vault.pending_bytes));
	jsonl_report_add(r, "totals", totals_report(&m->vault.stats));
	jsonl_report_add(r, "quarantine", quarantine_report(m));
	jsonl_report_add(r, "archive", archive_report(m));
	jsonl_report_add(r, "shared", shared_report(m));
	jsonl_report_add(r, "log", log_report());
	add_options(m, r);
	text = jsonl_report_text(r, true);
	jsonl_report_free(r);
	return text;
}
