/* SPDX-License-Identifier: MIT */
/* States the error contract of libjsonl, for every function that returns an int:
 *
 *   0         success
 *   negative  the system failed: -errno of the call that failed
 *   positive  a verdict about the data: enum jsonl_verdict, which the caller handles
 *
 * A verdict has a name for programs (syslog lines, reports), a sentence for people, and
 * the errno that a program gets when a write is refused for it. No state; any thread. */
#ifndef JSONL_ERROR_H
#define JSONL_ERROR_H

#include <errno.h>

/* clang-format off */
#define JSONL_VERDICTS(X)                                                                    \
	X(BLANK,         "blank",          EBADMSG,  "the line holds white space only")          \
	X(INCOMPLETE,    "incomplete",     EBADMSG,  "the line ends in the middle of a value")   \
	X(UNEXPECTED,    "unexpected",     EBADMSG,  "this byte cannot stand here in JSON")      \
	X(TRAILING,      "trailing",       EBADMSG,  "something follows the value on its line")  \
	X(FUSED,         "fused",          EBADMSG,  "two records share one line")               \
	X(BAD_NUMBER,    "bad-number",     EBADMSG,  "this is not a JSON number")                \
	X(BAD_LITERAL,   "bad-literal",    EBADMSG,  "only true, false and null are literals")   \
	X(BAD_ESCAPE,    "bad-escape",     EBADMSG,  "this escape is not one of JSON's")         \
	X(CONTROL,       "control",        EBADMSG,  "a raw control character in a string")      \
	X(NUL,           "nul",            EBADMSG,  "a NUL byte")                               \
	X(BAD_UTF8,      "bad-utf8",       EBADMSG,  "the bytes are not UTF-8")                  \
	X(BOM,           "bom",            EBADMSG,  "a byte order mark")                        \
	X(TOO_DEEP,      "too-deep",       EBADMSG,  "nested deeper than maxdepth allows")       \
	X(NOT_CONTAINER, "not-container",  EBADMSG,  "value=container wants an object or array") \
	X(NOT_OBJECT,    "not-object",     EBADMSG,  "value=object wants an object")             \
	X(OVERSIZE,      "oversize",       EMSGSIZE, "the record reaches pipebuf and oversize=reject is set") \
	X(TOO_LONG,      "too-long",       EMSGSIZE, "the record is longer than maxrecord")      \
	X(UNSHARED,      "unshared",       EMSGSIZE, "the record is longer than GlusterFS takes at once (126976 bytes)") \
	X(TORN_TAIL,     "torn-tail",      EUCLEAN,  "the file ends in half a record")           \
	X(UNKNOWN_TAIL,  "unknown-tail",   EUCLEAN,  "the end of the file is not JSON Lines; nothing was touched") \
	X(MISPLACED,     "misplaced",      EPERM,    "the write is not at the end, where records are added; what restores or downloads a file in pieces does so below a directory that exclude= names, then mv")
/* clang-format on */

enum jsonl_verdict {
	JSONL_OK = 0,
#define X(id, name, code, text) JSONL_##id,
	JSONL_VERDICTS(X)
#undef X
	JSONL_VERDICT_COUNT
};

#define jsonl_must_check __attribute__((warn_unused_result))

/* Returns the name of a verdict, "ok" for 0, "error" for a negative code. Static storage.
 */
const char *jsonl_error_name(int code);
/* Returns a sentence for people; for a negative code that of strerror(3), in a buffer
 * that the next call of the same thread overwrites. */
const char *jsonl_error_text(int code);
/* Returns the errno (positive) that a refused program gets for a verdict or negative
 * code. */
int jsonl_error_errno(int code);

#endif
