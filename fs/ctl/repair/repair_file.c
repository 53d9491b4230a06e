/* SPDX-License-Identifier: MIT */
#include "ctl/repair/repair_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "ctl/ask/control.h"
#include "ctl/ctl.h"
#include "ctl/repair/guard.h"
#include "ctl/repair/holder.h"
#include "ctl/repair/repair_report.h"
#include "ctl/repair/rewrite.h"
#include "json/text.h"
#include "tools/repair.h"

#define OUT_PIECE      (256UL << 10) /* bytes of one write */
#define DOCUMENT_MAX   (64UL << 20)  /* largest file to be tried as one document */
#define DOCUMENT_DEPTH 1000
#define NOT_JSON                                                                         \
	"no line of it is JSON, so this is another kind of file: nothing was "           \
	"changed; if it is a log, move it away and begin a new one"

/* One file that is being repaired. */
struct work {
	struct ctl_rewrite rewrite; /* first: cast back */
	struct repair_run *run;
	struct jsonl_repair_counts counts;
	char *out;
	size_t out_len;
};

/* ---- reporting failures ---- */

static const char *explain(const char *path, int rc)
{
	if (rc == JSONL_TOO_LONG || rc == JSONL_UNKNOWN_TAIL)
		return NOT_JSON;
	if (rc == -EINVAL)
		return "neither a directory nor a regular file";
	return ctl_control_explain(rc) ? ctl_control_explain(rc)
				       : ctl_rewrite_explain(path, rc);
}

void repair_file_failed(struct repair_run *run, const char *shown, const struct stat *st,
			int rc, bool left)
{
	cleanup_free char *text = NULL;
	char comm[32];
	int pid = rc == -EBUSY && st ? ctl_holder(st, comm) : 0;

	if (pid > 0 &&
	    asprintf(&text, "%s (process %d, %s)", explain(shown, rc), pid, comm) < 0)
		text = NULL;
	repair_report_error(run->report, shown, text ? text : explain(shown, rc), left);
}

/* ---- looking ---- */

static int told_change(void *ctx, const struct jsonl_repair_change *c, const void *data)
{
	repair_report_change(((struct repair_run *)ctx)->report, c);
	return 0;
}

static bool is_alien(const struct jsonl_repair_counts *counts)
{
	return counts->alien && !counts->records;
}

/* Returns true when all of the file is one JSON text. */
static bool is_document(int fd, const struct jsonl_repair_counts *counts)
{
	cleanup_free char *data = NULL;
	struct jsonl_text text = {0};

	if (counts->bytes > DOCUMENT_MAX)
		return false;
	data = malloc(counts->bytes + 1);
	if (!data || jsonl_io_read_full(&jsonl_io_system, fd, data, counts->bytes, 0) !=
			 (ssize_t)counts->bytes)
		return false;
	return jsonl_text_check(data, counts->bytes, DOCUMENT_DEPTH, &text) == JSONL_OK;
}

/* Returns why a file is left alone although it could be repaired: a repair would destroy
 * another kind of file. NULL: it looks like a log. */
static const char *is_no_log(int fd, const struct jsonl_repair_counts *counts)
{
	if (!counts->changes[JSONL_REPAIR_SET_ASIDE])
		return NULL;
	if (is_document(fd, counts))
		return "is one JSON document on many lines, no log: nothing was changed; "
		       "`jq -c . FILE` makes one record of it, `jq -c '.[]' FILE` one of "
		       "each element; --force takes it for a log";
	if (!is_alien(counts) && jsonl_repair_is_doubtful(counts))
		return "most lines of it are no records, so this may be another kind of "
		       "file: nothing was changed; if it is a log, --force repairs it";
	return NULL;
}

/* ---- repairing ---- */

static int flush(struct work *w)
{
	size_t len = w->out_len;

	w->out_len = 0;
	return len ? jsonl_replace_write(&w->rewrite.replace, w->out, len) : 0;
}

static int keep(void *ctx, const void *data, size_t len)
{
	struct work *w = ctx;
	int rc = 0;

	if (w->out_len + len > OUT_PIECE)
		rc = flush(w);
	if (rc == 0 && len > OUT_PIECE)
		return jsonl_replace_write(&w->rewrite.replace, data, len);
	memcpy(w->out + w->out_len, data, len);
	w->out_len += len;
	return rc;
}

static int change(void *ctx, const struct jsonl_repair_change *c, const void *data)
{
	struct work *w = ctx;

	repair_report_change(w->run->report, c);
	return c->kind == JSONL_REPAIR_SET_ASIDE
		   ? repair_store_bad(&w->rewrite.store, c, data)
		   : 0;
}

static int still_ours(void *ctx, uint64_t bytes)
{
	const struct work *w = ctx;

	/* Asking /proc takes too long to do it again and again. */
	return w->rewrite.guard.lease ? ctl_guard_check(&w->rewrite.guard) : 0;
}

/* Reads the new file once more: there must be nothing left to repair in it. */
static int verify(struct work *w)
{
	const struct jsonl_repair nothing = {0};
	struct jsonl_repair_counts again;
	int rc = jsonl_repair_fd(&jsonl_io_system, w->rewrite.replace.fd, &w->run->limits,
				 &nothing, &again);

	if (rc)
		return rc;
	return jsonl_repair_is_needed(&again) || again.bytes != w->counts.kept ||
		       again.records != w->counts.records
		   ? -EIO
		   : 0;
}

static int fill(struct ctl_rewrite *rewrite)
{
	struct work *w = (struct work *)rewrite;
	const struct jsonl_repair repair = {
	    .keep = keep, .change = change, .progress = still_ours, .ctx = w};
	cleanup_free char *out = malloc(OUT_PIECE);
	int rc;

	if (!out)
		return -ENOMEM;
	w->out = out;
	rc = jsonl_repair_fd(&jsonl_io_system, rewrite->store.old_fd, &w->run->limits,
			     &repair, &w->counts);
	if (rc == 0)
		rc = flush(w);
	if (rc == 0 && is_alien(&w->counts))
		rc = JSONL_UNKNOWN_TAIL;
	return rc ? rc : verify(w);
}

static void repair_bare(struct repair_run *run, int dir, int fd, const char *name,
			const char *shown, const char *path)
{
	struct work w = {.run = run,
			 .rewrite = {.store = {.state_fd = run->state_fd,
					       .quarantine = run->quarantine,
					       .dir_fd = dir,
					       .old_fd = fd,
					       .name = name,
					       .path = path},
				     .mounted = run->vault->mounts.count > 0,
				     .fill = fill}};
	cleanup_free char *kept = NULL;
	const struct ctl_mount *mount;
	struct stat st;
	int rc;

	/* A walk may have come into a mount. */
	rc = ctl_vault_has_mount(run->vault, fd, &mount) ? -EXDEV
							 : ctl_rewrite(&w.rewrite);
	if (rc == 0) {
		kept = ctl_rewrite_kept(&w.rewrite, shown, run->vault->root,
					run->request->state);
		repair_report_end(run->report, &w.counts, true,
				  kept ? kept : w.rewrite.store.kept,
				  w.rewrite.store.bad);
	} else if (ctl_rewrite_unsynced(&w.rewrite)) {
		repair_report_error(run->report, shown, CTL_REWRITE_UNSYNCED, false);
	} else {
		repair_file_failed(run, shown, fstat(fd, &st) < 0 ? NULL : &st, rc, true);
	}
}

/* ---- by the daemon ---- */

static void read_counts(const struct jsonl_report *reply,
			struct jsonl_repair_counts *counts)
{
	*counts = (struct jsonl_repair_counts){
	    .bytes = jsonl_report_get_uint(reply, "bytes"),
	    .records = jsonl_report_get_uint(reply, "records"),
	    .kept = jsonl_report_get_uint(reply, "kept"),
	    .set_aside_bytes = jsonl_report_get_uint(reply, "set_aside_bytes"),
	    .nul_bytes = jsonl_report_get_uint(reply, "nul_bytes"),
	    .split_records = jsonl_report_get_uint(reply, "split_records"),
	};
	for (int i = 0; i < JSONL_REPAIR_COUNT; i++)
		counts->changes[i] = jsonl_report_get_uint(reply, jsonl_repair_name(i));
}

static int repair_served(struct repair_run *run, const char *shown, const char *path)
{
	struct jsonl_report *request = ctl_control_request("repair"), *reply;
	struct jsonl_repair_counts counts;
	cleanup_free char *kept = NULL;
	const char *archive;
	int rc;

	jsonl_report_add_string(request, "path", path);
	jsonl_report_add_string(request, "as", "repair");
	rc = ctl_control_ask(run->vault, request, NULL, 0, &reply);
	if (rc == 0) {
		read_counts(reply, &counts);
		archive = jsonl_report_get_string(reply, "archive");
		if (archive && asprintf(&kept, "%s/.jsonlfs/archive/%s", run->vault->root,
					archive) < 0)
			kept = NULL;
		repair_report_end(run->report, &counts, archive != NULL, kept ? kept : "",
				  "");
	} else if (jsonl_report_get_string(reply, "why")) {
		repair_report_error(run->report, shown,
				    jsonl_report_get_string(reply, "why"), true);
		rc = 0;
	}
	jsonl_report_free(reply);
	return rc;
}

/* Repairs a file: by the daemon if it serves this very file, else here. */
static void apply(struct repair_run *run, int dir, int fd, const char *name,
		  const char *shown, const char *path)
{
	struct stat st;
	int rc;

	if (!run->served || !ctl_vault_serves(run->vault, fd)) {
		repair_bare(run, dir, fd, name, shown, path);
		return;
	}
	rc = repair_served(run, shown, path);
	if (rc)
		repair_file_failed(run, shown, fstat(fd, &st) < 0 ? NULL : &st, rc, true);
}

void repair_file(struct repair_run *run, int dir, int fd, const char *name,
		 const char *shown, const char *path)
{
	struct jsonl_repair look = {.change = told_change, .ctx = run};
	struct jsonl_repair_counts counts = {0};
	const char *why;
	int rc;

	if (run->request->apply)
		look.change = NULL; /* changes are reported as they are made */
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	repair_report_begin(run->report, shown);
	rc = ctl_options_limits(run->policy, path, &run->limits);
	if (rc == 0)
		rc = jsonl_repair_fd(&jsonl_io_system, fd, &run->limits, &look, &counts);
	why = rc || run->request->force ? NULL : is_no_log(fd, &counts);
	if (rc == 0 && !why && is_alien(&counts))
		rc = JSONL_UNKNOWN_TAIL;
	if (rc)
		repair_file_failed(run, shown, NULL, rc, rc > 0);
	else if (why)
		repair_report_error(run->report, shown, why, true);
	else if (run->request->apply && jsonl_repair_is_needed(&counts))
		apply(run, dir, fd, name, shown, path);
	else
		repair_report_end(run->report, &counts, false, "", "");
}
