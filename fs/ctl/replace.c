/* jsonlfsctl replace, edit and delete-record: the sanctioned ways to rewrite a log. Of a
 * mounted vault the daemon does it, for whom programs that have the log open for
 * appending are no obstacle; else it is done here, under the lock. */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "cleanup.h"
#include "content.h"
#include "control.h"
#include "ctl.h"
#include "options.h"
#include "place.h"
#include "rewrite.h"

struct request {
	const struct ctl_command *command;
	const char *state, *file;
	bool empty;	 /* replace: with nothing */
	uint64_t *lines; /* delete-record */
	size_t nlines;
	struct ctl_options options;
};

/* A file that is to get new content. */
struct target {
	const struct request *r;
	struct ctl_vault vault;
	struct jsonl_limits limits;
	char *real;	  /* canonical path */
	const char *path; /* from the vault's root; in no vault the name */
	int fd;		  /* the file, for reading */
	int old;	  /* what the new content was made from; -1: from nothing */
	int new;
	uint64_t records; /* of the new content */
	char *why;	  /* what the daemon said besides; NULL */
};

static void log_bare(const struct target *t, const char *kept)
{
	openlog("jsonlfsctl", LOG_PID, LOG_DAEMON);
	syslog(LOG_NOTICE, "replaced path=\"%s\" verb=\"%s\" uid=%u archive=\"%s\"",
	       t->real, t->r->command->name, getuid(), kept);
	closelog();
}

static int fail(const struct target *t, int rc)
{
	const char *text = ctl_control_explain(rc);

	if (t->why)
		text = t->why;
	else if (rc == -EAGAIN)
		text = "its lock is held by a program outside the mount: nothing was "
		       "changed; try again when that has ended";
	else if (rc == -ESTALE)
		text = "was changed by somebody else meanwhile: nothing was changed; try "
		       "again";
	else if (rc == -ENOENT && t->fd < 0)
		text = "no such file: to begin one append to it (jsonlfsctl append)";
	else if (rc == -EINVAL)
		text = "is no governed file of this vault, nor one that can be rewritten";
	else if (rc == -EACCES || rc == -EPERM)
		text = "nothing was changed: this is for root, the owner of the mount, "
		       "and the owner of the file";
	ctl_error("%s: %s", t->r->file, text ? text : ctl_rewrite_explain(rc));
	return CTL_FAILURE;
}

/* ---- opening ---- */

static int open_path(struct target *t)
{
	struct stat st;

	t->real = realpath(t->r->file, NULL);
	if (!t->real)
		return -errno;
	t->fd = open(t->real, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (t->fd < 0 || fstat(t->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (geteuid() != 0 && geteuid() != st.st_uid)
		return -EPERM;
	t->path = t->vault.name;
	return 0;
}

static void target_close(struct target *t)
{
	const int fds[] = {t->fd, t->old, t->new};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	free(t->real);
	free(t->why);
	ctl_vault_free(&t->vault);
}

/* 0, or an exit code after a message. Pair with target_close in any case. */
static int target_open(struct target *t, const struct request *r)
{
	struct jsonl_config config;
	int rc, code = 0;

	*t = (struct target){.r = r, .fd = -1, .old = -1, .new = -1};
	rc = ctl_vault_find(r->file, &t->vault);
	if (rc == 0)
		rc = open_path(t);
	if (rc == 0)
		rc = jsonl_config_init(&config);
	if (rc < 0)
		return fail(t, rc);
	code = ctl_options_apply(r->command, &r->options, &t->vault, &config);
	if (code == 0)
		rc = ctl_options_limits_of(&config, t->path, &t->limits);
	jsonl_config_deinit(&config);
	if (code == 0 && rc == 0)
		rc = t->new = ctl_content_new();
	return code || rc >= 0 ? code : fail(t, rc);
}

/* A copy of the file as it is now, which the new content is made from. */
static int keep_old(struct target *t)
{
	int rc;

	t->old = ctl_content_new();
	rc = t->old < 0 ? t->old : lseek(t->fd, 0, SEEK_SET) < 0 ? -errno : 0;
	return rc < 0 ? rc : ctl_content_add(t->old, t->fd);
}

/* ---- carrying it out ---- */

/* What was appended since the old content was read goes behind the new one. */
static int add_growth(struct ctl_rewrite *w, const struct target *t)
{
	struct stat now, then;
	off_t from;
	char a = '\n', b;
	int rc;

	if (fstat(t->fd, &now) < 0 || fstat(t->old, &then) < 0)
		return -errno;
	from = then.st_size;
	if (now.st_size < from)
		return -ESTALE;
	rc = ctl_content_equals(t->fd, t->old, from);
	if (rc <= 0)
		return rc ? rc : -ESTALE;
	/* A record that got its newline meanwhile has one in the new content, too. */
	if (from && pread(t->fd, &a, 1, from - 1) == 1 && a != '\n' &&
	    pread(t->fd, &b, 1, from) == 1 && b == '\n')
		from++;
	return ctl_content_add_range(w->replace.fd, t->fd, from, now.st_size);
}

struct bare {
	struct ctl_rewrite rewrite; /* first: cast back */
	const struct target *target;
};

static int fill(struct ctl_rewrite *w)
{
	const struct target *t = ((struct bare *)w)->target;
	struct stat st;
	int rc = fstat(t->new, &st) < 0 ? -errno : 0;

	if (rc == 0)
		rc = ctl_content_add_range(w->replace.fd, t->new, 0, st.st_size);
	return rc || t->old < 0 ? rc : add_growth(w, t);
}

static int rewrite_bare(struct target *t, bool mounted, char **kept)
{
	char *slash = strrchr(t->real, '/');
	cleanup_free char *dir = strndup(t->real, (size_t)(slash - t->real) + 1);
	cleanup_close int dir_fd =
	    dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	cleanup_close int state_fd = ctl_vault_state(&t->vault, t->r->state);
	struct bare b = {.rewrite = {.store = {.state_fd = state_fd,
					       .dir_fd = dir_fd,
					       .old_fd = t->fd,
					       .name = slash + 1,
					       .path = t->path},
				     .mounted = mounted,
				     .fill = fill},
			 .target = t};
	int rc;

	if (dir_fd < 0)
		return -errno;
	if (state_fd == -ENOENT || state_fd == -ENOTDIR)
		b.rewrite.store.state_fd = -1;
	else if (state_fd < 0)
		return state_fd;
	rc = ctl_rewrite(&b.rewrite);
	if (rc && ctl_rewrite_unsynced(&b.rewrite))
		t->why = strdup(CTL_REWRITE_UNSYNCED);
	if (rc == 0 || ctl_rewrite_unsynced(&b.rewrite))
		*kept = ctl_rewrite_kept(&b.rewrite, t->real, t->vault.root, t->r->state);
	if (*kept)
		log_bare(t, *kept);
	return rc;
}

static int rewrite_mounted(struct target *t, char **kept)
{
	struct jsonl_report *request = ctl_control_request("replace"), *reply;
	const int fds[] = {t->new, t->old};
	const char *archive;
	int rc;

	jsonl_report_add_string(request, "path", t->path);
	jsonl_report_add_string(request, "as", t->r->command->name);
	rc = ctl_control_ask(&t->vault, request, fds, t->old < 0 ? 1 : 2, &reply);
	archive = jsonl_report_get_string(reply, "archive");
	if (rc && jsonl_report_get_string(reply, "why"))
		t->why = strdup(jsonl_report_get_string(reply, "why"));
	if (rc == 0 && archive && archive[0] &&
	    asprintf(kept, "%s/.jsonlfs/archive/%s", t->vault.root, archive) < 0)
		*kept = NULL;
	jsonl_report_free(reply);
	return rc;
}

/* The new content is ready and judged. */
static int carry_out(struct target *t)
{
	cleanup_free char *kept = NULL;
	struct ctl_place place = {0};
	char number[CTL_NUMBER];
	int rc = rewrite_mounted(t, &kept);

	/* Nobody serves it. */
	if (rc == -ENOENT) {
		rc = ctl_place_find(t->real, &place);
		if (rc == 0)
			rc = place.inside ? -EXDEV
					  : rewrite_bare(t, place.anywhere, &kept);
		ctl_place_free(&place);
	}
	if (rc)
		return fail(t, rc);
	(void)ctl_print_name(stdout, t->r->file);
	printf(": %s: %s records now", t->r->command->name,
	       ctl_number(t->records, number));
	(void)fputs(kept ? "; the old content is " : "", stdout);
	(void)ctl_print_name(stdout, kept ? kept : "");
	putchar('\n');
	return 0;
}

static int judge(struct target *t)
{
	int rc = ctl_content_judge(t->new, &t->limits, &t->records);

	if (rc <= 0)
		return rc < 0 ? fail(t, rc) : 0;
	ctl_error("%s: nothing was changed: these lines of the new content are no "
		  "records",
		  t->r->file);
	return CTL_DAMAGE;
}

/* ---- replace ---- */

static int replace(struct target *t)
{
	int rc = ctl_content_add(t->new, STDIN_FILENO);
	int code = rc < 0 ? fail(t, rc) : judge(t);

	if (code == 0 && t->records == 0 && !t->r->empty) {
		ctl_error("%s: nothing was changed: the new content has no record; if "
			  "that is meant, say --empty",
			  t->r->file);
		return CTL_DAMAGE;
	}
	return code ? code : carry_out(t);
}

/* ---- delete-record ---- */

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Copies all but the lines that are to go. */
static int leave_out(struct target *t)
{
	off_t from = 0, start, end;
	struct stat st;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < t->r->nlines; i++) {
		if (i && t->r->lines[i] == t->r->lines[i - 1])
			continue;
		rc = ctl_content_line(t->old, t->r->lines[i], &start, &end);
		if (rc == -ENOENT)
			ctl_error("%s: has no line %llu", t->r->file,
				  (unsigned long long)t->r->lines[i]);
		else if (rc == 0)
			rc = ctl_content_add_range(t->new, t->old, from, start);
		from = end;
	}
	if (rc == 0 && fstat(t->old, &st) < 0)
		rc = -errno;
	return rc ? rc : ctl_content_add_range(t->new, t->old, from, st.st_size);
}

static int delete_record(struct target *t)
{
	int rc = keep_old(t), code;

	qsort(t->r->lines, t->r->nlines, sizeof(*t->r->lines), by_number);
	if (rc == 0)
		rc = leave_out(t);
	if (rc == -ENOENT)
		return CTL_FAILURE;
	code = rc < 0 ? fail(t, rc) : judge(t);
	return code ? code : carry_out(t);
}

/* ---- edit ---- */

struct draft {
	char dir[PATH_MAX];
	char path[PATH_MAX];
};

static int draft_make(struct draft *d, const struct target *t)
{
	/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	const char *tmp = getenv("TMPDIR");
	cleanup_close int fd = -1;

	(void)snprintf(d->dir, sizeof(d->dir), "%.2000s/jsonlfsctl-edit.XXXXXX",
		       tmp && tmp[0] ? tmp : "/tmp");
	if (!mkdtemp(d->dir))
		return -errno;
	/* Editors know by the name what it is. */
	(void)snprintf(d->path, sizeof(d->path), "%.2100s/%s", d->dir,
		       strrchr(t->real, '/') + 1);
	fd = open(d->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || lseek(t->old, 0, SEEK_SET) < 0)
		return -errno;
	return ctl_content_add(fd, t->old);
}

static void draft_remove(struct draft *d)
{
	(void)unlink(d->path);
	/* An editor may have left something beside: that is not ours to remove. */
	(void)rmdir(d->dir);
}

/* 0, or an exit code after a message. */
static int run_editor(const struct draft *d)
{
	static const char script[] =
	    "exec ${VISUAL:-${EDITOR:-$(command -v editor || echo vi)}} \"$1\"";
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		(void)execl("/bin/sh", "sh", "-c", script, "sh", d->path, (char *)NULL);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	ctl_error("the editor failed: nothing was changed; set EDITOR to one that works");
	return CTL_FAILURE;
}

static int draft_read(const struct draft *d, struct target *t)
{
	cleanup_close int fd = open(d->path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : ctl_content_add(t->new, fd);
}

static int is_as_before(const struct target *t)
{
	struct stat a, b;

	if (fstat(t->old, &a) < 0 || fstat(t->new, &b) < 0)
		return -errno;
	return a.st_size == b.st_size ? ctl_content_equals(t->old, t->new, a.st_size) : 0;
}

static int edit(struct target *t)
{
	struct draft d;
	int rc = keep_old(t), code;

	if (rc == 0)
		rc = draft_make(&d, t);
	if (rc < 0)
		return fail(t, rc);
	code = run_editor(&d);
	if (code) {
		draft_remove(&d);
		return code;
	}
	rc = draft_read(&d, t);
	if (rc == 0)
		rc = is_as_before(t);
	if (rc == 1) {
		(void)ctl_print_name(stdout, t->r->file);
		puts(": not changed");
		draft_remove(&d);
		return 0;
	}
	code = rc < 0 ? fail(t, rc) : judge(t);
	if (code == 0)
		code = carry_out(t);
	if (code == 0)
		draft_remove(&d);
	else
		ctl_error("your text is kept in %s: mend it and use jsonlfsctl replace, "
			  "or edit again",
			  d.path);
	return code;
}

/* ---- the command line ---- */

static int take_line(struct request *r, const char *value)
{
	char *end;
	uint64_t n = strtoull(value, &end, 10);
	uint64_t *grown;

	if (value[0] < '1' || value[0] > '9' || *end)
		return ctl_usage(r->command, "--line is a number from 1, not %s", value);
	grown = reallocarray(r->lines, r->nlines + 1, sizeof(*r->lines));
	if (!grown) {
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	r->lines = grown;
	r->lines[r->nlines++] = n;
	return 0;
}

static int parse(struct request *r, int argc, char **argv)
{
	bool options = true;
	const char *value;
	int code = 0;

	for (int i = 1; i < argc && code == 0; i++) {
		if (!options || argv[i][0] != '-') {
			if (r->file)
				return ctl_usage(r->command, "one file at a time");
			r->file = argv[i];
		} else if (strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (r->command == &ctl_replace &&
			   strcmp(argv[i], "--empty") == 0) {
			r->empty = true;
		} else if (r->command == &ctl_delete_record &&
			   ctl_take_value("--line", argc, argv, &i, &value)) {
			code = take_line(r, value);
		} else if (!ctl_take_value("--state", argc, argv, &i, &r->state)) {
			code = ctl_options_take(r->command, &r->options, argc, argv, &i);
		}
	}
	if (code == 0 && !r->file)
		code = ctl_usage(r->command, "a file is missing");
	if (code == 0 && r->command == &ctl_delete_record && !r->nlines)
		code = ctl_usage(r->command, "--line is missing");
	return code;
}

static int run(const struct ctl_command *command, int (*make)(struct target *t), int argc,
	       char **argv)
{
	struct request r = {.command = command};
	int code = parse(&r, argc, argv);
	struct target t;

	if (code == 0) {
		code = target_open(&t, &r);
		if (code == 0)
			code = make(&t);
		target_close(&t);
	}
	free(r.lines);
	return code;
}

static int replace_run(int argc, char **argv)
{
	return run(&ctl_replace, replace, argc, argv);
}

static int edit_run(int argc, char **argv)
{
	return run(&ctl_edit, edit, argc, argv);
}

static int delete_record_run(int argc, char **argv)
{
	return run(&ctl_delete_record, delete_record, argc, argv);
}

#define COMMON_HELP                                                                      \
	"\n"                                                                             \
	"For root, the owner of the file, and the owner of the mount. The old content "  \
	"is\n"                                                                           \
	"kept in the archive of the vault (elsewhere beside the file, as "               \
	"NAME.orig-STAMP)\n"                                                             \
	"until jsonlfsctl archive drop removes it: a secret is not gone before that. "   \
	"It is\n"                                                                        \
	"logged who did it. On a mounted vault the daemon does it, and programs that "   \
	"have\n"                                                                         \
	"the file open go on in the new one. On a bare vault nobody may have it open "   \
	"for\n"                                                                          \
	"writing.\n"                                                                     \
	"\n"                                                                             \
	"  --state=DIR  the state directory, if it is not .jsonlfs in the vault\n"       \
	"\n"                                                                             \
	"What a record is, as the mount has it: --maxdepth, --maxrecord, --value, "      \
	"--config.\n"                                                                    \
	"\n"                                                                             \
	"Exit status: 0, 4 the new content is not all records and nothing was changed, " \
	"8\n"                                                                            \
	"it could not be done, 16 wrong usage."

const struct ctl_command ctl_replace = {
    .name = "replace",
    .run = replace_run,
    .synopsis = "[--empty] [--state=DIR] [--OPTION=VALUE...] FILE < NEW",
    .summary = "give a log new content as a whole, and keep the old",
    .help = "\n"
	    "The records on standard input become the content of FILE, in one step. All "
	    "lines\n"
	    "must be records; a last newline is added. What was appended before that "
	    "step is in\n"
	    "the archive, what comes after it in the new content.\n"
	    "\n"
	    "  --empty      the new content may have no record\n" COMMON_HELP,
};

const struct ctl_command ctl_edit = {
    .name = "edit",
    .run = edit_run,
    .synopsis = "[--state=DIR] [--OPTION=VALUE...] FILE",
    .summary = "change a log by hand, checked, and keep the old",
    .help = "\n"
	    "Starts VISUAL, EDITOR or `editor` on a copy. When the editor ends and all "
	    "lines are\n"
	    "records, the copy becomes the content of FILE, followed by what was "
	    "appended to it\n"
	    "meanwhile. If it was changed otherwise, or lines are no records, nothing is "
	    "changed\n"
	    "and your text is kept.\n" COMMON_HELP,
};

const struct ctl_command ctl_delete_record = {
    .name = "delete-record",
    .run = delete_record_run,
    .synopsis = "--line=N... [--state=DIR] [--OPTION=VALUE...] FILE",
    .summary = "take single lines out of a log, and keep the old",
    .help = "\n"
	    "The content of FILE without the lines that are named, followed by what was "
	    "appended\n"
	    "meanwhile, takes its place in one step. Lines are counted from 1, as "
	    "jsonlfsctl\n"
	    "check and grep -n count them.\n"
	    "\n"
	    "  --line=N     a line that is to go; may be given many times\n" COMMON_HELP,
};
