/* SPDX-License-Identifier: MIT */
/* Turns bytes into tokens, 64 at a time: the first step of the vector path. It sorts the
 * bytes into bit masks, which show without a branch per byte which of them are inside
 * strings, and checks those; for plain ASCII that is one comparison. A token is one bit:
 * for each structural character, each opening quote, and the first byte of each number,
 * literal, or anything that should be one. The grammar never sees white space and the
 * insides of strings. For this room only; no allocation; nothing outside the line is
 * read. */
#ifndef JSONL_TEXT_TOKENS_H
#define JSONL_TEXT_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

#include "json/text_vector.h"

#if JSONL_TEXT_VECTOR
/* Begins zeroed, but for line, next and checked (the first byte of the line) and end
 * (behind its last). */
struct jsonl_text_scan {
	const unsigned char *line, *end;
	const unsigned char *base;    /* the byte of bit 0 of the tokens */
	const unsigned char *next;    /* the first byte that is not sorted yet */
	const unsigned char *checked; /* multibyte characters before this are valid */
	/* Carried from block to block: */
	uint64_t in_string; /* all ones: the last byte is inside a string */
	uint64_t scalar;    /* 1: the last byte belongs to a number or literal */
	uint64_t escaped;   /* 1: the first byte is the second of an escape */
	bool failed;	    /* the contents of a string are bad */
};

/* Returns the tokens of the next block that has any; bit n is that of base[n]. 0: the
 * line has ended, or s->failed. */
uint64_t jsonl_text_scan_next(struct jsonl_text_scan *s);
#endif

#endif
