/* The vector path of text.c: says yes to a valid text, quickly. It says no without a
 * reason; the portable path then finds verdict and offset, so that the two can differ
 * in one way only, and tests compare that. Internal to lib and its tests; x86-64 only.
 * No state, no allocation, any thread; never reads outside the line. */
#ifndef JSONL_TEXT_VECTOR_H
#define JSONL_TEXT_VECTOR_H

#include <stdbool.h>
#include <stddef.h>

#include "text.h"

#if defined(__x86_64__)
#define JSONL_TEXT_VECTOR 1
#else
#define JSONL_TEXT_VECTOR 0
#endif

#if JSONL_TEXT_VECTOR
/* maxdepth must not exceed JSONL_TEXT_MAXDEPTH. Fills *out when the answer is true. */
bool jsonl_text_accept(const void *line, size_t len, unsigned maxdepth,
		       struct jsonl_text *out);
#endif

#endif
