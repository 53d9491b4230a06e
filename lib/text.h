/* One line of bytes -> a valid JSON text (RFC 8259, in UTF-8 as of RFC 3629), or what is
 * wrong with it and at which byte. What the grammar allows is valid: keys that come
 * twice, escapes of lone surrogates, numbers of any size. Iterative, allocates nothing,
 * keeps no state, reads nothing outside the line: any thread. The vector and the portable
 * path give identical answers. */
#ifndef JSONL_TEXT_H
#define JSONL_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

/* Hard ceiling of maxdepth: the bit stack of open containers lives on the C stack. */
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
	/* On a verdict: index of the first wrong byte, that is the length of the longest
	 * beginning of the line that some valid text has, too; so len when the text ends
	 * too early, the byte that breaks a UTF-8 sequence (not its first), and the first
	 * byte of the second record for JSONL_FUSED. Of JSONL_BOM 0. When valid: 0. */
	size_t offset;
	/* Of the top-level value, when valid. */
	enum jsonl_kind kind;
	/* Valid, but more bytes could still change the value: a number at the very end.
	 */
	bool can_grow;
};

/* Checks `len` bytes as one JSON text with optional white space (space, tab, CR, LF)
 * around it; used for a line without its newline, and for whole documents. Returns
 * JSONL_OK or a verdict: JSONL_BLANK (white space only, or nothing), JSONL_INCOMPLETE
 * (a proper prefix of a valid text), JSONL_FUSED (a valid container, followed by `{` or
 * `[`), JSONL_TRAILING (followed by anything else) and so on; *out is always filled.
 * Where the wrong byte is a NUL the verdict is JSONL_NUL. A scalar has depth 0, [] has
 * depth 1; maxdepth above JSONL_TEXT_MAXDEPTH counts as that. */
int jsonl_text_check(const void *line, size_t len, unsigned maxdepth,
		     struct jsonl_text *out) jsonl_must_check;

/* The same answers without vector instructions; public so that tests can compare. */
int jsonl_text_check_portable(const void *line, size_t len, unsigned maxdepth,
			      struct jsonl_text *out) jsonl_must_check;

#endif
