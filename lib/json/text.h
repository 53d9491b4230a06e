/* SPDX-License-Identifier: MIT */
/* Validates JSON texts (RFC 8259, in UTF-8 as of RFC 3629), and finds the first wrong
 * byte. Everything that the grammar allows is valid: keys that come twice, escapes of
 * lone surrogates, numbers of any size. No recursion, no allocation, no state; nothing
 * outside the line is read; any thread. The vector path and the portable path give
 * identical answers. */
#ifndef JSONL_TEXT_H
#define JSONL_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Upper bound of maxdepth: the bits for open containers are on the C stack. */
#define JSONL_TEXT_MAXDEPTH 4096

enum jsonl_kind {
	JSONL_KIND_NONE,
	JSONL_KIND_OBJECT,
	JSONL_KIND_ARRAY,
	JSONL_KIND_STRING,
	JSONL_KIND_NUMBER,
	JSONL_KIND_LITERAL,
};

struct jsonl_text {
	/* After a verdict: index of the first wrong byte. All bytes before it could begin
	 * a valid text. It is len when the text ends too early, the byte that breaks a
	 * UTF-8 sequence (not its first), the first byte of the second record for
	 * JSONL_FUSED, and 0 for JSONL_BOM. When valid: 0. */
	size_t offset;
	/* When valid: of the outermost value. */
	enum jsonl_kind kind;
	/* Valid, but more bytes could change the value: it ends with a number. */
	bool can_grow;
};

/* Checks `len` bytes as one JSON text with optional white space (space, tab, CR, LF)
 * around it: a line without its newline, or a whole document. Returns JSONL_OK or a
 * verdict: JSONL_BLANK (white space only, or nothing), JSONL_INCOMPLETE (the beginning of
 * a valid text), JSONL_FUSED (a valid container and behind it `{` or `[`), JSONL_TRAILING
 * (anything else behind it) and so on; JSONL_NUL whenever the wrong byte is a NUL. *out
 * is filled in any case. A scalar has depth 0, [] has depth 1; a larger maxdepth counts
 * as JSONL_TEXT_MAXDEPTH. */
int jsonl_text_check(const void *line, size_t len, unsigned maxdepth,
		     struct jsonl_text *out) jsonl_must_check;

/* Returns the length of a byte order mark at the start of these bytes, 3 or 0. It is not
 * part of a text; the first line of a file that was copied may begin with one. */
static inline size_t jsonl_text_mark(const char *line, size_t len)
{
	return len >= 3 && line[0] == '\xef' && line[1] == '\xbb' && line[2] == '\xbf' ? 3 : 0;
}

/* Gives the same answers without vector instructions. */
int jsonl_text_check_portable(const void *line, size_t len, unsigned maxdepth,
			      struct jsonl_text *out) jsonl_must_check;

#endif
