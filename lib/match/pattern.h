/* SPDX-License-Identifier: MIT */
/* Matches paths against a colon-separated list of globs (glob.h). Paths are relative to
 * the root of the vault, without a leading slash. A pattern without a slash is compared
 * with the file name alone. Constant once it is filled; any thread. */
#ifndef JSONL_PATTERN_H
#define JSONL_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* One glob. Most are a star and an ending: those are compared directly. */
struct jsonl_pattern {
	char *text;
	const char *ending; /* of a star and an ending: the ending; else NULL */
	size_t ending_len;
	const char *last; /* what a file name alone must match; NULL: any name may do */
	bool path;	  /* has a slash: matched against the path from the root */
};

struct jsonl_patterns {
	struct jsonl_pattern *items;
	size_t n;
	bool path; /* one of them has a slash */
};

/* Parses a list that jsonl_glob_check_list has accepted. 0 or -ENOMEM; pair with _deinit
 * in both cases. */
int jsonl_patterns_init(struct jsonl_patterns *ps, const char *list) jsonl_must_check;
void jsonl_patterns_deinit(struct jsonl_patterns *ps);
/* Returns true when a pattern matches path[0..len), whose file name begins at path +
 * base. */
bool jsonl_patterns_match(const struct jsonl_patterns *ps, const char *path, size_t base,
			  size_t len);
/* Asks by the file name alone: false is certain; true is a guess for a pattern that has a
 * slash. */
bool jsonl_patterns_may_match(const struct jsonl_patterns *ps, const char *name,
			      size_t len);
/* Returns true when a pattern matches path[0..len), but not path[0..stem). */
bool jsonl_patterns_match_own(const struct jsonl_patterns *ps, const char *path,
			      size_t base, size_t len, size_t stem);

#endif
