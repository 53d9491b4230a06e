/* jsonlfsctl check: every governed file, every line. */
#include "check_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cleanup.h"
#include "ctl.h"
#include "options.h"
#include "walk.h"

/* What the command line says; strings are borrowed from argv. */
struct request {
	bool json, all;
	unsigned jobs; /* 0: as many as there are processors */
	struct ctl_options options;
	char **paths;
	int npaths;
};

/* ---- the command line ---- */

static int parse_jobs(struct request *r, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (value[0] < '1' || value[0] > '9' || *end || n > 1000)
		return ctl_usage(&ctl_check, "--jobs is a number from 1 on, not %s",
				 value);
	r->jobs = (unsigned)n;
	return 0;
}

/* One argument that begins with a dash; may take the next. */
static int parse_option(struct request *r, int argc, char **argv, int *i)
{
	const char *value;

	if (ctl_take_value("--jobs", argc, argv, i, &value))
		return parse_jobs(r, value);
	if (strcmp(argv[*i], "--json") == 0)
		r->json = true;
	else if (strcmp(argv[*i], "--all") == 0)
		r->all = true;
	else
		return ctl_options_take(&ctl_check, &r->options, argc, argv, i);
	return 0;
}

static int parse(struct request *r, int argc, char **argv)
{
	int rc = 0, out = 1;
	bool options = true;

	for (int i = 1; i < argc && rc == 0; i++) {
		if (options && strcmp(argv[i], "--") == 0)
			options = false;
		else if (options && argv[i][0] == '-')
			rc = parse_option(r, argc, argv, &i);
		else
			argv[out++] = argv[i];
	}
	r->paths = argv + 1;
	r->npaths = out - 1;
	if (rc == 0 && r->npaths == 0)
		rc = ctl_usage(&ctl_check, "a path is missing");
	return rc;
}

/* ---- one file ---- */

struct run {
	struct check_report *report;
	struct check_pool *pool;
	struct jsonl_policy *policy;
	bool measuring; /* only add up sizes, for the progress line */
};

/* What comes before in the order of names is told first. */
static void tell_error(struct run *run, const char *shown, int code)
{
	check_pool_drain(run->pool);
	check_report_error(run->report, shown, code);
}

static void told_error(void *ctx, const char *shown, int code)
{
	struct run *run = ctx;

	if (!run->measuring)
		tell_error(run, shown, code);
}

/* Takes fd over. `path`: as the policy sees it. */
static int check_opened(struct run *run, int fd, const char *shown, const char *path)
{
	struct jsonl_limits limits;
	int rc = ctl_options_limits(run->policy, path, &limits);

	if (rc < 0) {
		(void)close(fd);
		return rc;
	}
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	return check_pool_add(run->pool, fd, shown, &limits);
}

static int visit_file(void *ctx, int dir, const char *name, const char *shown,
		      const char *path, const struct stat *st)
{
	struct run *run = ctx;
	struct stat now;

	if (run->measuring) {
		check_report_expect(run->report, (uint64_t)st->st_size);
		return 0;
	}
	cleanup_close int fd =
	    openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &now) < 0) {
		/* Gone since its name was read: there is nothing to say. */
		if (errno != ENOENT)
			tell_error(run, shown, -errno);
	} else if (S_ISREG(now.st_mode)) {
		return check_opened(run, steal_fd(&fd), shown, path);
	}
	return 0;
}

/* A file that is named is checked, whatever its name, and also through a link. */
static void check_file(struct run *run, const struct ctl_vault *v, const char *path)
{
	cleanup_close int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int rc = 0;

	if (fd < 0 || fstat(fd, &st) < 0) {
		rc = -errno;
	} else if (!S_ISREG(st.st_mode)) {
		rc = -EINVAL;
	} else {
		check_report_expect(run->report, (uint64_t)st.st_size);
		rc = check_opened(run, steal_fd(&fd), path, v->name);
	}
	if (rc < 0)
		tell_error(run, path, rc);
}

/* ---- one path ---- */

static void check_directory(struct run *run, const struct ctl_vault *v, const char *path)
{
	const struct ctl_walk walk = {
	    .policy = run->policy, .file = visit_file, .error = told_error, .ctx = run};
	int rc = 0;

	/* How much there is to read is only worth a second walk when somebody watches. */
	run->measuring = check_report_wants_total(run->report);
	if (run->measuring)
		rc = ctl_walk(&walk, path, v->prefix);
	run->measuring = false;
	if (rc == 0)
		rc = ctl_walk(&walk, path, v->prefix);
	if (rc < 0)
		tell_error(run, path, rc);
}

/* 0, or an exit code after a message. */
static int check_in(struct run *run, const struct jsonl_config *config,
		    const struct ctl_vault *v, const char *path, bool directory)
{
	cleanup_free char *error = NULL;
	int rc = jsonl_policy_new(config, &run->policy, &error);

	if (rc < 0) {
		ctl_error("%s", error ? error : jsonl_error_text(rc));
		return CTL_USAGE;
	}
	check_report_vault(run->report, v);
	if (directory)
		check_directory(run, v, path);
	else
		check_file(run, v, path);
	jsonl_policy_free(run->policy);
	return 0;
}

static int check_path(const struct request *r, struct check_report *report,
		      struct check_pool *pool, const char *path)
{
	struct run run = {.report = report, .pool = pool};
	struct jsonl_config config;
	struct ctl_vault v = {0};
	struct stat st;
	int rc, code;

	if (stat(path, &st) < 0) {
		tell_error(&run, path, -errno);
		return 0;
	}
	rc = ctl_vault_find(path, &v);
	if (rc == 0)
		rc = jsonl_config_init(&config);
	if (rc < 0) {
		ctl_vault_free(&v);
		tell_error(&run, path, rc);
		return 0;
	}
	code = ctl_options_apply(&ctl_check, &r->options, &v, &config);
	if (code == 0)
		code = check_in(&run, &config, &v, path, S_ISDIR(st.st_mode));
	jsonl_config_deinit(&config);
	ctl_vault_free(&v);
	return code;
}

/* Deep trees need a descriptor a level. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int check_run(int argc, char **argv)
{
	struct request request = {0};
	struct check_report *report;
	struct check_pool *pool;
	int code;

	code = parse(&request, argc, argv);
	if (code)
		return code;
	report = check_report_new(request.json, request.all);
	if (!report) {
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	raise_limit();
	pool = check_pool_new(report, request.jobs);
	if (!pool) {
		check_report_free(report);
		return CTL_FAILURE;
	}
	for (int i = 0; i < request.npaths && code == 0; i++)
		code = check_path(&request, report, pool, request.paths[i]);
	check_pool_free(pool);
	if (code == 0)
		code = check_report_finish(report, request.paths, request.npaths);
	check_report_free(report);
	return code;
}

const struct ctl_command ctl_check = {
    .name = "check",
    .run = check_run,
    .synopsis = "[--json] [--all] [--jobs=N] [--OPTION=VALUE...] PATH...",
    .summary = "read every governed file and tell what is damaged, and where",
    .help =
	"\n"
	"PATH is a vault, mounted or bare, a directory in one, or a file (which is "
	"checked\n"
	"whatever its name). Nothing is changed.\n"
	"\n"
	"  --json   one JSON document for programs instead of lines and a table\n"
	"  --all    tell every finding; without it 20 of a file\n"
	"  --jobs=N so many threads; without it one for each processor\n"
	"\n"
	"What is checked, and against what, as the mount has it (a mounted vault's own\n"
	"options are the defaults): --match, --exclude, --generations, --maxdepth,\n"
	"--maxrecord, --pipebuf, --value, --oversize, --blank, --config.\n"
	"\n"
	"Exit status: 0 clean, 4 damage was found, 8 something could not be read, 16\n"
	"wrong usage; 4 and 8 add up. Notes (records of pipebuf bytes or more, blank\n"
	"lines, a last record without its newline) are no damage.",
};
