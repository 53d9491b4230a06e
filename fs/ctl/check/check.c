/* SPDX-License-Identifier: MIT */
/* jsonlfsctl check: reads every line of every governed file. */
#include "ctl/check/check_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/links.h"
#include "ctl/find/walk.h"
#include "ctl/options.h"
#include "ctl/output.h"

/* The arguments of the command line; strings are borrowed from argv. */
struct request {
	bool json, all;
	unsigned jobs;	    /* 0: as many as there are processors */
	const char *output; /* a file for the report; NULL: standard output */
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

/* Takes an option, and the argument behind it if that is its value. */
static int parse_option(struct request *r, int argc, char **argv, int *i)
{
	const char *value;

	if (ctl_take_value("--jobs", argc, argv, i, &value))
		return parse_jobs(r, value);
	if (ctl_take_value("--output", argc, argv, i, &r->output))
		return 0;
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
	int i = 0, out = 1, rc = 0;

	while (rc == 0 && (i = ctl_next_option(argc, argv, i + 1, &out)) < argc)
		rc = parse_option(r, argc, argv, &i);
	if (out == 1)
		argv[out++] = (char *)"."; /* argv[1] may be the NULL at its end */
	r->paths = argv + 1;
	r->npaths = out - 1;
	return rc;
}

/* ---- one file ---- */

struct run {
	struct check_report *report;
	struct check_pool *pool;
	struct jsonl_policy *policy;
	bool measuring; /* only add up the sizes, for the progress line */
};

/* Reports an error, after the findings of all files before it. */
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
	int fd;

	if (run->measuring) {
		check_report_expect(run->report, (uint64_t)st->st_size);
		return 0;
	}
	fd = ctl_open_file(dir, name, O_RDONLY, 0);
	if (fd >= 0)
		return check_opened(run, fd, shown, path);
	/* Gone since its name was read, or something else by now: there is nothing to
	 * say.
	 */
	if (fd != -ENOENT && fd != -EINVAL && fd != -ELOOP)
		tell_error(run, shown, fd);
	return 0;
}

/* Reports a symbolic link that leads out of the vault. */
static int visit_link(void *ctx, int dir, const char *name, const char *shown,
		      const char *path)
{
	cleanup_free char *target = malloc(PATH_MAX);
	struct run *run = ctx;
	ssize_t n = target ? readlinkat(dir, name, target, PATH_MAX - 1) : -1;

	if (!target)
		return -ENOMEM;
	if (n < 0)
		return 0; /* gone since its name was read */
	target[n] = '\0';
	if (fs_link_leads_out(fs_link_depth(path), target)) {
		check_pool_drain(run->pool);
		check_report_link(run->report, shown, target);
	}
	return 0;
}

/* ---- one path ---- */

/* Checks a file named on the command line, governed or not. */
static void check_file(struct run *run, const struct ctl_vault *v, const char *path)
{
	int fd = ctl_vault_open(v), rc;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0)
		check_report_expect(run->report, (uint64_t)st.st_size);
	rc = fd < 0 ? fd : check_opened(run, fd, path, v->name);
	if (rc < 0)
		tell_error(run, path, rc);
}

static void check_directory(struct run *run, const struct ctl_vault *v, const char *path)
{
	struct ctl_walk walk = {
	    .policy = run->policy, .file = visit_file, .error = told_error, .ctx = run};
	cleanup_close int fd = ctl_vault_open(v);
	int rc = fd < 0 ? fd : 0;

	/* Only the progress line needs a first walk, which adds up the sizes. */
	run->measuring = check_report_wants_total(run->report);
	if (rc == 0 && run->measuring)
		rc = ctl_walk(&walk, fd, path, v->prefix);
	run->measuring = false;
	walk.link = visit_link;
	if (rc == 0)
		rc = ctl_walk(&walk, fd, path, v->prefix);
	if (rc < 0)
		tell_error(run, path, rc);
}

/* 0, or an exit code after a message. */
static int check_in(struct run *run, const struct jsonl_config *config,
		    const struct ctl_vault *v, const char *path)
{
	cleanup_free char *error = NULL;
	int rc = jsonl_policy_new(config, &run->policy, &error);

	if (rc < 0) {
		ctl_error("%s", error ? error : jsonl_error_text(rc));
		return CTL_USAGE;
	}
	check_report_vault(run->report, v);
	if (ctl_vault_is_directory(v))
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
	struct ctl_vault v;
	int rc = ctl_vault_find(path, &v), code;

	if (rc < 0) {
		tell_error(&run, path, rc);
		return 0;
	}
	rc = v.part ? -EXDEV : jsonl_config_init(&config);
	if (rc < 0) {
		ctl_vault_free(&v);
		tell_error(&run, path, rc);
		return 0;
	}
	code = ctl_options_apply(&ctl_check, &r->options, &v, &config);
	if (code == 0)
		code = check_in(&run, &config, &v, path);
	jsonl_config_deinit(&config);
	ctl_vault_free(&v);
	return code;
}

static int check_all(const struct request *r)
{
	struct check_report *report = check_report_new(r->json, r->all);
	struct check_pool *pool;
	int code = 0;

	if (!report) {
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	pool = check_pool_new(report, r->jobs);
	if (!pool) {
		check_report_free(report);
		return CTL_FAILURE;
	}
	for (int i = 0; i < r->npaths && code == 0; i++)
		code = check_path(r, report, pool, r->paths[i]);
	check_pool_free(pool);
	if (code == 0)
		code = check_report_finish(report, r->paths, r->npaths);
	check_report_free(report);
	return code;
}

static int check_run(int argc, char **argv)
{
	struct request request = {0};
	struct ctl_output output;
	int code;

	code = parse(&request, argc, argv);
	if (code)
		return code;
	code = ctl_output_begin(&output, request.output, request.paths[0]);
	if (code)
		return code;
	return ctl_output_end(&output, check_all(&request));
}

const struct ctl_command ctl_check = {
    .name = "check",
    .run = check_run,
    .synopsis =
	"[--json] [--all] [--jobs=N] [--output=FILE] [--OPTION=VALUE...] [PATH...]",
    .summary = "read every governed file and tell what is damaged, and where",
    .help =
	"\n"
	"PATH is a vault, mounted or not, a directory in one, or a file (which is\n"
	"checked whatever its name); without it the current directory. Nothing is\n"
	"changed.\n"
	"\n"
	"  --json         one JSON document for programs instead of lines and a table\n"
	"  --all          print every finding; without it 20 of a file\n"
	"  --jobs=N       use N threads; without it one for each processor\n"
	"  --output=FILE  write the report to FILE, which is replaced when the report\n"
	"                 is whole; its directory must be root's, yours or that of the\n"
	"                 vault's owner\n"
	"\n"
	"Which files are governed, and what a record is, is taken from the mount, or\n"
	"from --match, --exclude, --generations, --maxdepth, --maxrecord, --pipebuf,\n"
	"--value, --oversize, --blank, --config.\n"
	"\n"
	"Exit status: 0 clean, 4 damage was found, 8 something could not be read, 16\n"
	"wrong usage; 4 and 8 add up. Notes (records of pipebuf bytes or more, blank\n"
	"lines, a last record without its newline, links that lead out of the vault)\n"
	"are not damage.",
};
