/* SPDX-License-Identifier: MIT */
/* Selects the entries of the archive or the quarantine to drop: names, or all that are
 * old enough and of one user. One thread. */
#ifndef FS_CTL_SELECTION_H
#define FS_CTL_SELECTION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "ctl/ctl.h"
#include "ctl/find/names.h"
#include "ctl/kept/entries.h"

struct ctl_selection {
	bool all, aged, owned;
	uint64_t age; /* seconds */
	uid_t owner;
};

/* Converts an age, a number and s, m, h, d or w, to seconds. 0 or -1. */
int ctl_parse_age(const char *text, uint64_t *seconds) jsonl_must_check;
/* Takes --all, --older-than or --owner from argv[*i]. 1: it did; 0: it is another option;
 * an exit code after a message. */
int ctl_selection_take(const struct ctl_command *command, struct ctl_selection *s,
		       int argc, char **argv, int *i) jsonl_must_check;
bool ctl_selection_given(const struct ctl_selection *s);
/* Adds the names of the entries that are selected. 0 or -errno; pair with
 * ctl_names_free. */
int ctl_selection_read(const struct ctl_selection *s, const struct ctl_entries *e,
		       struct ctl_names *names) jsonl_must_check;
/* Makes it a usage error to give both names and a selection, or neither. 0 or an exit
 * code. */
int ctl_selection_check(const struct ctl_command *command, const struct ctl_selection *s,
			int names) jsonl_must_check;

#endif
