/* SPDX-License-Identifier: MIT */
/* Writes a report to a file instead of standard output. Safe for root in a directory of
 * another user: nobody can make it overwrite some other file. One thread. */
#ifndef FS_CTL_OUTPUT_H
#define FS_CTL_OUTPUT_H

#include <limits.h>

struct ctl_output {
	const char *path; /* NULL: standard output stays what it is */
	int dir;
	int saved; /* standard output from before */
	char name[NAME_MAX + 1];
	char temp[NAME_MAX + 1];
};

/* Makes standard output a new file in the directory of `path`, which must be root's, the
 * caller's, or of the owner of `vault` (a path, may be NULL). Follows no link of other
 * users. 0, or an exit code after a message. Pair with _end if 0. */
int ctl_output_begin(struct ctl_output *o, const char *path, const char *vault);
/* Syncs the file and renames it to `path`, over an earlier one; removes it if `code` has
 * CTL_USAGE or if something could not be written. Returns `code`, with CTL_FAILURE added
 * after a message. */
int ctl_output_end(struct ctl_output *o, int code);

#endif
