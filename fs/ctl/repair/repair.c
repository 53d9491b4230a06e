/* SPDX-License-Identifier: MIT */
/* jsonlfsctl repair: takes lines that are not records out of files, and keeps
 * everything. */
#include "tools/repair.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "ctl/ask/control.h"
#include "ctl/ctl.h"
#include "ctl/find/walk.h"
#include "ctl/repair/repair_file.h"
#include "ctl/repair/repair_report.h"
#include "quarantine/quarantine.h"

static int visit_file(void *ctx, int dir, const char *name, const char *shown,
		      const char *path, const struct stat *st)
{
	struct repair_run *run = ctx;
	cleanup_close int fd = ctl_open_file(dir, name, O_RDONLY, 0);

	/* Gone since its name was read, or something else by now: nothing to say. */
	if (fd >= 0)
		repair_file(run, dir, fd, name, shown, path);
	else if (fd != -ENOENT && fd != -EINVAL && fd != -ELOOP)
		repair_file_failed(run, shown, NULL, fd, false);
	return 0;
}

static void told_error(void *ctx, const char *shown, int code)
{
	repair_file_failed(ctx, shown, NULL, code, false);
}

/* ---- one path ---- */

/* Repairs a file named on the command line, governed or not. */
static int repair_named(struct repair_run *run, const char *path)
{
	cleanup_close int dir = ctl_vault_open_directory(run->vault);
	cleanup_close int fd = ctl_vault_open(run->vault);

	if (dir < 0 || fd < 0)
		return dir < 0 ? dir : fd;
	repair_file(run, dir, fd, run->vault->spot.name, path, run->vault->name);
	return 0;
}

static int repair_directory(struct repair_run *run, const char *path)
{
	const struct ctl_walk walk = {
	    .policy = run->policy, .file = visit_file, .error = told_error, .ctx = run};
	cleanup_close int fd = ctl_vault_open(run->vault);

	return fd < 0 ? fd : ctl_walk(&walk, fd, path, run->vault->prefix);
}

/* Opens the state directory and asks whether a daemon serves the vault; not without
 * --apply, when neither is needed. */
static int open_state(struct repair_run *run, const struct ctl_vault *v,
		      const struct jsonl_config *config)
{
	if (!run->request->apply)
		return 0;
	run->state_fd = ctl_vault_state(v, run->request->state);
	if (run->state_fd == -ENOENT && !run->request->state)
		run->state_fd = -1;
	cleanup_close int fd = ctl_control_connect(v);

	if (fd < 0 && fd != -ENOENT)
		return fd;
	run->served = fd >= 0;
	if (run->state_fd < -1 && !run->served)
		return run->state_fd;
	if (run->state_fd < 0 || run->served)
		return 0;
	return jsonl_quarantine_new(&jsonl_io_system, run->state_fd,
				    config->quarantine_max, &run->quarantine);
}

static int repair_with(struct repair_run *run, const struct jsonl_config *config,
		       const char *path)
{
	const struct ctl_vault *v = run->vault;
	int rc = jsonl_policy_new(config, &run->policy, NULL);

	if (rc == 0)
		rc = open_state(run, v, config);
	if (rc == 0)
		rc = ctl_vault_is_directory(v) ? repair_directory(run, path)
					       : repair_named(run, path);
	jsonl_quarantine_free(run->quarantine);
	if (run->state_fd >= 0)
		(void)close(run->state_fd);
	jsonl_policy_free(run->policy);
	return rc;
}

static int repair_path(const struct repair_request *request, struct repair_report *report,
		       const char *path)
{
	struct repair_run run = {.request = request, .report = report, .state_fd = -1};
	struct jsonl_config config;
	struct ctl_vault v;
	int rc = ctl_vault_find(path, &v), code = 0;

	if (rc < 0) {
		repair_file_failed(&run, path, NULL, rc, false);
		return 0;
	}
	run.vault = &v;
	rc = v.part ? -EXDEV : jsonl_config_init(&config);
	if (rc == -EXDEV) {
		repair_report_error(report, path, ctl_explain(path, rc), false);
		rc = 0;
	} else if (rc == 0) {
		code = ctl_options_apply(&ctl_repair, &request->options, &v, &config);
		if (code == 0)
			rc = repair_with(&run, &config, path);
		jsonl_config_deinit(&config);
	}
	if (rc)
		repair_file_failed(&run, path, NULL, rc, false);
	ctl_vault_free(&v);
	return code;
}

static int parse(struct repair_request *r, int argc, char **argv)
{
	int i = 0, out = 1, rc = 0;

	while (rc == 0 && (i = ctl_next_option(argc, argv, i + 1, &out)) < argc) {
		if (strcmp(argv[i], "--json") == 0)
			r->json = true;
		else if (strcmp(argv[i], "--all") == 0)
			r->all = true;
		else if (strcmp(argv[i], "--apply") == 0)
			r->apply = true;
		else if (strcmp(argv[i], "--force") == 0)
			r->force = true;
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
	struct repair_request request = {0};
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
    .synopsis =
	"[--apply] [--force] [--json] [--all] [--state=DIR] [--OPTION=VALUE...] PATH...",
    .summary = "take lines that are not records out of files",
    .help =
	"\n"
	"PATH is a vault, mounted or not, a directory in it, or a file. Without\n"
	"--apply nothing is changed: repair prints what it would do. In a mounted\n"
	"vault the daemon does it.\n"
	"\n"
	"  --apply      do it: lines that are not records are set aside, fused records\n"
	"               ({...}{...}) are split when all of them are valid, NULs "
	"removed,\n"
	"               the last newline added, a byte order mark removed; the original\n"
	"               is kept\n"
	"  --force      also files in which most lines are not records, and JSON\n"
	"               documents on many lines\n"
	"  --json       one JSON document for programs\n"
	"  --all        print every change; without it 20 of a file\n"
	"  --state=DIR  the state directory, if it is not .jsonlfs in the vault\n"
	"\n"
	"In a vault what is set aside goes to the quarantine, the original to the\n"
	"archive; elsewhere they lie beside the file, as NAME.bad-UTCSTAMP and\n"
	"NAME.orig-UTCSTAMP. A file is replaced as a whole, with its mode, owner,\n"
	"ACL, attributes and times, and only when no program has it open for writing.\n"
	"\n"
	"Which files are governed, and what a record is, is taken from the mount, or\n"
	"from --match, --exclude, --generations, --maxdepth, --maxrecord, --value,\n"
	"--quarantine_max, --config.\n"
	"\n"
	"Exit status: 0 nothing to repair, 1 repaired, 4 damage is left (without\n"
	"--apply, or not repaired), 8 something could not be read or done, 16 wrong\n"
	"usage; they add up.",
};
