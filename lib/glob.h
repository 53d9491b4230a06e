/* File name patterns, as options hold them. Bytes are compared exactly (case counts), a
 * leading dot is nothing special, and the whole text must match:
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

/* What is wrong with a list, as a phrase in static storage; NULL: nothing. */
const char *jsonl_glob_check_list(const char *list);
/* Length of the first pattern of a list; *next is where the rest begins, NULL at the end.
 */
size_t jsonl_glob_split(const char *list, const char **next);
/* Does text[0..len) match? `pattern` must have passed jsonl_glob_check_list; a leading
 * slash of it is skipped, as paths are relative to the root. */
bool jsonl_glob_match(const char *pattern, const char *text, size_t len);

#endif
