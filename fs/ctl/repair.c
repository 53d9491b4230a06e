/* jsonlfsctl repair: takes out of a file what is no record, and keeps everything. */
#include "repair.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "control.h"
#include "ctl.h"
#include "holder.h"
#include "options.h"
#include "place.h"
#include "repair_report.h"
#include "rewrite.h"
#include "walk.h"

#define OUT_PIECE (256UL << 10) /* bytes that are written at once */
#define NOT_JSON                                                                         \
	"no line of it is JSON, so this is another kind of file: nothing was "           \
	"changed; if it is a log, move it away and begin a new one"

struct request {
	bool json, all, apply;
	const char *state;
	struct ctl_options options;
	char **paths;
	int npaths;
};

/* One path of the command line. */
struct run {
	const struct request *request;
	struct repair_report *report;
	struct jsonl_policy *policy;
	struct jsonl_limits limits; /* of the file at hand */
	struct jsonl_quarantine *quarantine;
	const struct ctl_vault *vault;
	const char *root;
	int state_fd;
	bool mounted;	    /* some jsonlfs is */
	bool served;	    /* and this vault has a daemon */
};

/* One file that is being repaired. */
struct work {
	struct ctl_rewrite rewrite; /* first: cast back */
	struct run *run;
	struct jsonl_repair_counts counts;
	char *out;
	size_t out_len;
};

/* ---- saying why not ---- */

static const char *explain(int rc)
{
	if (rc == JSONL_TOO_LONG || rc == JSONL_UNKNOWN_TAIL)
		return NOT_JSON;
	return ctl_control_explain(rc) ? ctl_control_explain(rc)
				       : ctl_rewrite_explain(rc);
}

static void tell_failure(struct run *run, const char *shown, const struct stat *st,
			 int rc, bool left)
{
	cleanup_free char *text = NULL;
	char comm[32];
	int pid = rc == -EBUSY && st ? ctl_holder(st, comm) : 0;

	if (pid > 0 && asprintf(&text, "%s (process %d, %s)", explain(rc), pid, comm) < 0)
		text = NULL;
	repair_report_error(run->report, shown, text ? text : explain(rc), left);
}

/* ---- looking ---- */

static int told_change(void *ctx, const struct jsonl_repair_change *c, const void *data)
{
	repair_report_change(((struct run *)ctx)->report, c);
	return 0;
}

static bool is_alien(const struct jsonl_repair_counts *counts)
{
	return counts->alien && !counts->records;
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

/* The new file is read once more: there must be nothing left to repair in it. */
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

static void repair_bare(struct run *run, int dir, int fd, const char *name,
			const char *shown, const char *path)
{
	struct work w = {.run = run,
			 .rewrite = {.store = {.state_fd = run->state_fd,
					       .quarantine = run->quarantine,
					       .dir_fd = dir,
					       .old_fd = fd,
					       .name = name,
					       .path = path},
				     .mounted = run->mounted,
				     .fill = fill}};
	cleanup_free char *kept = NULL;
	struct ctl_place place = {0};
	struct stat st;
	int rc;

	/* A walk may have come into a mount. */
	rc = ctl_place_find(shown, &place);
	if (rc == 0 && place.inside)
		rc = -EXDEV;
	ctl_place_free(&place);
	if (rc == 0)
		rc = ctl_rewrite(&w.rewrite);
	if (rc == 0) {
		kept =
		    ctl_rewrite_kept(&w.rewrite, shown, run->root, run->request->state);
		repair_report_end(run->report, &w.counts, true,
				  kept ? kept : w.rewrite.store.kept,
				  w.rewrite.store.bad);
	} else if (ctl_rewrite_unsynced(&w.rewrite)) {
		repair_report_error(run->report, shown, CTL_REWRITE_UNSYNCED, false);
	} else {
		tell_failure(run, shown, fstat(fd, &st) < 0 ? NULL : &st, rc, true);
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

static int repair_served(struct run *run, const char *shown, const char *path)
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
		if (archive &&
		    asprintf(&kept, "%s/.jsonlfs/archive/%s", run->root, archive) < 0)
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

/* The daemon does it, where there is one that serves this very file. */
static void apply(struct run *run, int dir, int fd, const char *name, const char *shown,
		  const char *path)
{
	struct stat st, root;
	int rc;

	if (!run->served || fstat(fd, &st) < 0 || stat(run->root, &root) < 0 ||
	    st.st_dev != root.st_dev) {
		repair_bare(run, dir, fd, name, shown, path);
		return;
	}
	rc = repair_served(run, shown, path);
	if (rc)
		tell_failure(run, shown, fstat(fd, &st) < 0 ? NULL : &st, rc, true);
}

/* ---- one file ---- */

static void look_at(struct run *run, int dir, int fd, const char *name, const char *shown,
		    const char *path)
{
	struct jsonl_repair look = {.change = told_change, .ctx = run};
	struct jsonl_repair_counts counts = {0};
	int rc;

	if (run->request->apply)
		look.change = NULL; /* what is done is told when it is done */
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	repair_report_begin(run->report, shown);
	rc = ctl_options_limits(run->policy, path, &run->limits);
	if (rc == 0)
		rc = jsonl_repair_fd(&jsonl_io_system, fd, &run->limits, &look, &counts);
	if (rc == 0 && is_alien(&counts))
		rc = JSONL_UNKNOWN_TAIL;
	if (rc)
		tell_failure(run, shown, NULL, rc, rc > 0);
	else if (run->request->apply && jsonl_repair_is_needed(&counts))
		apply(run, dir, fd, name, shown, path);
	else
		repair_report_end(run->report, &counts, false, "", "");
}

static int visit_file(void *ctx, int dir, const char *name, const char *shown,
		      const char *path, const struct stat *st)
{
	struct run *run = ctx;
	struct stat now;
	cleanup_close int fd =
	    openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &now) < 0) {
		if (errno != ENOENT)
			tell_failure(run, shown, NULL, -errno, false);
	} else if (S_ISREG(now.st_mode)) {
		look_at(run, dir, fd, name, shown, path);
	}
	return 0;
}

static void told_error(void *ctx, const char *shown, int code)
{
	tell_failure(ctx, shown, NULL, code, false);
}

/* ---- one path ---- */

/* A file that is named is repaired whatever its name, where it really lies. */
static int repair_named(struct run *run, const char *path)
{
	cleanup_free char *real = realpath(path, NULL);
	char *slash;

	if (!real)
		return -errno;
	slash = strrchr(real, '/');
	*slash = '\0';
	cleanup_close int dir =
	    open(slash == real ? "/" : real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return -errno;
	return visit_file(run, dir, slash + 1, path, run->vault->name, NULL);
}

static int repair_directory(struct run *run, const char *path)
{
	const struct ctl_walk walk = {
	    .policy = run->policy, .file = visit_file, .error = told_error, .ctx = run};

	return ctl_walk(&walk, path, run->vault->prefix);
}

static int open_state(struct run *run, const struct ctl_vault *v,
		      const struct jsonl_config *config)
{
	run->state_fd = ctl_vault_state(v, run->request->state);
	/* Of a file that is in no vault the root is the file itself. */
	if ((run->state_fd == -ENOENT || run->state_fd == -ENOTDIR) &&
	    !run->request->state)
		run->state_fd = -1;
	if (run->state_fd < -1)
		return run->state_fd;
	if (run->request->apply) {
		cleanup_close int fd = ctl_control_connect(v);

		run->served = fd != -ENOENT;
	}
	if (run->state_fd < 0 || !run->request->apply || run->served)
		return 0;
	return jsonl_quarantine_new(&jsonl_io_system, run->state_fd,
				    config->quarantine_max, &run->quarantine);
}

static int repair_in(struct run *run, struct ctl_vault *v, const char *path)
{
	struct jsonl_config config;
	struct stat st;
	int rc = jsonl_config_init(&config), code = 0;

	if (rc == 0)
		code = ctl_options_apply(&ctl_repair, &run->request->options, v, &config);
	if (rc == 0 && code == 0)
		rc = jsonl_policy_new(&config, &run->policy, NULL);
	if (rc == 0 && code == 0) {
		run->vault = v;
		run->root = v->root;
		rc = stat(path, &st) < 0 ? -errno : open_state(run, v, &config);
		if (rc == 0 && S_ISDIR(st.st_mode)) {
			rc = repair_directory(run, path);
		} else if (rc == 0 && S_ISREG(st.st_mode)) {
			rc = repair_named(run, path);
		} else if (rc == 0) {
			rc = -EINVAL;
		}
		jsonl_quarantine_free(run->quarantine);
		if (run->state_fd >= 0)
			(void)close(run->state_fd);
	}
	jsonl_policy_free(run->policy);
	jsonl_config_deinit(&config);
	if (rc)
		tell_failure(run, path, NULL, rc, false);
	return code;
}

static int repair_path(const struct request *request, struct repair_report *report,
		       const char *path)
{
	struct run run = {.request = request, .report = report, .state_fd = -1};
	struct ctl_place place = {0};
	struct ctl_vault v = {0};
	int rc = ctl_place_find(path, &place), code = 0;

	run.mounted = place.anywhere;
	if (rc == 0)
		rc = ctl_vault_find(path, &v);
	if (rc < 0)
		tell_failure(&run, path, NULL, rc, false);
	else
		code = repair_in(&run, &v, path);
	ctl_vault_free(&v);
	ctl_place_free(&place);
	return code;
}

static int parse(struct request *r, int argc, char **argv)
{
	int rc = 0, out = 1;
	bool options = true;

	for (int i = 1; i < argc && rc == 0; i++) {
		if (!options || argv[i][0] != '-')
			argv[out++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			options = false;
		else if (strcmp(argv[i], "--json") == 0)
			r->json = true;
		else if (strcmp(argv[i], "--all") == 0)
			r->all = true;
		else if (strcmp(argv[i], "--apply") == 0)
			r->apply = true;
		else if (!ctl_take_value("--state", argc, argv, &i, &r->state))
			rc = ctl_options_take(&ctl_repair, &r->options, argc, argv, &i);
	}
	r->paths = argv + 1;
	r->npaths = out - 1;
	if (rc == 0 && r->npaths == 0)
		rc = ctl_usage(&ctl_repair, "a path is missing");
	return rc;
}

static int repair_run(int argc, char **argv)
{
	struct request request = {0};
	struct repair_report *report;
	int code = parse(&request, argc, argv);

	if (code)
		return code;
	report = repair_report_new(request.json, request.all, request.apply);
	if (!report) {
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	for (int i = 0; i < request.npaths && !(code & CTL_USAGE); i++)
		code |= repair_path(&request, report, request.paths[i]);
	if (!(code & CTL_USAGE))
		code |= repair_report_finish(report);
	repair_report_free(report);
	return code;
}

const struct ctl_command ctl_repair = {
    .name = "repair",
    .run = repair_run,
    .synopsis = "[--apply] [--json] [--all] [--state=DIR] [--OPTION=VALUE...] PATH...",
    .summary = "take what is no record out of files",
    .help =
	"\n"
	"PATH is a vault, mounted or not, a directory in it, or a file. Without --apply\n"
	"nothing is changed and what would be done is told. Of a mounted vault the "
	"daemon\n"
	"does it.\n"
	"\n"
	"  --apply      do it: lines that are no records are set aside, fused records\n"
	"               ({...}{...}) are split when all of them are valid, NULs "
	"removed,\n"
	"               the last newline added; the original is kept\n"
	"  --json       one JSON document for programs\n"
	"  --all        tell every change; without it 20 of a file\n"
	"  --state=DIR  the state directory, if it is not .jsonlfs in the vault\n"
	"\n"
	"In a vault what is set aside goes to the quarantine, the original to the "
	"archive;\n"
	"elsewhere they lie beside, as NAME.bad-UTCSTAMP and NAME.orig-UTCSTAMP. A file "
	"is\n"
	"replaced as a whole, with its mode, owner, ACL, attributes and times, and only "
	"when\n"
	"nobody has it open for writing. What a record is, as the mount has it: "
	"--match,\n"
	"--exclude, --generations, --maxdepth, --maxrecord, --value, --quarantine_max,\n"
	"--config.\n"
	"\n"
	"Exit status: 0 nothing to repair, 1 repaired, 4 damage is left (without "
	"--apply,\n"
	"or not repaired), 8 something could not be read or done, 16 wrong usage; they "
	"add\n"
	"up.",
};
