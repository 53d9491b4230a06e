/* SPDX-License-Identifier: MIT */
/* Makes the lines of the index. */
#include "quarantine/quarantine_internal.h"
#include "base/memory.h"

#include "base/stamp.h"
#include "report/report.h"

void jsonl_quarantine_line_time(int64_t stamp, char text[JSONL_QUARANTINE_TIME])
{
	const struct timespec at = jsonl_quarantine_moment(stamp);

	jsonl_stamp_text(&at, 9, text);
}

/* Begins a line: an object with what every line has. */
static struct jsonl_report *begin_line(const char *time, const char *kind,
				       const char *name)
{
	struct jsonl_report *r = jsonl_report_object();

	jsonl_report_add_string(r, "time", time);
	jsonl_report_add_string(r, "event", kind);
	jsonl_report_add_string(r, "file", name);
	return r;
}

static char *end_line(struct jsonl_report *r)
{
	char *line = jsonl_report_text(r, false);

	jsonl_report_free(r);
	return line;
}

char *jsonl_quarantine_line_stored(const struct jsonl_quarantine_item *item,
				   int64_t stamp, uint64_t hash, const char *name,
				   int64_t from)
{
	char time[JSONL_QUARANTINE_TIME], text[20];
	struct jsonl_report *r;

	jsonl_quarantine_line_time(stamp, time);
	r = begin_line(time, item->event, name);
	jsonl_report_add_string(r, "path", item->path);
	jsonl_report_add_string(r, "reason", jsonl_error_name(item->code));
	jsonl_report_add_string(r, "text", jsonl_error_text(item->code));
	jsonl_report_add_uint(r, "offset", item->offset);
	jsonl_report_add_int(r, "at", item->at);
	jsonl_report_add_uint(r, "bytes", jsonl_iov_length(item->iov, item->niov));
	if (from > 0)
		jsonl_report_add_int(r, "from", from);
	jsonl_report_add_int(r, "pid", item->pid);
	jsonl_report_add_uint(r, "uid", item->uid);
	if (item->program)
		jsonl_report_add_string(r, "program", item->program);
	(void)snprintf(text, sizeof(text), "%016llx", (unsigned long long)hash);
	jsonl_report_add_string(r, "hash", text);
	return end_line(r);
}

char *jsonl_quarantine_line_joined(const char *time, const char *name, uid_t uid,
				   uint64_t bytes)
{
	struct jsonl_report *r = begin_line(time, "joined", name);

	jsonl_report_add_uint(r, "bytes", bytes);
	jsonl_report_add_uint(r, "uid", uid);
	return end_line(r);
}

char *jsonl_quarantine_line_restored(int64_t stamp, const char *name, uint64_t records)
{
	char time[JSONL_QUARANTINE_TIME];
	struct jsonl_report *r;

	jsonl_quarantine_line_time(stamp, time);
	r = begin_line(time, "restored", name);
	jsonl_report_add_uint(r, "records", records);
	return end_line(r);
}
