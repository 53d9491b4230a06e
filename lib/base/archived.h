/* SPDX-License-Identifier: MIT */
/* Makes and parses names of the archive, for the daemon and the tools:
 *
 *   STAMP "Z" [ "." RANDOM [ ".u" UID ] ] "-" PATH
 *
 * STAMP is the UTC moment of the removal with nanoseconds (20261120T101112.123456789), so
 * names sort by time. RANDOM is 16 hexadecimal digits that nobody can guess. UID is there
 * when the file is charged to somebody other than its owner. PATH is the path that the
 * file had, with / and % as %2F and %25; only the end of a long one. Earlier versions
 * wrote no RANDOM. No state, any thread. */
#ifndef JSONL_ARCHIVED_H
#define JSONL_ARCHIVED_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define JSONL_ARCHIVED_NAME  (NAME_MAX + 1)
#define JSONL_ARCHIVED_PATH  120 /* bytes of a path; of a longer one the end */
#define JSONL_ARCHIVED_OWNER ((uid_t)-1)

/* Makes the name for the file that is at `path` now. `payer`: the uid that is charged;
 * _OWNER: its owner. 0 or -errno (no random numbers). */
int jsonl_archived_name(const char *path, uid_t payer,
			char name[JSONL_ARCHIVED_NAME]) jsonl_must_check;

struct jsonl_archived {
	int64_t time; /* seconds since 1970; -1: the name does not say */
	uid_t payer;  /* _OWNER: the file's owner */
	bool whole;   /* `path` is all of it */
	char path[JSONL_ARCHIVED_NAME];
};

/* Parses a name; the path is "" when the name has none. */
void jsonl_archived_parse(const char *name, struct jsonl_archived *archived);

#endif
