/* SPDX-License-Identifier: MIT */
#include "virtual/writers.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/stats.h"
#include "report/report.h"
#include "rules/config.h"
#include "tree/mount.h"
#include "vault/config.h"
#include "virtual/bypassers.h"
#include "virtual/status.h"

/* Entries live as long as the mount, so the next one to be shown is a pointer. */
struct fs_writers {
	struct fs_mount *m;
	uid_t uid;
	bool everybody;
	time_t time; /* time of the open */
	/* The present position in the text: */
	enum { WRITERS_HEAD, WRITERS_LIST, WRITERS_TAIL, WRITERS_END } part;
	const struct fs_writer_stats *next;
	bool first; /* no entry is in the list yet */
	/* What was made last, and its place in the text: */
	char *piece;
	size_t len;
	uint64_t at;
};

/* ---- the pieces ---- */

/* Reports which habits of a program the mount makes safe. */
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
		fs_status_add_time(r, "first", (time_t)first);
	if (last)
		fs_status_add_time(r, "last", (time_t)last);
	jsonl_report_add(r, "habits", habits_report(w));
	return r;
}

/* The bypassing programs that one user may see. */
struct bypass_list {
	struct jsonl_report *list;
	uid_t uid;
	bool everybody;
};

static void add_bypasser(void *ctx, const struct fs_bypasser *one)
{
	struct bypass_list *l = ctx;
	struct jsonl_report *r;

	if (!l->everybody && one->uid != l->uid)
		return;
	r = jsonl_report_object();
	jsonl_report_add_string(r, "program", one->program);
	jsonl_report_add_int(r, "pid", one->pid);
	jsonl_report_add_uint(r, "uid", one->uid);
	jsonl_report_add_string(r, "path", one->path);
	jsonl_report_add(l->list, NULL, r);
}

/* Returns the report as text without a newline at its end; to be freed. */
static char *text_of(struct jsonl_report *r)
{
	char *text = jsonl_report_text(r, false);

	jsonl_report_free(r);
	if (text)
		text[strcspn(text, "\n")] = '\0';
	return text;
}

static int piece_head(struct fs_writers *w)
{
	struct jsonl_report *r = jsonl_report_object();
	cleanup_free char *text = NULL;
	size_t len;

	fs_status_add_time(r, "time", w->time);
	jsonl_report_add_uint(r, "pipebuf",
			      fs_config_get(&w->m->vault)->file.limits.pipebuf);
	fs_config_put(&w->m->vault);
	text = text_of(r);
	if (!text)
		return -ENOMEM;
	len = strcspn(text, "}");
	w->part = WRITERS_LIST;
	w->next = fs_stats_first(&w->m->vault.stats);
	w->first = true;
	return asprintf(&w->piece, "%.*s,\n\"writers\": [", (int)len, text) < 0 ? -ENOMEM
									     : 0;
}

static int piece_entry(struct fs_writers *w)
{
	cleanup_free char *text = NULL;
	const struct fs_writer_stats *one = w->next;

	while (one && !w->everybody && one->uid != w->uid)
		one = fs_stats_next(&w->m->vault.stats, one);
	if (!one) {
		w->part = WRITERS_TAIL;
		return 0;
	}
	w->next = fs_stats_next(&w->m->vault.stats, one);
	text = text_of(writer_report(one));
	if (!text || asprintf(&w->piece, "%s\n%s", w->first ? "" : ",", text) < 0)
		return -ENOMEM;
	w->first = false;
	return 0;
}

static int piece_tail(struct fs_writers *w)
{
	struct bypass_list bypass = {
	    .list = jsonl_report_array(), .uid = w->uid, .everybody = w->everybody};
	cleanup_free char *text = NULL;

	fs_bypassers_each(w->m->bypassers, add_bypasser, &bypass);
	text = text_of(bypass.list);
	w->part = WRITERS_END;
	return !text || asprintf(&w->piece, "],\n\"bypass\": %s}\n", text) < 0 ? -ENOMEM : 0;
}

/* Makes the next piece; only the end is an empty one. 0 or -ENOMEM. */
static int piece_next(struct fs_writers *w)
{
	int rc = 0;

	w->at += w->len;
	w->len = 0;
	free(w->piece);
	w->piece = NULL;
	while (!rc && !w->piece && w->part != WRITERS_END)
		rc = w->part == WRITERS_HEAD   ? piece_head(w)
		     : w->part == WRITERS_LIST ? piece_entry(w)
					       : piece_tail(w);
	if (rc)
		w->piece = NULL; /* asprintf leaves it undefined */
	w->len = w->piece ? strlen(w->piece) : 0;
	return rc;
}

static void rewind_text(struct fs_writers *w)
{
	free(w->piece);
	w->piece = NULL;
	w->len = 0;
	w->at = 0;
	w->part = WRITERS_HEAD;
}

/* ---- public ---- */

struct fs_writers *fs_writers_new(struct fs_mount *m, uid_t uid, bool everybody)
{
	struct fs_writers *w = calloc(1, sizeof(*w));

	if (w) {
		w->m = m;
		w->uid = uid;
		w->everybody = everybody;
		w->time = time(NULL);
		rewind_text(w);
	}
	return w;
}

void fs_writers_free(struct fs_writers *w)
{
	if (!w)
		return;
	free(w->piece);
	free(w);
}

ssize_t fs_writers_read(struct fs_writers *w, uint64_t off, char *buf, size_t size)
{
	size_t have = 0;

	if (off < w->at)
		rewind_text(w);
	while (have < size) {
		uint64_t from = off + have;

		if (from >= w->at + w->len) {
			int rc = piece_next(w);

			if (rc)
				return rc;
			if (!w->len)
				break;
		} else {
			size_t skip = (size_t)(from - w->at), n = w->len - skip;

			if (n > size - have)
				n = size - have;
			memcpy(buf + have, w->piece + skip, n);
			have += n;
		}
	}
	return (ssize_t)have;
}

uint64_t fs_writers_length(struct fs_writers *w)
{
	do {
		if (piece_next(w))
			break;
	} while (w->len);
	return w->at;
}
