/* SPDX-License-Identifier: MIT */
/* Repairs one file for `jsonlfsctl repair`: by the daemon or, where there is none,
 * itself. One thread. */
#ifndef FS_CTL_REPAIR_FILE_H
#define FS_CTL_REPAIR_FILE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "ctl/options.h"
#include "record/frame.h"

struct ctl_vault;
struct jsonl_policy;
struct jsonl_quarantine;
struct repair_report;

struct repair_request {
	bool json, all, apply, force;
	const char *state;
	struct ctl_options options;
	char **paths;
	int npaths;
};

/* One path of the command line. */
struct repair_run {
	const struct repair_request *request;
	struct repair_report *report;
	struct jsonl_policy *policy;
	struct jsonl_limits limits; /* of the file at hand */
	struct jsonl_quarantine *quarantine;
	const struct ctl_vault *vault;
	int state_fd;
	bool served; /* --apply, and a daemon serves the vault */
};

/* Looks at a file, open as `fd`, with this name in `dir`; reports what is wrong with it
 * and, if asked, repairs it. `path` begins at the vault's root. */
void repair_file(struct repair_run *run, int dir, int fd, const char *name,
		 const char *shown, const char *path);
/* Reports why nothing was done. `st`: of the file, to name the process that has it open,
 * or NULL. `left`: the file may be damaged. */
void repair_file_failed(struct repair_run *run, const char *shown, const struct stat *st,
			int rc, bool left);

#endif
