/* SPDX-License-Identifier: MIT */
/* `jsonlfsctl archive`: what its actions share. One thread. */
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
	struct ctl_selection selection; /* drop: of which entries, if not by name */
	char **rest;			/* what is no option: PATH, NAME... */
	int count;
};

/* 0 or -errno; pair with ctl_entries_close in any case. */
int archive_open(const struct archive_request *r, const struct ctl_vault *v,
		 struct ctl_entries *e) jsonl_must_check;
/* Says why the archive could not be read; returns the exit code. */
int archive_unreadable(const struct archive_request *r, int rc);
/* Returns true when an entry may have this name. */
bool archive_is_name(const char *name);

/* Puts an entry back where it was, or elsewhere; returns the exit code. */
int archive_restore(const struct archive_request *r, const struct ctl_vault *v);

#endif
