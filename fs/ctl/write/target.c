/* SPDX-License-Identifier: MIT */
#include "ctl/write/target.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "ctl/ask/control.h"
#include "ctl/repair/rewrite.h"
#include "ctl/find/content.h"

/* Writes a line to the syslog, with the names in it escaped. */
static void log_bare(const struct ctl_target *t, const char *kept)
{
	cleanup_free char *path = ctl_safe_text(t->r->file);
	cleanup_free char *archive = ctl_safe_text(kept);

	openlog("jsonlfsctl", LOG_PID, LOG_DAEMON);
	syslog(LOG_NOTICE, "replaced path=\"%s\" verb=\"%s\" uid=%u archive=\"%s\"",
	       path ? path : "?", t->r->command->name, getuid(), archive ? archive : "?");
	closelog();
}

int ctl_target_fail(const struct ctl_target *t, int rc)
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
	ctl_error("%s: %s", t->r->file,
		  text ? text : ctl_rewrite_explain(t->r->file, rc));
	return CTL_FAILURE;
}

/* ---- opening ---- */

static int open_path(struct ctl_target *t)
{
	struct stat st;

	t->fd = ctl_vault_is_directory(&t->vault) ? -EINVAL : ctl_vault_open(&t->vault);
	if (t->fd < 0 || fstat(t->fd, &st) < 0)
		return t->fd < 0 ? t->fd : -errno;
	return geteuid() != 0 && geteuid() != st.st_uid ? -EPERM : 0;
}

static void target_close(struct ctl_target *t)
{
	const int fds[] = {t->fd, t->old, t->new};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	free(t->why);
	ctl_vault_free(&t->vault);
}

/* 0, or an exit code after a message. Pair with target_close in any case. */
static int target_open(struct ctl_target *t, const struct ctl_change *r)
{
	struct jsonl_config config;
	int rc, code = 0;

	*t = (struct ctl_target){.r = r, .fd = -1, .old = -1, .new = -1};
	t->vault.root_fd = t->vault.spot.dir = t->vault.spot.root = -1;
	rc = ctl_vault_find(r->file, &t->vault);
	if (rc == 0)
		rc = open_path(t);
	if (rc == 0)
		rc = jsonl_config_init(&config);
	if (rc < 0)
		return ctl_target_fail(t, rc);
	code = ctl_options_apply(r->command, &r->options, &t->vault, &config);
	if (code == 0)
		rc = ctl_options_limits_of(&config, t->vault.name, &t->limits);
	jsonl_config_deinit(&config);
	if (code == 0 && rc == 0)
		rc = t->new = ctl_content_new();
	return code || rc >= 0 ? code : ctl_target_fail(t, rc);
}

int ctl_target_keep(struct ctl_target *t)
{
	int rc;

	t->old = ctl_content_new();
	rc = t->old < 0 ? t->old : lseek(t->fd, 0, SEEK_SET) < 0 ? -errno : 0;
	return rc < 0 ? rc : ctl_content_add(t->old, t->fd);
}

/* ---- carrying it out ---- */

/* Appends the records that the log got since its old content was read. */
static int add_growth(struct ctl_rewrite *w, const struct ctl_target *t)
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
	/* A last record that got its newline since then has one in the new content,
	 * too. */
	if (from && pread(t->fd, &a, 1, from - 1) == 1 && a != '\n' &&
	    pread(t->fd, &b, 1, from) == 1 && b == '\n')
		from++;
	return ctl_content_add_range(w->replace.fd, t->fd, from, now.st_size);
}

struct bare {
	struct ctl_rewrite rewrite; /* first: cast back */
	const struct ctl_target *target;
};

static int fill(struct ctl_rewrite *w)
{
	const struct ctl_target *t = ((struct bare *)w)->target;
	struct stat st;
	int rc = fstat(t->new, &st) < 0 ? -errno : 0;

	if (rc == 0)
		rc = ctl_content_add_range(w->replace.fd, t->new, 0, st.st_size);
	return rc || t->old < 0 ? rc : add_growth(w, t);
}

static int rewrite_bare(struct ctl_target *t, char **kept)
{
	cleanup_close int dir_fd = ctl_vault_open_directory(&t->vault);
	cleanup_close int state_fd = ctl_vault_state(&t->vault, t->r->state);
	struct bare b = {.rewrite = {.store = {.state_fd = state_fd,
					       .dir_fd = dir_fd,
					       .old_fd = t->fd,
					       .name = t->vault.spot.name,
					       .path = t->vault.name},
				     .mounted = t->vault.mounts.count > 0,
				     .fill = fill},
			 .target = t};
	int rc;

	if (dir_fd < 0)
		return dir_fd;
	if (state_fd == -ENOENT || state_fd == -ENOTDIR)
		b.rewrite.store.state_fd = -1;
	else if (state_fd < 0)
		return state_fd;
	rc = ctl_rewrite(&b.rewrite);
	if (rc && ctl_rewrite_unsynced(&b.rewrite))
		t->why = strdup(CTL_REWRITE_UNSYNCED);
	if (rc == 0 || ctl_rewrite_unsynced(&b.rewrite))
		*kept =
		    ctl_rewrite_kept(&b.rewrite, t->r->file, t->vault.root, t->r->state);
	if (*kept)
		log_bare(t, *kept);
	return rc;
}

static int rewrite_mounted(struct ctl_target *t, char **kept)
{
	struct jsonl_report *request = ctl_control_request("replace"), *reply;
	const int fds[] = {t->new, t->old};
	const char *archive;
	int rc;

	jsonl_report_add_string(request, "path", t->vault.name);
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

int ctl_target_carry_out(struct ctl_target *t)
{
	cleanup_free char *kept = NULL;
	char number[CTL_NUMBER];
	int rc = rewrite_mounted(t, &kept);

	/* No daemon serves the vault. */
	if (rc == -ENOENT)
		rc = t->vault.mount ? -EXDEV : rewrite_bare(t, &kept);
	if (rc)
		return ctl_target_fail(t, rc);
	(void)ctl_print_name(stdout, t->r->file);
	printf(": %s: %s record%s now", t->r->command->name,
	       ctl_number(t->records, number), t->records == 1 ? "" : "s");
	(void)fputs(kept ? "; the old content is " : "", stdout);
	(void)ctl_print_name(stdout, kept ? kept : "");
	putchar('\n');
	return 0;
}

int ctl_target_judge(struct ctl_target *t, int rc)
{
	if (rc == 0)
		rc = ctl_content_judge(t->new, &t->limits, &t->records);
	if (rc <= 0)
		return rc < 0 ? ctl_target_fail(t, rc) : 0;
	ctl_error("%s: nothing was changed: these lines of the new content are no "
		  "records",
		  t->r->file);
	return CTL_DAMAGE;
}

/* ---- the command line ---- */

static int take_line(struct ctl_change *r, const char *value)
{
	char *end;
	uint64_t n = strtoull(value, &end, 10);

	if (value[0] < '1' || value[0] > '9' || *end)
		return ctl_usage(r->command, "--line is a number from 1, not %s", value);
	if (jsonl_grow(&r->lines, &r->cap, r->nlines + 1, sizeof(*r->lines))) {
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	r->lines[r->nlines++] = n;
	return 0;
}

static int parse(struct ctl_change *r, int argc, char **argv)
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

int ctl_change_run(const struct ctl_command *command, int (*make)(struct ctl_target *t),
		   int argc, char **argv)
{
	struct ctl_change r = {.command = command};
	int code = parse(&r, argc, argv);
	struct ctl_target t;

	if (code == 0) {
		code = target_open(&t, &r);
		if (code == 0)
			code = make(&t);
		target_close(&t);
	}
	free(r.lines);
	return code;
}
