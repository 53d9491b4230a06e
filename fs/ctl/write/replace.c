/* SPDX-License-Identifier: MIT */
/* jsonlfsctl replace: gives a log new content as a whole. */
#include <unistd.h>

#include "ctl/find/content.h"
#include "ctl/write/target.h"

static int replace(struct ctl_target *t)
{
	int code = ctl_target_judge(t, ctl_content_add(t->new, STDIN_FILENO));

	if (code == 0 && t->records == 0 && !t->r->empty) {
		ctl_error("%s: nothing was changed: the new content has no record; if "
			  "that is meant, say --empty",
			  t->r->file);
		return CTL_DAMAGE;
	}
	return code ? code : ctl_target_carry_out(t);
}

static int replace_run(int argc, char **argv)
{
	return ctl_change_run(&ctl_replace, replace, argc, argv);
}

const struct ctl_command ctl_replace = {
    .name = "replace",
    .run = replace_run,
    .synopsis = "[--empty] [--state=DIR] [--OPTION=VALUE...] FILE < NEW",
    .summary = "give a log new content as a whole, and keep the old",
    .help =
	"\n"
	"The records on standard input become the content of FILE, in one step. All\n"
	"lines must be records; a missing last newline is added. What was appended\n"
	"before that step is in the archive, what comes after it in the new content.\n"
	"\n"
	"  --empty      the new content may have no record\n" CTL_CHANGE_HELP,
};
