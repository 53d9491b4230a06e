/* SPDX-License-Identifier: MIT */
/* jsonlfsctl report: makes a page about a vault from what other commands print with
 * --json. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "ctl/find/content.h"
#include "ctl/child.h"
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/check/page.h"
#include "ctl/find/vault.h"

struct request {
	const char *html; /* the file */
	const char *path;
};

/* ---- what the other commands say ---- */

struct question {
	const struct ctl_command *command;
	const char *const *args;
	const char *path;
	bool quiet; /* without its messages */
};

static int run_command(void *ctx)
{
	const struct question *q = ctx;
	char *argv[8] = {(char *)q->command->name};
	int argc = 1;

	for (const char *const *arg = q->args; *arg; arg++)
		argv[argc++] = (char *)*arg;
	argv[argc++] = (char *)"--";
	argv[argc++] = (char *)q->path;
	if (q->quiet && !freopen("/dev/null", "w", stderr))
		return CTL_FAILURE;
	return q->command->run(argc, argv);
}

/* Runs a command and parses the document that it prints; NULL: there is none. *code: its
 * exit code. */
static struct jsonl_report *ask(const struct question *q, int *code)
{
	cleanup_close int fd = memfd_create("report", MFD_CLOEXEC);
	cleanup_free char *text = NULL;
	size_t len;
	int rc;

	*code = fd < 0 ? -errno : ctl_child(run_command, (void *)q, fd, -1);
	if (*code < 0) {
		ctl_error("%s: %s", q->path, jsonl_error_text(*code));
		*code = CTL_FAILURE;
	}
	if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return NULL;
	text = ctl_content_read(fd, &len, &rc);
	return text && len ? jsonl_report_parse(text) : NULL;
}

/* Reads the data of an earlier page of this name, from which the new one computes what
 * has come since; NULL: there is none. */
static struct jsonl_report *read_earlier(const char *path)
{
	cleanup_close int fd = ctl_open_input(path);
	cleanup_free char *text = NULL;
	char *data, *end;
	size_t len;
	int rc;

	if (fd < 0)
		return NULL;
	text = ctl_content_read(fd, &len, &rc);
	data = text ? strstr(text, CTL_PAGE_DATA) : NULL;
	if (!data)
		return NULL;
	data += strlen(CTL_PAGE_DATA);
	end = strstr(data, "</script>");
	if (!end)
		return NULL;
	*end = '\0';
	return jsonl_report_parse(data);
}

static int make_page(const struct request *r)
{
	static const char *const check[] = {"--json", NULL};
	static const char *const list[] = {"list", "--json", NULL};
	struct ctl_page page = {.path = r->path};
	struct ctl_output output;
	int code, other;

	page.earlier = read_earlier(r->html);
	page.check = ask(&(struct question){&ctl_check, check, r->path, false}, &code);
	if (!page.check) {
		jsonl_report_free(page.earlier);
		return code ? code : CTL_FAILURE;
	}
	/* Without a mount there is no status, and maybe no quarantine. */
	page.status = ask(&(struct question){&ctl_status, check, r->path, true}, &other);
	page.quarantine =
	    ask(&(struct question){&ctl_quarantine, list, r->path, true}, &other);
	page.archive = ask(&(struct question){&ctl_archive, list, r->path, true}, &other);
	other = ctl_output_begin(&output, r->html, r->path);
	if (other == 0) {
		ctl_page_print(&page);
		code = ctl_output_end(&output, code);
	} else {
		code = other;
	}
	jsonl_report_free(page.earlier);
	jsonl_report_free(page.check);
	jsonl_report_free(page.status);
	jsonl_report_free(page.quarantine);
	jsonl_report_free(page.archive);
	return code;
}

/* ---- the command line ---- */

static int report_run(int argc, char **argv)
{
	struct request r = {0};
	bool options = true;

	for (int i = 1; i < argc; i++) {
		if (options && strcmp(argv[i], "--") == 0)
			options = false;
		else if (options && ctl_take_value("--html", argc, argv, &i, &r.html))
			continue;
		else if (options && argv[i][0] == '-')
			return ctl_usage(&ctl_report, "unknown option %s", argv[i]);
		else if (r.path)
			return ctl_usage(&ctl_report, "one directory at a time");
		else
			r.path = argv[i];
	}
	if (!r.html || !r.html[0])
		return ctl_usage(&ctl_report, "--html=FILE is missing");
	if (!r.path)
		r.path = ".";
	return make_page(&r);
}

const struct ctl_command ctl_report = {
    .name = "report",
    .run = report_run,
    .synopsis = "--html=FILE [PATH]",
    .summary = "one page about a vault, to be looked at in a browser",
    .help =
	"\n"
	"Shows for the vault or directory PATH (the current directory) the records\n"
	"and bytes of each file, and how many have come a day since the page was made\n"
	"last; findings; the programs that rely on the mount; quarantine and archive\n"
	"by age. The page loads nothing from elsewhere.\n"
	"\n"
	"  --html=FILE  the page, which is replaced when the new one is whole; its\n"
	"               directory must be root's, yours or that of the vault's owner\n"
	"\n"
	"Exit status: as of check: 0, 4 damage was found, 8 something could not be\n"
	"read, 16 wrong usage.",
};
