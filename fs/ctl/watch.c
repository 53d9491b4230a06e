/* jsonlfsctl watch: what happens in a mount, as it happens. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "control.h"
#include "ctl.h"

#define RETRY_MS 200
#define GONE_MS	 3000 /* not mounted for so long: the mount has ended, not its daemon */

struct watch {
	bool json;
	uint64_t left; /* events to be told; 0: without end */
	bool limited;
	const char *path;
};

/* ---- one event ---- */

static bool is_below(const struct jsonl_report *event, const char *prefix)
{
	const char *path = jsonl_report_get_string(event, "path");

	return !path || strncmp(path, prefix, strlen(prefix)) == 0;
}

static void print_string(const struct jsonl_report *event, const char *key,
			 const char *before, const char *after)
{
	const char *value = jsonl_report_get_string(event, key);

	if (!value || !value[0])
		return;
	(void)fputs(before, stdout);
	(void)ctl_print_name(stdout, value);
	(void)fputs(after, stdout);
}

static void print_number(const struct jsonl_report *event, const char *key,
			 const char *before)
{
	char number[CTL_NUMBER];
	uint64_t n = jsonl_report_get_uint(event, key);

	if (n)
		printf("%s%s", before, ctl_number(n, number));
}

/* TIME EVENT FILE: WHY, by PROGRAM (pid N): where it went. NEXT. */
static void print_event(const struct jsonl_report *e)
{
	print_string(e, "time", "", " ");
	print_string(e, "event", "", "");
	print_string(e, "operation", " ", "");
	print_string(e, "path", " ", "");
	print_string(e, "to", " to ", "");
	print_string(e, "mountpoint", " ", "");
	print_number(e, "offset", " at byte ");
	print_number(e, "length", ", bytes ");
	print_number(e, "count", " ");
	print_string(e, "reason", ": ", "");
	print_string(e, "comm", ", by ", "");
	print_string(e, "program", ", by ", "");
	if (jsonl_report_get_uint(e, "pid"))
		printf(" (pid %llu, uid %llu)",
		       (unsigned long long)jsonl_report_get_uint(e, "pid"),
		       (unsigned long long)jsonl_report_get_uint(e, "uid"));
	print_string(e, "quarantine", "; quarantine: ", "");
	print_string(e, "archive", "; archive: ", "");
	print_string(e, "error", "; ", "");
	print_string(e, "note", "; ", "");
	print_string(e, "next", "; ", "");
	putchar('\n');
}

/* False: enough, or nobody reads any more. */
static bool tell(struct watch *w, const struct jsonl_report *event)
{
	cleanup_free char *text = w->json ? jsonl_report_text(event, false) : NULL;

	if (text)
		(void)fputs(text, stdout);
	else
		print_event(event);
	if (fflush(stdout) != 0)
		return false;
	return !w->limited || --w->left > 0;
}

/* What happens to the watching itself is an event, too, but none that counts. */
static bool tell_state(struct watch *w, const char *what)
{
	struct jsonl_report *e = jsonl_report_object();
	struct timespec now;
	char stamp[48];
	struct tm tm;
	size_t n;
	bool more;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(stamp + n, sizeof(stamp) - n, ".%03ldZ", now.tv_nsec / 1000000);
	jsonl_report_add_string(e, "time", stamp);
	jsonl_report_add_string(e, "event", what);
	w->left += w->limited;
	more = tell(w, e);
	jsonl_report_free(e);
	return more;
}

/* ---- following ---- */

/* Tells events until the daemon is gone: then 0; 1: enough has been told. */
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

/* Connects and says so. The descriptor, or -errno. */
static int begin(struct watch *w, const struct ctl_vault *v)
{
	cleanup_close int fd = -1;
	struct jsonl_report *reply;
	int rc;

	if (!v->status)
		return v->status_error == -EACCES ? -EACCES : v->status_error;
	fd = ctl_control_connect(v);
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

/* Begins again when the daemon was started again. The descriptor; -ENOENT: the mount has
 * ended. */
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

static int explain(const char *path, int rc)
{
	const char *text = ctl_control_explain(rc);

	if (rc == -ENOENT || rc == -ENOTDIR || rc == -EBADF)
		ctl_error("%s: no jsonlfs is mounted here: name a directory in a mount",
			  path);
	else if (rc == -EPERM || rc == -EACCES)
		ctl_error("%s: events are for root and for the owner of the mount: try "
			  "as one of them",
			  path);
	else
		ctl_error("%s: %s", path, text ? text : jsonl_error_text(rc));
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
	"One line an event of the mount that DIR (the current directory) lies in: "
	"refused,\n"
	"fragment, torn-tail, repaired, oversize, denied, archived, rotated, sync-failed "
	"and\n"
	"whatever else the daemon's log gets, without its rate limit. Of events that are "
	"about\n"
	"a file, those below DIR. When the daemon dies and is started again the watch "
	"goes\n"
	"on; it ends when the mount does. For root and the owner of the mount.\n"
	"\n"
	"  --json     one JSON object a line\n"
	"  --count=N  end after N events (watching, daemon-gone and mount-gone do not "
	"count)\n"
	"\n"
	"Exit status: 0, 8 when there is no mount to watch, 16 wrong usage.",
};
