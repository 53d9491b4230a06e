/* SPDX-License-Identifier: MIT */
/* Declares what the actions of `jsonlfsctl archive` share. One thread. */
#ifndef FS_CTL_ARCHIVE_H
#define FS_CTL_ARCHIVE_H

#include <stdbool.h>

#include "base/error.h"
#include "ctl/kept/selection.h"

struct ctl_entries;
struct ctl_vault;

struct archive_request {
	bool json;
	const char *state, *as;
	struct ctl_selection selection; /* drop: which entries, unless by name */
	char **rest;			/* arguments besides options: PATH, NAME... */
	int count;
};

/* 0 or -errno; pair with ctl_entries_close in any case. */
int archive_open(const struct archive_request *r, const struct ctl_vault *v,
		 struct ctl_entries *e) jsonl_must_check;

/* Puts an entry back where it was, or elsewhere; returns the exit code. */
int archive_restore(const struct archive_request *r, const struct ctl_vault *v);

#endif
