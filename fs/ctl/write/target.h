/* SPDX-License-Identifier: MIT */
/* Replaces the content of a log, for replace, edit and delete-record. In a mounted vault
 * the daemon does it, even while programs have the log open for appending; else it is
 * done here, under the lock. One thread. */
#ifndef FS_CTL_TARGET_H
#define FS_CTL_TARGET_H

#include "ctl/options.h"

struct ctl_change {
	const struct ctl_command *command;
	const char *state, *file;
	bool empty;	 /* replace: with nothing */
	uint64_t *lines; /* delete-record */
	size_t nlines;
	struct ctl_options options;
};

struct ctl_target {
	const struct ctl_change *r;
	struct ctl_vault vault;
	struct jsonl_limits limits;
	int fd;	 /* the file, for reading */
	int old; /* what the new content was made from; -1: from nothing */
	int new;
	uint64_t records; /* of the new content */
	char *why;	  /* what the daemon said besides; NULL */
};

/* Takes the options of a command and runs it: make() is given the open file, makes the
 * new content and returns the exit code. */
int ctl_change_run(const struct ctl_command *command, int (*make)(struct ctl_target *t),
		   int argc, char **argv);
/* Keeps a copy of the file as it is now, which the new content is made from. 0 or -errno.
 */
int ctl_target_keep(struct ctl_target *t) jsonl_must_check;
/* Checks that all lines of the new content are records. 0, or an exit code after
 * messages. */
int ctl_target_judge(struct ctl_target *t);
/* Carries it out, when the new content has been judged. 0, or an exit code after a
 * message. */
int ctl_target_carry_out(struct ctl_target *t);
/* Says why not. CTL_FAILURE. */
int ctl_target_fail(const struct ctl_target *t, int rc);

/* The part of the help that they share. */
#define CTL_CHANGE_HELP                                                                  \
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

#endif
