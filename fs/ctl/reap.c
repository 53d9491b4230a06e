/* jsonlfsctl reap: deletes rotated generations, by number or by age. */
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "ctl.h"
#include "generation.h"
#include "holder.h"
#include "options.h"
#include "place.h"
#include "walk.h"

struct request {
	bool dry;
	bool by_count, by_age;
	uint64_t keep, age; /* seconds */
	struct ctl_options options;
	char **paths;
	int npaths;
};

struct generation {
	char *shown;
	size_t live;   /* bytes of shown that are the path of the live file */
	int64_t mtime; /* nanoseconds */
	uint64_t size;
	dev_t dev;
	ino_t ino;
};

struct run {
	const struct request *request;
	const struct jsonl_policy *policy;
	const char *only; /* the name of one live file; NULL: all */
	struct generation *list;
	size_t count, cap;
	/* The directory that is being worked in; it is synced when it is left. */
	char *dir;
	int dir_fd;
	bool dirty;
	uint64_t deleted, bytes;
	int code;
};

/* ---- which files ---- */

/* Rotations count up or name a moment. Copies that somebody made (.bak, .orig, ~) are
 * somebody's. */
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
	if (run->count == run->cap) {
		size_t cap = run->cap ? run->cap * 2 : 64;
		void *grown = realloc(run->list, cap * sizeof(*run->list));

		if (!grown)
			return -ENOMEM;
		run->list = grown;
		run->cap = cap;
	}
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
	g.shown = strdup(shown);
	if (!g.shown)
		return -ENOMEM;
	g.live = strlen(shown) - strlen(name) + stem.length;
	rc = add(run, &g);
	if (rc < 0)
		free(g.shown);
	return rc;
}

static void told_error(void *ctx, const char *shown, int code)
{
	ctl_error("%s: %s", shown, jsonl_error_text(code));
	((struct run *)ctx)->code |= CTL_FAILURE;
}

/* ---- deleting ---- */

/* By live file, and of that the newest first; of the same moment the higher counter is
 * the older one, but a later stamp the newer one: names decide last, and always alike. */
static int order(const void *a, const void *b)
{
	const struct generation *x = a, *y = b;
	size_t least = x->live < y->live ? x->live : y->live;
	int by_live = memcmp(x->shown, y->shown, least);

	if (by_live)
		return by_live;
	if (x->live != y->live)
		return x->live < y->live ? -1 : 1;
	if (x->mtime != y->mtime)
		return x->mtime > y->mtime ? -1 : 1;
	return strcmp(x->shown, y->shown);
}

/* A lease knows nothing of those who opened the file by its former name in a mount. Does
 * the mount know of nobody who appends to it? Only it can tell: a descriptor that follows
 * its name into the new file (follow=path) still shows in /proc as this one. And it tells
 * without a look at every descriptor of every process. */
static bool may_have_writers(int fd)
{
	struct statfs where;
	char count[16];

	if (fstatfs(fd, &where) == 0 && where.f_type != FUSE_SUPER_MAGIC)
		return false;
	return fgetxattr(fd, "user.jsonlfs.writers", count, sizeof(count)) != 1 ||
	       count[0] != '0';
}

/* Deletes it if it is still the file that was judged, and nobody writes to it. */
static int delete (const struct generation *g, int dir, const char *name)
{
	cleanup_close int fd =
	    openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct ctl_guard guard;
	struct stat st;
	char comm[32];
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != g->dev || st.st_ino != g->ino ||
	    (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec != g->mtime)
		return -ESTALE;
	rc = ctl_guard_take(&guard, fd);
	if (rc == 0 && may_have_writers(fd) && ctl_holder(&st, comm))
		rc = -EBUSY;
	/* That took a while, in which a rotation by numbers may have moved the name on. */
	if (rc == 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		rc = -errno;
	if (rc == 0 && (st.st_dev != g->dev || st.st_ino != g->ino))
		rc = -ESTALE;
	if (rc == 0 && unlinkat(dir, name, 0) < 0)
		rc = -errno;
	ctl_guard_release(&guard);
	return rc;
}

static void tell_failure(const struct generation *g, int rc)
{
	struct stat st = {.st_dev = g->dev, .st_ino = g->ino};
	char comm[32];
	int pid = rc == -EBUSY ? ctl_holder(&st, comm) : 0;

	if (pid > 0)
		ctl_error("%s: process %d (%s) still writes to it: left; let the program "
			  "open its log again",
			  g->shown, pid, comm);
	else if (pid < 0)
		ctl_error(
		    "%s: cannot be told to be closed, for some process hangs: left; "
		    "ps -eo pid,stat,wchan:20,comm shows which",
		    g->shown);
	else if (rc == -EBUSY)
		ctl_error("%s: is still open for writing: left; let the program open its "
			  "log again",
			  g->shown);
	else if (rc == -ESTALE)
		ctl_error("%s: changed at this moment: left", g->shown);
	else
		ctl_error("%s: %s", g->shown, jsonl_error_text(rc));
}

static void leave_directory(struct run *run)
{
	if (run->dirty && fsync(run->dir_fd) < 0) {
		ctl_error("%s: what was deleted may be there again after a power cut: %s",
			  run->dir, jsonl_error_text(-errno));
		run->code |= CTL_FAILURE;
	}
	run->dirty = false;
	if (run->dir && run->dir_fd >= 0)
		(void)close(run->dir_fd);
	free(steal_ptr(&run->dir));
}

/* 0 or -errno. */
static int enter_directory(struct run *run, const char *shown)
{
	const char *slash = strrchr(shown, '/');
	cleanup_free char *path =
	    slash ? strndup(shown, slash == shown ? 1 : (size_t)(slash - shown))
		  : strdup(".");

	if (!path)
		return -ENOMEM;
	if (run->dir && strcmp(run->dir, path) == 0)
		return run->dir_fd < 0 ? -ENOENT : 0;
	leave_directory(run);
	run->dir = steal_ptr(&path);
	run->dir_fd = open(run->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return run->dir_fd < 0 ? -errno : 0;
}

static void reap_one(struct run *run, const struct generation *g)
{
	const char *slash = strrchr(g->shown, '/');
	int rc = 0;

	if (!run->request->dry) {
		rc = enter_directory(run, g->shown);
		if (rc == 0)
			rc = delete (g, run->dir_fd, slash ? slash + 1 : g->shown);
		run->dirty |= rc == 0;
	}
	if (rc < 0) {
		tell_failure(g, rc);
		run->code |= CTL_FAILURE;
		return;
	}
	run->deleted++;
	run->bytes += g->size;
	(void)ctl_print_name(stdout, g->shown);
	putchar('\n');
}

static void reap_all(struct run *run)
{
	const struct request *r = run->request;
	int64_t before = ((int64_t)time(NULL) - (int64_t)r->age) * 1000000000;
	uint64_t nth = 0;

	if (run->count)
		qsort(run->list, run->count, sizeof(*run->list), order);
	for (size_t i = 0; i < run->count; i++) {
		const struct generation *g = &run->list[i];
		const struct generation *last = i ? g - 1 : NULL;

		if (!last || last->live != g->live ||
		    memcmp(last->shown, g->shown, g->live) != 0)
			nth = 0;
		nth++;
		if ((!r->by_count || nth > r->keep) && (!r->by_age || g->mtime < before))
			reap_one(run, g);
	}
	leave_directory(run);
	for (size_t i = 0; i < run->count; i++)
		free(run->list[i].shown);
	free(run->list);
	run->list = NULL;
	run->count = run->cap = 0;
}

/* ---- one path ---- */

/* FILE stands for its directory, and there for the generations of that file alone. */
static int reap_in(struct run *run, const struct ctl_vault *v, const char *path,
		   bool file)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *dir = NULL;
	struct ctl_walk walk = {.policy = run->policy,
				.every = true,
				.shallow = file,
				.file = visit_file,
				.error = told_error,
				.ctx = run};

	if (!file)
		return ctl_walk(&walk, path, v->prefix);
	dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path))
		    : strdup(".");
	if (!dir)
		return -ENOMEM;
	run->only = slash ? slash + 1 : path;
	return ctl_walk(&walk, dir, v->prefix);
}

static int reap_policy(const struct request *r, struct run *run, const char *path,
		       bool file)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *error = NULL;
	cleanup_free char *dir = NULL;
	struct jsonl_policy *policy = NULL;
	struct jsonl_config config;
	struct ctl_vault v = {0};
	int rc, code = 0;

	/* The live file need not exist: its directory must. */
	if (file)
		dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path))
			    : strdup(".");
	else
		dir = strdup(path);
	rc = dir ? ctl_vault_find(dir, &v) : -ENOMEM;
	if (rc == 0)
		rc = jsonl_config_init(&config);
	if (rc == 0) {
		code = ctl_options_apply(&ctl_reap, &r->options, &v, &config);
		if (code == 0)
			rc = jsonl_policy_new(&config, &policy, &error);
		if (code == 0 && rc == 0) {
			run->policy = policy;
			rc = reap_in(run, &v, path, file);
		}
		jsonl_policy_free(policy);
		jsonl_config_deinit(&config);
	}
	ctl_vault_free(&v);
	if (rc < 0) {
		ctl_error("%s: %s", path, error ? error : jsonl_error_text(rc));
		code |= CTL_FAILURE;
	}
	return code;
}

static int reap_path(const struct request *r, struct run *run, const char *path)
{
	struct stat st;
	int code;

	if (stat(path, &st) < 0 && errno != ENOENT) {
		ctl_error("%s: %s", path, jsonl_error_text(-errno));
		return CTL_FAILURE;
	}
	run->only = NULL;
	code = reap_policy(r, run, path, stat(path, &st) < 0 || !S_ISDIR(st.st_mode));
	reap_all(run);
	return code;
}

static int parse_number(const char *text, uint64_t *number, const char **rest)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	*rest = end;
	return text[0] < '0' || text[0] > '9' || errno || *number > (1ULL << 31) ? -1 : 0;
}

static int parse_age(const char *text, uint64_t *seconds)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
	const char *rest;

	if (parse_number(text, seconds, &rest) < 0 || strlen(rest) != 1)
		return -1;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (units[i].unit == *rest) {
			*seconds *= units[i].seconds;
			return 0;
		}
	}
	return -1;
}

static int parse_option(struct request *r, int argc, char **argv, int *i)
{
	const char *value, *rest;

	if (strcmp(argv[*i], "-n") == 0 || strcmp(argv[*i], "--dry-run") == 0) {
		r->dry = true;
		return 0;
	}
	if (ctl_take_value("--keep", argc, argv, i, &value)) {
		r->by_count = true;
		if (parse_number(value, &r->keep, &rest) == 0 && *rest == '\0')
			return 0;
		return ctl_usage(&ctl_reap, "--keep is a number, not %s", value);
	}
	if (ctl_take_value("--older-than", argc, argv, i, &value)) {
		r->by_age = true;
		if (parse_age(value, &r->age) == 0)
			return 0;
		return ctl_usage(&ctl_reap,
				 "--older-than is a number and s, m, h, d or w, not %s",
				 value);
	}
	return ctl_options_take(&ctl_reap, &r->options, argc, argv, i);
}

static int parse(struct request *r, int argc, char **argv)
{
	bool options = true;
	int out = 1, rc = 0;

	for (int i = 1; i < argc && rc == 0; i++) {
		if (!options || argv[i][0] != '-')
			argv[out++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			options = false;
		else
			rc = parse_option(r, argc, argv, &i);
	}
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
	printf("%s generations, %s, %s\n", ctl_number(run.deleted, number),
	       ctl_bytes(run.bytes, size), request.dry ? "would be deleted" : "deleted");
	return code | run.code;
}

const struct ctl_command ctl_reap = {
    .name = "reap",
    .run = reap_run,
    .synopsis = "[-n] --keep=N|--older-than=AGE [--OPTION=VALUE...] DIR|FILE...",
    .summary = "delete rotated generations by number or by age",
    .help =
	"\n"
	"Of each governed file below DIR, or of the live file FILE, deletes generations "
	"that\n"
	"a rotation has named: a counter (x.jsonl.1) or a moment (x.jsonl-20261120,\n"
	"x.jsonl.20261120T101112.123456789Z). Never a live file, never copies (.bak, "
	".orig,\n"
	".old, .save, ~) or compressed ones, never one that a program still writes to. "
	"The\n"
	"age is that of the last change. With both limits a file must be beyond both.\n"
	"\n"
	"  --keep=N          keep the N newest generations of each file\n"
	"  --older-than=AGE  a number and s, m, h, d or w: 30d\n"
	"  -n, --dry-run     only tell what would be deleted\n"
	"\n"
	"Which files are governed, as the mount has it (a mounted vault's own options "
	"are\n"
	"the defaults): --match, --exclude, --generations, --config.\n"
	"\n"
	"Exit status: 0, 8 something could not be deleted, 16 wrong usage.",
};
