/* The options of a mount that jsonlfsctl takes too, because they decide which files are
 * governed and what a record is. One thread. */
#ifndef FS_CTL_OPTIONS_H
#define FS_CTL_OPTIONS_H

#include "config.h"
#include "ctl.h"
#include "frame.h"

#define CTL_OPTIONS 11

/* Zero-initialized; values are borrowed from argv, NULL: not given. */
struct ctl_options {
	const char *set[CTL_OPTIONS];
};

/* Takes --NAME=VALUE or --NAME VALUE at argv[*i]. 0, or CTL_USAGE after a message. */
int ctl_options_take(const struct ctl_command *command, struct ctl_options *o, int argc,
		     char **argv, int *i);
/* `config` has the defaults; a running mount's options override them, what the command
 * line says overrides these. 0, or an exit code after a message. */
int ctl_options_apply(const struct ctl_command *command, const struct ctl_options *o,
		      const struct ctl_vault *v, struct jsonl_config *config);
void ctl_options_limits(const struct jsonl_config *config, struct jsonl_limits *limits);

#endif
