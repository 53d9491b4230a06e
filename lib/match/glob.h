/* SPDX-License-Identifier: MIT */
/* Matches names against patterns. Bytes are compared exactly (case counts), a leading dot
 * is not special, and the whole text must match:
 *
 *   ?        one character, never a slash
 *   *        any run of characters without a slash, also none
 *   [a-z_]   one of these ASCII characters; [!...] or [^...] one that is none of them,
 *            never a slash; a ] that comes first is one of them
 *   **       any run of characters, slashes too
 *   ** and / at the start of a component: any number of whole directories, also none
 *   \c       the character c itself
 *
 * A list is patterns between colons (commas belong to fstab); a colon in a name is
 * written with a backslash before it. An empty entry of a list is skipped. No state, no
 * allocation, any thread. */
#ifndef JSONL_GLOB_H
#define JSONL_GLOB_H

#include <stdbool.h>
#include <stddef.h>

/* Patterns of more bytes than this are refused. */
#define JSONL_GLOB_MAX 1024

/* Returns what is wrong with a list, a phrase in static storage; NULL: it is valid. */
const char *jsonl_glob_check_list(const char *list);
/* Returns the length of the first pattern of a list; *next: the rest, NULL when there is
 * none.
 */
size_t jsonl_glob_split(const char *list, const char **next);
/* Returns true when text[0..len) matches. jsonl_glob_check_list must have accepted
 * `pattern`, whose leading slash is skipped, since paths are relative to the root. */
bool jsonl_glob_match(const char *pattern, const char *text, size_t len);

#endif
