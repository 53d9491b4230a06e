/* SPDX-License-Identifier: MIT */
/* Recognises a valid text, quickly: the vector path of text.c, for x86-64. It refuses
 * without a reason; the portable path then finds verdict and offset. For this room and
 * its tests. No state, no allocation; nothing outside the line is read; any thread. */
#ifndef JSONL_TEXT_VECTOR_H
#define JSONL_TEXT_VECTOR_H

#include <stdbool.h>
#include <stddef.h>

#include "json/text.h"

#if defined(__x86_64__)
#define JSONL_TEXT_VECTOR 1
#else
#define JSONL_TEXT_VECTOR 0
#endif

#if JSONL_TEXT_VECTOR
/* Returns true for a valid text, with *out filled. maxdepth is at most
 * JSONL_TEXT_MAXDEPTH. */
bool jsonl_text_accept(const void *line, size_t len, unsigned maxdepth,
		       struct jsonl_text *out);
#endif

#endif
