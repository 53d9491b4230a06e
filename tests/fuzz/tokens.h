/* SPDX-License-Identifier: MIT */
/* Bytes of a fuzz input -> pieces of JSON Lines, so that chance alone makes records, bad
 * ones, halves of both, and line ends everywhere. Bytes above the table stand for
 * themselves. */
#ifndef TESTS_FUZZ_TOKENS_H
#define TESTS_FUZZ_TOKENS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition)                                                               \
	do {                                                                             \
		if (!(condition)) {                                                      \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);  \
			abort();                                                         \
		}                                                                        \
	} while (0)

static const char *const token_table[] = {
    "\n",     "{\"a\":1}", "[1]\n",    "{",	  "}",		 "\"",
    ":",      ",",	   "[",	       "]",	  "1",		 "\xef\xbb\xbf",
    "true",   "\r\n",	   "\xc3\xa9", "\xc3",	  "{\"a\":1}\n", " ",
    "\n\n",   "nul",	   "bad\n",    "{\"b\":", "2}\n",	 "[1,2,3",
    "]\n",    "\"s\"",	   "12",       "\r",	  "{}",		 "[[[",
    "{}{}\n", "\\u00",
};
#define TOKENS (sizeof(token_table) / sizeof(token_table[0]))

/* Appends the piece of one byte; returns its length, 0 when there is no room. */
static inline size_t token_add(char *to, size_t room, uint8_t byte)
{
	const char *token = byte < 8 * TOKENS - 8 ? token_table[byte % TOKENS] : NULL;
	size_t len = token ? strlen(token) : 1;

	if (len > room)
		return 0;
	memcpy(to, token ? token : (const char *)&byte, len);
	return len;
}

/* Reads a fuzz input from its front. */
struct input {
	const uint8_t *data;
	size_t left;
};

static inline uint8_t input_byte(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->data++;
}

#endif
