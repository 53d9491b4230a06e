/* SPDX-License-Identifier: MIT */
/* jsonlfsctl edit: lets the user change a log in an editor. */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "ctl/find/content.h"
#include "ctl/write/target.h"

struct draft {
	char dir[PATH_MAX];
	char path[PATH_MAX];
};

static int draft_make(struct draft *d, const struct ctl_target *t)
{
	/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	const char *tmp = getenv("TMPDIR");
	cleanup_close int fd = -1;

	(void)snprintf(d->dir, sizeof(d->dir), "%.2000s/jsonlfsctl-edit.XXXXXX",
		       tmp && tmp[0] ? tmp : "/tmp");
	if (!mkdtemp(d->dir))
		return -errno;
	/* Editors tell the kind of file by its name. */
	(void)snprintf(d->path, sizeof(d->path), "%.2100s/%s", d->dir,
		       t->vault.spot.name);
	fd = open(d->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || lseek(t->old, 0, SEEK_SET) < 0)
		return -errno;
	return ctl_content_add(fd, t->old);
}

static void draft_remove(struct draft *d)
{
	(void)unlink(d->path);
	/* Fails where the editor has left files of its own, which are not ours to
	 * remove. */
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

static int draft_read(const struct draft *d, struct ctl_target *t)
{
	cleanup_close int fd =
	    open(d->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? -errno : ctl_content_add(t->new, fd);
}

static int is_as_before(const struct ctl_target *t)
{
	struct stat a, b;

	if (fstat(t->old, &a) < 0 || fstat(t->new, &b) < 0)
		return -errno;
	return a.st_size == b.st_size ? ctl_content_equals(t->old, t->new, a.st_size) : 0;
}

static int edit(struct ctl_target *t)
{
	struct draft d;
	int rc = ctl_target_keep(t), code;

	if (rc == 0)
		rc = draft_make(&d, t);
	if (rc < 0)
		return ctl_target_fail(t, rc);
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
	code = ctl_target_judge(t, rc);
	if (code == 0)
		code = ctl_target_carry_out(t);
	if (code == 0)
		draft_remove(&d);
	else
		ctl_error("your text is kept in %s: correct it and use jsonlfsctl replace, "
			  "or edit again",
			  d.path);
	return code;
}

static int edit_run(int argc, char **argv)
{
	return ctl_change_run(&ctl_edit, edit, argc, argv);
}

const struct ctl_command ctl_edit = {
    .name = "edit",
    .run = edit_run,
    .synopsis = "[--state=DIR] [--OPTION=VALUE...] FILE",
    .summary = "change a log by hand, checked, and keep the old",
    .help = "\n"
	    "Starts VISUAL, EDITOR or `editor` on a copy. When the editor ends and all\n"
	    "lines are records, the copy and what was appended meanwhile become the\n"
	    "content of FILE. If lines are not records, or FILE was changed in another\n"
	    "way, nothing is changed and your text is kept.\n" CTL_CHANGE_HELP,
};
