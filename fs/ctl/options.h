/* SPDX-License-Identifier: MIT */
/* The options of a mount that jsonlfsctl takes too, because they decide which files are
 * governed and what a record is. One thread. */
#ifndef FS_CTL_OPTIONS_H
#define FS_CTL_OPTIONS_H

#include "rules/config.h"
#include "record/frame.h"
#include "rules/policy.h"
#include "ctl/find/vault.h"

#define CTL_OPTIONS 11

/* Zero-initialized; values are borrowed from argv, NULL: not given. */
struct ctl_options {
	const char *set[CTL_OPTIONS];
};

/* Takes --NAME=VALUE or --NAME VALUE at argv[*i]. 0, or CTL_USAGE after a message. */
int ctl_options_take(const struct ctl_command *command, struct ctl_options *o, int argc,
		     char **argv, int *i);
/* Fills in `config`, which has the defaults: from the file of --config, or without one
 * from the running mount; then from the other options of the command line, which hold for
 * every file. 0, or an exit code after a message. */
int ctl_options_apply(const struct ctl_command *command, const struct ctl_options *o,
		      const struct ctl_vault *v, struct jsonl_config *config);
/* Finds the limits that the records of a file have; `path` begins at the vault's root. 0
 * or -ENOMEM. */
int ctl_options_limits(struct jsonl_policy *policy, const char *path,
		       struct jsonl_limits *limits) jsonl_must_check;
/* Finds them for a single file. 0, -ENOMEM or -EINVAL. */
int ctl_options_limits_of(const struct jsonl_config *config, const char *path,
			  struct jsonl_limits *limits) jsonl_must_check;

#endif
