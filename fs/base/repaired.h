/* SPDX-License-Identifier: MIT */
/* Puts lines that a repair takes out of a log into the quarantine. Any thread. */
#ifndef FS_BASE_REPAIRED_H
#define FS_BASE_REPAIRED_H

#include <sys/types.h>

#include "base/error.h"

struct jsonl_quarantine;
struct jsonl_repair_change;

/* The log, and the caller that has asked for its repair. */
struct fs_repaired {
	const char *path; /* from the vault's root */
	int fd;
	pid_t pid;
	uid_t uid;
};

/* Stores a line. `data`: the c->length bytes that are taken out. 0 or -errno. */
int fs_repaired_set_aside(struct jsonl_quarantine *q, const struct fs_repaired *from,
			  const struct jsonl_repair_change *c,
			  const void *data) jsonl_must_check;

#endif
