/* SPDX-License-Identifier: MIT */
/* jsonlfsctl reap: deletes rotated generations, by number or by age. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/kind.h"
#include "base/memory.h"
#include "ctl/repair/guard.h"
#include "ctl/repair/holder.h"
#include "ctl/find/walk.h"
#include "ctl/kept/selection.h"
#include "ctl/options.h"
#include "match/generation.h"

struct request {
	bool dry;
	bool by_count, by_age;
	uint64_t keep, age; /* seconds */
	struct ctl_options options;
	char **paths;
	int npaths;
};

struct generation {
	char *name;
	size_t live;   /* length of the live file's name, which this one begins with */
	int64_t mtime; /* nanoseconds */
	uint64_t size;
	dev_t dev;
	ino_t ino;
};

struct run {
	const struct request *request;
	const struct jsonl_policy *policy;
	const char *only; /* the name of one live file; NULL: all */
	/* Of the directory at hand: */
	struct generation *list;
	size_t count, cap;
	bool dirty; /* something was deleted in it */
	uint64_t deleted, bytes;
	int code;
};

/* ---- which files ---- */

/* Returns true when an ending is a counter or a time, as rotations give. Copies (.bak,
 * .orig, ~) were made by somebody on purpose. */
static bool is_rotation(const char *ending)
{
	return (ending[0] == '.' || ending[0] == '-') && ending[1] >= '0' &&
	       ending[1] <= '9' && strspn(ending, "0123456789.,:_+-TZ") == strlen(ending);
}

struct stem {
	const struct run *run;
	const char *path; /* as the policy sees it */
	size_t base;	  /* where the name begins */
	size_t length;	  /* of the live name, when found */
};

static bool is_live(void *ctx, size_t length)
{
	struct stem *s = ctx;
	cleanup_free char *path = strndup(s->path, s->base + length);

	if (!path || !length || !is_rotation(s->path + s->base + length) ||
	    jsonl_policy_classify(s->run->policy, path) != JSONL_CLASS_GOVERNED)
		return false;
	if (s->run->only && strcmp(path + s->base, s->run->only) != 0)
		return false;
	s->length = length;
	return true;
}

static int add(struct run *run, const struct generation *g)
{
	if (jsonl_grow(&run->list, &run->cap, run->count + 1, sizeof(*run->list)))
		return -ENOMEM;
	run->list[run->count++] = *g;
	return 0;
}

static int visit_file(void *ctx, int dir, const char *name, const char *shown,
		      const char *path, const struct stat *st)
{
	struct run *run = ctx;
	struct stem stem = {
	    .run = run, .path = path, .base = strlen(path) - strlen(name)};
	struct generation g = {
	    .mtime = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
	    .size = (uint64_t)st->st_size,
	    .dev = st->st_dev,
	    .ino = st->st_ino,
	};
	int rc;

	/* A live file is never one of its own generations, whatever its name. */
	if (jsonl_policy_classify(run->policy, path) != JSONL_CLASS_PLAIN ||
	    !jsonl_generation_stems(name, strlen(name), is_live, &stem))
		return 0;
	g.name = strdup(name);
	if (!g.name)
		return -ENOMEM;
	g.live = stem.length;
	rc = add(run, &g);
	if (rc < 0)
		free(g.name);
	return rc;
}

static void told_error(void *ctx, const char *shown, int code)
{
	ctl_error("%s: %s", shown, ctl_explain(shown, code));
	((struct run *)ctx)->code |= CTL_FAILURE;
}

/* ---- deleting ---- */

/* Sorts by live file, the newest first. Names break ties, so that the order is always the
 * same. */
static int order(const void *a, const void *b)
{
	const struct generation *x = a, *y = b;
	size_t least = x->live < y->live ? x->live : y->live;
	int by_live = memcmp(x->name, y->name, least);

	if (by_live)
		return by_live;
	if (x->live != y->live)
		return x->live < y->live ? -1 : 1;
	if (x->mtime != y->mtime)
		return x->mtime > y->mtime ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* Returns true when a program still appends to a file of a mount. A lease does not show
 * programs that opened it by its former name, and for one that follows its name
 * (follow=path) /proc shows the file it opened first. So the mount is asked; /proc only
 * where it does not answer. */
static bool has_writers(int fd, const struct stat *st)
{
	struct statfs where;
	char count[16], comm[32];

	if (fstatfs(fd, &where) == 0 && !fs_kind_of(&where)->fuse)
		return false;
	/* A count has no leading zero. */
	if (fgetxattr(fd, "user.jsonlfs.writers", count, sizeof(count)) > 0)
		return count[0] != '0';
	return ctl_holder(st, comm) != 0;
}

/* Deletes a generation if it is still the file that was judged and nobody writes to
 * it. */
static int delete_generation(const struct generation *g, int dir)
{
	cleanup_close int fd = ctl_open_file(dir, g->name, O_RDONLY, 0);
	struct ctl_guard guard;
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 ? fd : -errno;
	if (st.st_dev != g->dev || st.st_ino != g->ino ||
	    (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec != g->mtime)
		return -ESTALE;
	rc = ctl_guard_take(&guard, fd);
	if (rc == 0 && has_writers(fd, &st))
		rc = -EBUSY;
	/* A rotation may have given the name to another file meanwhile. */
	if (rc == 0 && fstatat(dir, g->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		rc = -errno;
	if (rc == 0 && (st.st_dev != g->dev || st.st_ino != g->ino))
		rc = -ESTALE;
	if (rc == 0 && unlinkat(dir, g->name, 0) < 0)
		rc = -errno;
	ctl_guard_release(&guard);
	return rc;
}

static void tell_failure(const struct generation *g, const char *shown, int rc)
{
	struct stat st = {.st_dev = g->dev, .st_ino = g->ino};
	char comm[32];
	int pid = rc == -EBUSY ? ctl_holder(&st, comm) : 0;

	if (pid > 0)
		ctl_error("%s: process %d (%s) still writes to it: left; let the program "
			  "open its log again",
			  shown, pid, comm);
	else if (pid < 0)
		ctl_error(
		    "%s: cannot be told to be closed, for some process hangs: left; "
		    "ps -eo pid,stat,wchan:20,comm shows which",
		    shown);
	else if (rc == -EBUSY)
		ctl_error("%s: is still open for writing: left; let the program open its "
			  "log again",
			  shown);
	else if (rc == -ESTALE)
		ctl_error("%s: changed at this moment: left", shown);
	else
		ctl_error("%s: %s", shown, ctl_explain(shown, rc));
}

static void reap_one(struct run *run, const struct generation *g, int dir,
		     const char *shown_dir)
{
	size_t len = strlen(shown_dir);
	cleanup_free char *shown = NULL;
	int rc;

	if (asprintf(&shown, "%s%s%s", shown_dir,
		     len && shown_dir[len - 1] != '/' ? "/" : "", g->name) < 0)
		shown = NULL;
	rc = !shown ? -ENOMEM : run->request->dry ? 0 : delete_generation(g, dir);
	if (rc < 0) {
		tell_failure(g, shown ? shown : g->name, rc);
		run->code |= CTL_FAILURE;
		return;
	}
	run->dirty |= !run->request->dry;
	run->deleted++;
	run->bytes += g->size;
	(void)ctl_print_name(stdout, shown);
	putchar('\n');
}

static void forget_all(struct run *run)
{
	for (size_t i = 0; i < run->count; i++)
		free(run->list[i].name);
	free(run->list);
	run->list = NULL;
	run->count = run->cap = 0;
}

/* Deletes those generations in a directory that are beyond the limits. */
static void left_directory(void *ctx, int dir, const char *shown)
{
	struct run *run = ctx;
	const struct request *r = run->request;
	int64_t before = ((int64_t)time(NULL) - (int64_t)r->age) * 1000000000;
	uint64_t nth = 0;

	if (run->count)
		qsort(run->list, run->count, sizeof(*run->list), order);
	for (size_t i = 0; i < run->count; i++) {
		const struct generation *g = &run->list[i];
		const struct generation *last = i ? g - 1 : NULL;

		if (!last || last->live != g->live ||
		    memcmp(last->name, g->name, g->live) != 0)
			nth = 0;
		nth++;
		if ((!r->by_count || nth > r->keep) && (!r->by_age || g->mtime < before))
			reap_one(run, g, dir, shown);
	}
	if (run->dirty && fsync(dir) < 0) {
		ctl_error("%s: what was deleted may be there again after a power cut: %s",
			  shown, jsonl_error_text(-errno));
		run->code |= CTL_FAILURE;
	}
	run->dirty = false;
	forget_all(run);
}

/* ---- one path ---- */

/* Deletes in a directory; of FILE, which need not exist, the generations alone. */
static int reap_in(struct run *run, const struct ctl_vault *v, const char *path)
{
	const char *slash = strrchr(path, '/');
	bool file = !ctl_vault_is_directory(v);
	cleanup_close int fd = ctl_vault_open_directory(v);
	cleanup_free char *shown = NULL;
	struct ctl_walk walk = {.policy = run->policy,
				.every = true,
				.shallow = file,
				.file = visit_file,
				.left = left_directory,
				.error = told_error,
				.ctx = run};

	if (fd < 0)
		return fd;
	run->only = file ? v->spot.name : NULL;
	if (file)
		shown = slash ? strndup(path, (size_t)(slash - path) + (slash == path))
			      : strdup("");
	else
		shown = strdup(path);
	return shown ? ctl_walk(&walk, fd, shown, v->prefix) : -ENOMEM;
}

static int reap_path(const struct request *r, struct run *run, const char *path)
{
	cleanup_free char *error = NULL;
	struct jsonl_policy *policy = NULL;
	struct jsonl_config config;
	struct ctl_vault v;
	int rc = ctl_vault_place(path, &v), code = 0;

	if (rc < 0) {
		ctl_error("%s: %s", path, ctl_explain(path, rc));
		return CTL_FAILURE;
	}
	rc = v.part ? -EXDEV : jsonl_config_init(&config);
	if (rc == 0) {
		code = ctl_options_apply(&ctl_reap, &r->options, &v, &config);
		if (code == 0)
			rc = jsonl_policy_new(&config, &policy, &error);
		if (code == 0 && rc == 0) {
			run->policy = policy;
			rc = reap_in(run, &v, path);
		}
		forget_all(run);
		jsonl_policy_free(policy);
		jsonl_config_deinit(&config);
	}
	ctl_vault_free(&v);
	if (rc < 0) {
		ctl_error("%s: %s", path, error ? error : ctl_explain(path, rc));
		code |= CTL_FAILURE;
	}
	return code;
}

static int parse_number(const char *text, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	return text[0] < '0' || text[0] > '9' || *end || errno || *number > (1ULL << 31)
		   ? -1
		   : 0;
}

static int parse_option(struct request *r, int argc, char **argv, int *i)
{
	const char *value;

	if (strcmp(argv[*i], "-n") == 0 || strcmp(argv[*i], "--dry-run") == 0) {
		r->dry = true;
		return 0;
	}
	if (ctl_take_value("--keep", argc, argv, i, &value)) {
		r->by_count = true;
		if (parse_number(value, &r->keep) == 0)
			return 0;
		return ctl_usage(&ctl_reap, "--keep is a number, not %s", value);
	}
	if (ctl_take_value("--older-than", argc, argv, i, &value)) {
		r->by_age = true;
		if (ctl_parse_age(value, &r->age) == 0)
			return 0;
		return ctl_usage(&ctl_reap,
				 "--older-than is a number and s, m, h, d or w, not %s",
				 value);
	}
	return ctl_options_take(&ctl_reap, &r->options, argc, argv, i);
}

static int parse(struct request *r, int argc, char **argv)
{
	int i = 0, out = 1, rc = 0;

	while (rc == 0 && (i = ctl_next_option(argc, argv, i + 1, &out)) < argc)
		rc = parse_option(r, argc, argv, &i);
	r->paths = argv + 1;
	r->npaths = out - 1;
	if (rc == 0 && r->npaths == 0)
		rc = ctl_usage(&ctl_reap, "a directory or file is missing");
	if (rc == 0 && !r->by_count && !r->by_age)
		rc = ctl_usage(&ctl_reap, "--keep or --older-than is missing");
	return rc;
}

static int reap_run(int argc, char **argv)
{
	struct request request = {0};
	struct run run = {.request = &request};
	char number[CTL_NUMBER], size[CTL_NUMBER];
	int code = parse(&request, argc, argv);

	for (int i = 0; i < request.npaths && code == 0; i++)
		code = reap_path(&request, &run, request.paths[i]);
	if (code & CTL_USAGE)
		return code;
	printf("%s generation%s, %s, %s\n", ctl_number(run.deleted, number),
	       run.deleted == 1 ? "" : "s", ctl_bytes(run.bytes, size),
	       request.dry ? "would be deleted" : "deleted");
	return code | run.code;
}

const struct ctl_command ctl_reap = {
    .name = "reap",
    .run = reap_run,
    .synopsis = "[-n] --keep=N|--older-than=AGE [--OPTION=VALUE...] DIR|FILE...",
    .summary = "delete rotated generations by number or by age",
    .help =
	"\n"
	"Deletes rotated generations of each governed file below DIR, or of the live\n"
	"file FILE: those that a rotation has named by a counter (x.jsonl.1) or a\n"
	"time (x.jsonl-20261120, x.jsonl.20261120T101112.123456789Z). It never\n"
	"deletes a live file, a copy (.bak, .orig, .old, .save, ~), a compressed\n"
	"file, or one that a program still writes to. The age is that of the last\n"
	"change. With both limits a file must be beyond both.\n"
	"\n"
	"  --keep=N          keep the N newest generations of each file\n"
	"  --older-than=AGE  a number and s, m, h, d or w: 30d\n"
	"  -n, --dry-run     only print what would be deleted\n"
	"\n"
	"Which files are governed is taken from the mount of a mounted vault, or from\n"
	"--match, --exclude, --generations, --config.\n"
	"\n"
	"Exit status: 0, 8 something could not be deleted, 16 wrong usage.",
};
