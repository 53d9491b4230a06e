/* The first step of the vector path: bytes -> tokens, 64 at a time. The bytes are sorted
 * into bit masks, which tell without a branch a byte what stands in strings; the contents
 * of strings are checked here, which for plain ASCII is one comparison. What is left are
 * tokens: one bit for each structural character, each opening quote and each first byte
 * of a number or literal, or of something that should be one. White space and the insides
 * of strings are never seen again. Internal to lib; no allocation; never reads outside
 * the line. */
#ifndef JSONL_TEXT_TOKENS_H
#define JSONL_TEXT_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

#include "text_vector.h"

#if JSONL_TEXT_VECTOR
/* Zeroed, except that line, next and checked are the first byte of the line and end is
 * behind its last. */
struct jsonl_text_scan {
	const unsigned char *line, *end;
	const unsigned char *base;    /* what bit 0 of the tokens stands for */
	const unsigned char *next;    /* the first byte that was not sorted yet */
	const unsigned char *checked; /* multibyte characters before this are good */
	/* Carried from block to block: */
	uint64_t in_string; /* all ones: the last byte stands in a string */
	uint64_t scalar;    /* 1: the last byte belongs to a number or literal */
	uint64_t escaped;   /* 1: the first byte is the second of an escape */
	bool failed;	    /* the contents of a string are bad */
};

/* The tokens of the next block that has any; bit n stands for base[n]. 0: the line is at
 * its end, or s->failed. */
uint64_t jsonl_text_scan_next(struct jsonl_text_scan *s);
#endif

#endif
