/* SPDX-License-Identifier: MIT */
/* jsonlfsctl delete-record: takes single lines out of a log. */
#include <stdlib.h>
#include <sys/stat.h>

#include "ctl/find/content.h"
#include "ctl/write/target.h"

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Copies all lines but those to be deleted. */
static int leave_out(struct ctl_target *t)
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

static int delete_record(struct ctl_target *t)
{
	int rc = ctl_target_keep(t), code;

	qsort(t->r->lines, t->r->nlines, sizeof(*t->r->lines), by_number);
	if (rc == 0)
		rc = leave_out(t);
	if (rc == -ENOENT)
		return CTL_FAILURE;
	code = ctl_target_judge(t, rc);
	return code ? code : ctl_target_carry_out(t);
}

static int delete_record_run(int argc, char **argv)
{
	return ctl_change_run(&ctl_delete_record, delete_record, argc, argv);
}

const struct ctl_command ctl_delete_record = {
    .name = "delete-record",
    .run = delete_record_run,
    .synopsis = "--line=N... [--state=DIR] [--OPTION=VALUE...] FILE",
    .summary = "take single lines out of a log, and keep the old",
    .help =
	"\n"
	"Replaces the content of FILE, in one step, by all of its lines but those\n"
	"named and by what was appended meanwhile. Lines are counted from 1, as in\n"
	"jsonlfsctl check and grep -n.\n"
	"\n"
	"  --line=N     a line to delete; may be given more than once\n" CTL_CHANGE_HELP,
};
