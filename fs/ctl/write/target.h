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
	bool empty;	 /* replace: by nothing, too */
	uint64_t *lines; /* delete-record: their numbers */
	size_t nlines, cap;
	struct ctl_options options;
};

struct ctl_target {
	const struct ctl_change *r;
	struct ctl_vault vault;
	struct jsonl_limits limits;
	int fd;	 /* the file, for reading */
	int old; /* the content that the new one was made from; -1: it was made from
		    nothing */
	int new;
	uint64_t records; /* of the new content */
	char *why;	  /* the daemon's reason for refusing; or NULL */
};

/* Runs a command: parses its options, opens the file and calls make(), which makes the
 * new content, puts it in place and returns the exit code. */
int ctl_change_run(const struct ctl_command *command, int (*make)(struct ctl_target *t),
		   int argc, char **argv);
/* Copies the file as it is now to t->old, for the new content to be made from. 0 or
 * -errno. */
int ctl_target_keep(struct ctl_target *t) jsonl_must_check;
/* Checks that the new content could be made (`rc`: 0, or -errno of that) and that all of
 * its lines are records. 0, or an exit code after messages. */
int ctl_target_judge(struct ctl_target *t, int rc);
/* Puts the new content in place, after ctl_target_judge(). 0, or an exit code after a
 * message. */
int ctl_target_carry_out(struct ctl_target *t);
/* Prints why the content was not replaced; returns CTL_FAILURE. */
int ctl_target_fail(const struct ctl_target *t, int rc);

/* The part of the help that they share. */
#define CTL_CHANGE_HELP                                                                  \
	"\n"                                                                             \
	"For root, the owner of the file, and the owner of the mount. The old\n"         \
	"content is kept in the archive of the vault (outside of vaults beside the\n"    \
	"file, as NAME.orig-STAMP) until jsonlfsctl archive drop removes it: until\n"    \
	"then a secret is not gone. The syslog says who did it. In a mounted vault\n"    \
	"the daemon does it, and programs that have the file open go on in the new\n"    \
	"one. In an unmounted vault no program may have it open for writing.\n"          \
	"\n"                                                                             \
	"  --state=DIR  the state directory, if it is not .jsonlfs in the vault\n"       \
	"\n"                                                                             \
	"What a record is, is taken from the mount, or from --maxdepth,\n"               \
	"--maxrecord, --value, --config.\n"                                              \
	"\n"                                                                             \
	"Exit status: 0, 4 not all of the new content is records and nothing was\n"      \
	"changed, 8 it could not be done, 16 wrong usage."

#endif
