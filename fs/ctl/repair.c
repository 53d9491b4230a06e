/* jsonlfsctl repair: takes out of a file what is no record, and keeps everything. */
#include "repair.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "ctl.h"
#include "options.h"
#include "place.h"
#include "repair_report.h"
#include "repair_store.h"
#include "walk.h"

#define OUT_PIECE  (256UL << 10) /* bytes that are written at once */
#define WATCH_MS   1300		 /* names that a mount remembers: a second, and some */
#define WATCH_STEP 10
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
	struct jsonl_limits limits;
	struct jsonl_quarantine *quarantine;
	const char *root;
	int state_fd;
	const char *prefix; /* from the vault's root to the path */
	bool mounted;	    /* some jsonlfs is */
};

/* One file that is being repaired. */
struct work {
	struct run *run;
	struct ctl_guard guard;
	struct repair_store store;
	struct jsonl_replace replace;
	char *out;
	size_t out_len;
};

/* ---- saying why not ---- */

static const char *explain(int rc)
{
	switch (rc) {
	case -EBUSY:
		return "is open for writing: nothing was changed; stop the program that "
		       "writes it, and repair again";
	case -EWOULDBLOCK:
		return "is locked by another program: nothing was changed; repair again "
		       "when that has ended";
	case -ESTALE:
		return "changed while it was read: nothing was changed by this; stop the "
		       "program that writes it, and repair again";
	case -EMLINK:
		return "has more than one name (hard links), of which a repair would "
		       "leave "
		       "the others behind: nothing was changed; remove the others first";
	case -ENOSPC:
		return "no space on the disk, or in the quarantine: nothing was changed; "
		       "make room (jsonlfsctl quarantine drop) or raise "
		       "--quarantine_max";
	case -EACCES:
	case -EPERM:
		return "permission denied: nothing was changed; repair as the owner of "
		       "the "
		       "file and of .jsonlfs, or as root (and look whether lsattr shows "
		       "the "
		       "attribute a or i)";
	case -EXDEV:
		return "lies in a mount of jsonlfs: nothing was changed; unmount that, "
		       "or "
		       "name the backing directory";
	case JSONL_TOO_LONG:
	case JSONL_UNKNOWN_TAIL:
		return NOT_JSON;
	default:
		return jsonl_error_text(rc);
	}
}

static void tell_failure(struct run *run, const char *shown, const struct stat *st,
			 int rc, bool left)
{
	cleanup_free char *text = NULL;
	char comm[32];
	int pid = rc == -EBUSY && st ? ctl_holder(st, comm) : 0;

	if (pid && asprintf(&text, "%s (process %d, %s)", explain(rc), pid, comm) < 0)
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
	return len ? jsonl_replace_write(&w->replace, w->out, len) : 0;
}

static int keep(void *ctx, const void *data, size_t len)
{
	struct work *w = ctx;
	int rc = 0;

	if (w->out_len + len > OUT_PIECE)
		rc = flush(w);
	if (rc == 0 && len > OUT_PIECE)
		return jsonl_replace_write(&w->replace, data, len);
	memcpy(w->out + w->out_len, data, len);
	w->out_len += len;
	return rc;
}

static int change(void *ctx, const struct jsonl_repair_change *c, const void *data)
{
	struct work *w = ctx;

	repair_report_change(w->run->report, c);
	return c->kind == JSONL_REPAIR_SET_ASIDE ? repair_store_bad(&w->store, c, data)
						 : 0;
}

static int still_ours(void *ctx, uint64_t bytes)
{
	const struct work *w = ctx;

	/* Asking /proc takes too long to do it again and again. */
	return w->guard.lease ? ctl_guard_check(&w->guard) : 0;
}

/* The new file is read once more: there must be nothing left to repair in it. */
static int verify(struct work *w, const struct jsonl_repair_counts *counts)
{
	const struct jsonl_repair nothing = {0};
	struct jsonl_repair_counts again;
	int rc = jsonl_repair_fd(&jsonl_io_system, w->replace.fd, &w->run->limits,
				 &nothing, &again);

	if (rc)
		return rc;
	return jsonl_repair_is_needed(&again) || again.bytes != counts->kept ||
		       again.records != counts->records
		   ? -EIO
		   : 0;
}

/* Is the name still that of the file that we read, and is that as it was? */
static int unchanged(const struct work *w, const struct stat *before)
{
	struct stat now, named;

	if (fstat(w->store.old_fd, &now) < 0 ||
	    fstatat(w->store.dir_fd, w->store.name, &named, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return now.st_size != before->st_size ||
		       now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
		       now.st_mtim.tv_nsec != before->st_mtim.tv_nsec ||
		       named.st_ino != now.st_ino || named.st_dev != now.st_dev
		   ? -ESTALE
		   : 0;
}

/* Who looked the name up before the rename gets the old file when he opens it, and waits
 * for the guard. A mount remembers names for a second: so long the original can still be
 * put back. */
static int watch(struct work *w)
{
	const struct timespec pause = {.tv_nsec = WATCH_STEP * 1000000L};
	int limit = w->run->mounted ? WATCH_MS : 0;
	int rc;

	for (int waited = 0;; waited += WATCH_STEP) {
		rc = ctl_guard_check(&w->guard);
		if (rc || waited >= limit)
			break;
		(void)nanosleep(&pause, NULL);
	}
	if (rc == 0)
		return 0;
	/* On failure the new file stays, and the original beside it. */
	return repair_store_put_back(&w->store) == 0 ? rc : 0;
}

static int rewrite(struct work *w, const struct stat *before,
		   struct jsonl_repair_counts *counts)
{
	const struct jsonl_repair repair = {
	    .keep = keep, .change = change, .progress = still_ours, .ctx = w};
	int rc;

	rc = jsonl_repair_fd(&jsonl_io_system, w->store.old_fd, &w->run->limits, &repair,
			     counts);
	if (rc == 0)
		rc = flush(w);
	if (rc == 0 && is_alien(counts))
		rc = JSONL_UNKNOWN_TAIL;
	if (rc == 0)
		rc = verify(w, counts);
	if (rc == 0)
		rc = jsonl_replace_prepare(&w->replace);
	if (rc == 0)
		rc = repair_store_settle(&w->store);
	if (rc == 0)
		rc = unchanged(w, before);
	if (rc == 0)
		rc = ctl_guard_check(&w->guard);
	return rc;
}

/* Under the lock and the guard. */
static int repair_guarded(struct work *w, struct jsonl_repair_counts *counts)
{
	cleanup_free char *out = malloc(OUT_PIECE);
	struct stat before;
	int rc;

	if (!out)
		return -ENOMEM;
	w->out = out;
	if (fstat(w->store.old_fd, &before) < 0)
		return -errno;
	if (before.st_nlink > 1)
		return -EMLINK;
	rc = jsonl_replace_begin(&w->replace, &jsonl_io_system, w->store.dir_fd,
				 w->store.name, w->store.old_fd);
	if (rc < 0)
		return rc;
	repair_store_begin(&w->store);
	rc = rewrite(w, &before, counts);
	if (rc == 0) {
		rc = jsonl_replace_commit(&w->replace, 0);
		if (rc == 0 || w->replace.renamed)
			rc = watch(w) ? -EBUSY : rc;
	}
	jsonl_replace_abort(&w->replace);
	/* Also when the original was put back. */
	if (rc && (!w->replace.renamed || !w->store.kept[0]))
		repair_store_undo(&w->store);
	repair_store_end(&w->store);
	return rc;
}

static int repair_locked(struct work *w, struct jsonl_repair_counts *counts)
{
	int rc = ctl_lock(w->store.old_fd);

	if (rc == 0)
		rc = ctl_guard_take(&w->guard, w->store.old_fd);
	if (rc < 0)
		return rc;
	rc = repair_guarded(w, counts);
	ctl_guard_release(&w->guard);
	return rc;
}

/* Where people find what was kept. */
static char *kept_path(const struct work *w, const char *shown)
{
	const char *slash = strrchr(shown, '/');
	char *path = NULL;
	int n;

	if (w->store.state_fd < 0)
		n = asprintf(&path, "%.*s%s", slash ? (int)(slash - shown) + 1 : 0, shown,
			     w->store.kept);
	else if (w->run->request->state)
		n = asprintf(&path, "%s/archive/%s", w->run->request->state,
			     w->store.kept);
	else
		n = asprintf(&path, "%s/.jsonlfs/archive/%s", w->run->root,
			     w->store.kept);
	return n < 0 ? NULL : path;
}

static void apply(struct run *run, int dir, int fd, const char *name, const char *shown,
		  const char *path)
{
	cleanup_free char *kept = NULL;
	struct jsonl_repair_counts counts = {0};
	struct work w = {.run = run,
			 .store = {.state_fd = run->state_fd,
				   .quarantine = run->quarantine,
				   .dir_fd = dir,
				   .old_fd = fd,
				   .name = name,
				   .path = path}};
	struct ctl_place place = {0};
	struct stat st;
	int rc;

	/* A walk may have come into a mount. */
	rc = ctl_place_find(shown, &place);
	if (rc == 0 && place.inside)
		rc = -EXDEV;
	ctl_place_free(&place);
	if (rc == 0)
		rc = repair_locked(&w, &counts);
	kept = kept_path(&w, shown);
	if (rc == 0)
		repair_report_end(run->report, &counts, true, kept ? kept : w.store.kept,
				  w.store.bad);
	else
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
	return visit_file(run, dir, slash + 1, path,
			  run->prefix[0] ? run->prefix : slash + 1, NULL);
}

static int repair_directory(struct run *run, const struct jsonl_config *config,
			    const char *path)
{
	cleanup_free char *error = NULL;
	struct jsonl_policy *policy = NULL;
	struct ctl_walk walk = {.file = visit_file, .error = told_error, .ctx = run};
	int rc = jsonl_policy_new(config, &policy, &error);

	if (rc < 0)
		return rc;
	walk.policy = policy;
	rc = ctl_walk(&walk, path, run->prefix);
	jsonl_policy_free(policy);
	return rc;
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
	if (run->state_fd < 0 || !run->request->apply)
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
	ctl_options_limits(&config, &run->limits);
	if (rc == 0 && code == 0) {
		run->root = v->root;
		run->prefix = v->prefix;
		rc = stat(path, &st) < 0 ? -errno : open_state(run, v, &config);
		if (rc == 0 && S_ISDIR(st.st_mode)) {
			rc = repair_directory(run, &config, path);
		} else if (rc == 0 && S_ISREG(st.st_mode)) {
			/* Of a file the prefix is the file itself, and a slash. */
			if (v->prefix[0])
				v->prefix[strlen(v->prefix) - 1] = '\0';
			rc = repair_named(run, path);
		} else if (rc == 0) {
			rc = -EINVAL;
		}
		jsonl_quarantine_free(run->quarantine);
		if (run->state_fd >= 0)
			(void)close(run->state_fd);
	}
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

	if (rc == 0 && place.inside) {
		ctl_place_refuse("repair", path, &place);
		code = CTL_FAILURE;
	}
	run.mounted = place.anywhere;
	if (rc == 0 && code == 0)
		rc = ctl_vault_find(path, &v);
	if (rc < 0)
		tell_failure(&run, path, NULL, rc, false);
	else if (code == 0)
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
    .summary = "take what is no record out of files that are not mounted",
    .help =
	"\n"
	"PATH is the backing directory of a vault, a directory in it, or a file. "
	"Without\n"
	"--apply nothing is changed and what would be done is told.\n"
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
