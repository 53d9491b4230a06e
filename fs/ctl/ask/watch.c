/* SPDX-License-Identifier: MIT */
/* jsonlfsctl watch: prints what happens in a mount, as it happens. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "ctl/ask/control.h"
#include "ctl/ask/live.h"

#define RETRY_MS 200
#define GONE_MS	 3000 /* without a mount for so long: it has ended */

struct watch {
	bool json;
	uint64_t left; /* events to print; 0: without end */
	bool limited;
	bool page; /* in a terminal: one that waited would show old numbers */
	const char *path;
};

/* ---- one event ---- */

static bool is_below(const struct jsonl_report *event, const char *prefix)
{
	const char *path = jsonl_report_get_string(event, "path");

	return !path || strncmp(path, prefix, strlen(prefix)) == 0;
}

static void print_string(FILE *to, const struct jsonl_report *event, const char *key,
			 const char *before, const char *after)
{
	const char *value = jsonl_report_get_string(event, key);

	if (!value || !value[0])
		return;
	(void)fputs(before, to);
	(void)ctl_print_name(to, value);
	(void)fputs(after, to);
}

static void print_number(FILE *to, const struct jsonl_report *event, const char *key,
			 const char *before)
{
	char number[CTL_NUMBER];
	uint64_t n = jsonl_report_get_uint(event, key);

	if (n)
		(void)fprintf(to, "%s%s", before, ctl_number(n, number));
}

/* TIME EVENT FILE: WHY, by PROGRAM (pid N): where it went. NEXT. */
static void print_event(FILE *to, const struct jsonl_report *e)
{
	print_string(to, e, "time", "", " ");
	print_string(to, e, "event", "", "");
	print_string(to, e, "operation", " ", "");
	print_string(to, e, "path", " ", "");
	print_string(to, e, "to", " to ", "");
	print_string(to, e, "mountpoint", " ", "");
	print_number(to, e, "offset", " at byte ");
	print_number(to, e, "length", ", bytes ");
	print_number(to, e, "count", " ");
	print_string(to, e, "reason", ": ", "");
	print_string(to, e, "program", ", by ", "");
	if (jsonl_report_get_uint(e, "pid"))
		(void)fprintf(to, " (pid %llu, uid %llu)",
			      (unsigned long long)jsonl_report_get_uint(e, "pid"),
			      (unsigned long long)jsonl_report_get_uint(e, "uid"));
	print_string(to, e, "quarantine", "; quarantine: ", "");
	print_string(to, e, "archive", "; archive: ", "");
	print_string(to, e, "error", "; ", "");
	print_string(to, e, "note", "; ", "");
	print_string(to, e, "next", "; ", "");
}

/* Prints an event. False: there were enough, or the reader has gone. */
static bool tell(struct watch *w, const struct jsonl_report *event)
{
	cleanup_free char *text = w->json ? jsonl_report_text(event, false) : NULL;

	if (text) {
		ctl_print_json(text);
	} else {
		print_event(stdout, event);
		putchar('\n');
	}
	if (fflush(stdout) != 0)
		return false;
	return !w->limited || --w->left > 0;
}

/* Prints an event about the watch itself, which --count does not count. */
static bool tell_state(struct watch *w, const char *what)
{
	struct jsonl_report *e = jsonl_report_object();
	char stamp[JSONL_STAMP];
	bool more;

	jsonl_stamp_text_now(3, stamp);
	jsonl_report_add_string(e, "time", stamp);
	jsonl_report_add_string(e, "event", what);
	w->left += w->limited;
	more = tell(w, e);
	jsonl_report_free(e);
	return more;
}

/* ---- following ---- */

/* Prints events until the daemon is gone: then 0; 1: there were enough. */
static int follow(struct watch *w, int fd, const char *prefix)
{
	int rc = 0;

	for (;;) {
		struct jsonl_report *event = ctl_control_receive(fd, &rc);
		bool more = true;

		if (!event)
			return 0;
		if (is_below(event, prefix))
			more = tell(w, event);
		jsonl_report_free(event);
		if (!more)
			return 1;
	}
}

/* Connects, and asks for events. The descriptor, or -errno. */
static int begin(struct watch *w, const struct ctl_vault *v)
{
	cleanup_close int fd = -1;
	struct jsonl_report *reply;
	int rc;

	if (!v->status)
		return v->status_error;
	fd = w->page ? ctl_control_try(v) : ctl_control_connect(v);
	if (fd < 0)
		return fd;
	rc = ctl_control_send(fd, ctl_control_request("watch"), NULL, 0);
	if (rc < 0)
		return rc;
	reply = ctl_control_receive(fd, &rc);
	if (reply)
		rc = -(int)jsonl_report_get_uint(reply, "error");
	jsonl_report_free(reply);
	return rc < 0 ? rc : steal_fd(&fd);
}

static bool may_come_back(int rc)
{
	return rc == -ENOTCONN || rc == -ECONNABORTED || rc == -ECONNREFUSED ||
	       rc == -ECONNRESET || rc == -EPIPE || rc == -EOPNOTSUPP || rc == -EUSERS;
}

/* Waits for the daemon that is started next, and begins again. The descriptor; -ENOENT:
 * the mount has ended. */
static int begin_again(struct watch *w, char **prefix)
{
	const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};

	for (int gone = 0; gone <= GONE_MS;) {
		struct ctl_vault v;
		int rc = ctl_vault_find(w->path, &v), fd;

		fd = rc < 0 ? rc : begin(w, &v);
		if (fd >= 0) {
			free(*prefix);
			*prefix = steal_ptr(&v.prefix);
		}
		ctl_vault_free(&v);
		if (fd >= 0)
			return fd;
		gone = may_come_back(fd) ? 0 : gone + RETRY_MS;
		(void)nanosleep(&pause, NULL);
	}
	return -ENOENT;
}

/* ---- in a terminal ---- */

struct page {
	struct watch *w;
	char *prefix;
	struct ctl_live_events events;
};

static bool page_next(void *ctx, char **line)
{
	struct page *p = ctx;
	int rc;
	struct jsonl_report *event = ctl_control_receive(p->events.fd, &rc);
	FILE *to = event && is_below(event, p->prefix)
		       ? open_memstream(line, &(size_t){0})
		       : NULL;

	if (to) {
		print_event(to, event);
		(void)fclose(to);
	}
	jsonl_report_free(event);
	return event != NULL;
}

/* Tries once: the page calls this again after a second. */
static void page_connect(void *ctx)
{
	struct page *p = ctx;
	struct ctl_vault v;
	int rc = ctl_vault_find(p->w->path, &v);

	p->events.fd = rc < 0 ? -1 : begin(p->w, &v);
	if (p->events.fd >= 0) {
		free(p->prefix);
		p->prefix = steal_ptr(&v.prefix);
	}
	ctl_vault_free(&v);
}

static int show_page(struct watch *w, int fd, char **prefix)
{
	struct page p = {.w = w,
			 .prefix = steal_ptr(prefix),
			 .events = {.fd = fd, .next = page_next, .again = page_connect}};
	int code;

	p.events.ctx = &p;
	w->page = true;
	code = ctl_live(w->path, &p.events);
	if (p.events.fd >= 0)
		(void)close(p.events.fd);
	free(p.prefix);
	return code;
}

/* ---- the command ---- */

static int explain(const char *path, int rc)
{
	const char *text = ctl_control_explain(rc);

	if (rc == -ENOENT || rc == -ENOTDIR || rc == -EBADF)
		ctl_error("%s: no jsonlfs is mounted here: name a directory in a mount",
			  path);
	else if (rc == -EPERM)
		ctl_error("%s: the daemon is older than this program and tells events "
			  "to root alone: mount again",
			  path);
	else
		ctl_error("%s: %s", path,
			  text && rc != -ENOTCONN ? text : ctl_explain(path, rc));
	return CTL_FAILURE;
}

static int watch(struct watch *w)
{
	cleanup_free char *prefix = NULL;
	struct ctl_vault v;
	int rc = ctl_vault_find(w->path, &v), fd, code = 0;

	if (rc < 0)
		return explain(w->path, rc);
	fd = begin(w, &v);
	prefix = steal_ptr(&v.prefix);
	ctl_vault_free(&v);
	if (fd < 0)
		return explain(w->path, fd);
	if (!w->json && !w->limited && ctl_live_possible())
		return show_page(w, fd, &prefix);
	(void)tell_state(w, "watching");
	while (fd >= 0) {
		rc = follow(w, fd, prefix);
		(void)close(fd);
		if (rc)
			return ferror(stdout) ? CTL_FAILURE : code;
		(void)tell_state(w, "daemon-gone");
		fd = begin_again(w, &prefix);
		(void)tell_state(w, fd < 0 ? "mount-gone" : "watching");
	}
	return code;
}

/* ---- the command line ---- */

static int parse(struct watch *w, int argc, char **argv)
{
	bool options = true;

	for (int i = 1; i < argc; i++) {
		const char *value;
		char *end;

		if (!options || argv[i][0] != '-') {
			if (w->path)
				return ctl_usage(&ctl_watch, "one directory at a time");
			w->path = argv[i];
		} else if (strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (strcmp(argv[i], "--json") == 0) {
			w->json = true;
		} else if (ctl_take_value("--count", argc, argv, &i, &value)) {
			w->left = strtoull(value, &end, 10);
			w->limited = true;
			if (value[0] < '1' || value[0] > '9' || *end)
				return ctl_usage(&ctl_watch,
						 "--count is a number, not %s", value);
		} else {
			return ctl_usage(&ctl_watch, "unknown option %s", argv[i]);
		}
	}
	if (!w->path)
		w->path = ".";
	return 0;
}

static int watch_run(int argc, char **argv)
{
	struct watch w = {0};
	int code = parse(&w, argc, argv);

	return code ? code : watch(&w);
}

const struct ctl_command ctl_watch = {
    .name = "watch",
    .run = watch_run,
    .synopsis = "[--json] [--count=N] [DIR]",
    .summary = "what happens in a mount, as it happens",
    .help =
	"\n"
	"Prints a line for each event of the mount in which DIR (the current\n"
	"directory) lies: refused, fragment, torn-tail, repaired, oversize, denied,\n"
	"archived, rotated, sync-failed and whatever else the daemon logs, without\n"
	"the log's rate limit. Events about files are printed for files below DIR.\n"
	"When the daemon dies and is started again the watch goes on; it ends with\n"
	"the mount. Root, and the owner of the mount or of the vault's directory, see\n"
	"all events, others what their own programs do.\n"
	"\n"
	"In a terminal it is a page with the numbers of `jsonlfsctl status` above the\n"
	"events; q ends it. Otherwise it is lines.\n"
	"\n"
	"  --json     one JSON object a line\n"
	"  --count=N  end after N events (watching, daemon-gone and mount-gone do not\n"
	"             count)\n"
	"\n"
	"Exit status: 0, 8 when there is no mount to watch, 16 wrong usage.",
};
