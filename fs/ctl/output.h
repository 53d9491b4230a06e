/* SPDX-License-Identifier: MIT */
/* A report that goes to a file instead of standard output, also as root and into a
 * directory of somebody else's: nobody can make it overwrite another file. One thread. */
#ifndef FS_CTL_OUTPUT_H
#define FS_CTL_OUTPUT_H

#include <limits.h>

struct ctl_output {
	const char *path; /* NULL: standard output stays what it is */
	int dir;
	int saved; /* standard output as it was */
	char name[NAME_MAX + 1];
	char temp[NAME_MAX + 1];
};

/* Makes standard output a new file in the directory of `path`, which must be root's, the
 * caller's, or of the owner of `vault` (a path, may be NULL). Follows no link of other
 * users. 0, or an exit code after a message. Pair with _end if 0. */
int ctl_output_begin(struct ctl_output *o, const char *path, const char *vault);
/* Gives the file its name, in place of an earlier one, durably; unless `code` is
 * CTL_USAGE, or something could not be written. Returns `code`, with CTL_FAILURE after a
 * message. */
int ctl_output_end(struct ctl_output *o, int code);

#endif
