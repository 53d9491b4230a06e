/* SPDX-License-Identifier: MIT */
#include "json/text_vector.h"

#if JSONL_TEXT_VECTOR

#include <stdint.h>
#include <string.h>

#include "json/text_tokens.h"

/* The second step: checks the tokens against the grammar. */

#define STACK_WORDS (JSONL_TEXT_MAXDEPTH / 64)

static bool is_digit(unsigned char c)
{
	return (unsigned char)(c - '0') < 10;
}

/* ---- scalars ---- */

/* Bytes that may follow a number or literal. */
static const bool ends_scalar[256] = {
    [' '] = true, ['\t'] = true, ['\n'] = true, ['\r'] = true,
    [','] = true, [']'] = true,	 ['}'] = true,
};

static inline __attribute__((always_inline)) const unsigned char *
skip_digits(const unsigned char *p, const unsigned char *end)
{
	while (end - p >= 8) {
		uint64_t x, other;

		memcpy(&x, p, sizeof(x));
		x ^= UINT64_C(0x3030303030303030);
		/* Digits are 0 to 9 now. Only bytes that are no digits carry into the
		 * next byte. */
		other = (x | (x + UINT64_C(0x7676767676767676))) &
			UINT64_C(0x8080808080808080);
		if (other)
			return p + __builtin_ctzll(other) / 8;
		p += 8;
	}
	while (p < end && is_digit(*p))
		p++;
	return p;
}

static bool is_number(const unsigned char *p, const unsigned char *end)
{
	const unsigned char *from;

	p += *p == '-';
	from = p;
	p = skip_digits(p, end);
	if (p == from || (*from == '0' && p - from > 1))
		return false;
	if (p < end && *p == '.') {
		from = ++p;
		p = skip_digits(p, end);
		if (p == from)
			return false;
	}
	if (p < end && (*p | 0x20) == 'e') {
		p++;
		p += p < end && (*p == '+' || *p == '-');
		from = p;
		p = skip_digits(p, end);
		if (p == from)
			return false;
	}
	return p == end || ends_scalar[*p];
}

static bool is_literal(const unsigned char *p, const unsigned char *end)
{
	if (end - p >= 4 && (memcmp(p, "true", 4) == 0 || memcmp(p, "null", 4) == 0))
		p += 4;
	else if (end - p >= 5 && memcmp(p, "false", 5) == 0)
		p += 5;
	else
		return false;
	return p == end || ends_scalar[*p];
}

/* ---- the grammar ---- */

/* Goes to the next token: c is its byte, p points to it. */
#define NEXT(when_none)                                                                  \
	do {                                                                             \
		if (!tokens) {                                                           \
			tokens = jsonl_text_scan_next(&s);                               \
			if (!tokens)                                                     \
				goto when_none;                                          \
		}                                                                        \
		p = s.base + __builtin_ctzll(tokens);                                    \
		c = *p;                                                                  \
		tokens &= tokens - 1;                                                    \
	} while (0)

/* Opens a container, and remembers the kind of the one around it (`object`). */
static bool enter(uint64_t *stack, unsigned *depth, unsigned maxdepth, bool object)
{
	uint64_t *word = &stack[*depth / 64];
	uint64_t bit = UINT64_C(1) << *depth % 64;

	if (*depth == maxdepth)
		return false;
	if (bit == 1)
		*word = 0; /* used for the first time */
	*word = object ? *word | bit : *word & ~bit;
	++*depth;
	return true;
}

/* Longer than a screen: each state of the grammar is a place in the code, and the
 * processor predicts a branch by its place. */
bool jsonl_text_accept(const void *line, size_t len, unsigned maxdepth,
		       struct jsonl_text *out)
{
	/* A caller may pass NULL and no bytes; arithmetic on NULL is undefined. */
	const unsigned char *begin = line ? line : (const void *)"";
	struct jsonl_text_scan s = {.line = begin, .next = begin, .checked = begin};
	enum jsonl_kind kind = JSONL_KIND_NONE;
	uint64_t stack[STACK_WORDS], tokens = 0;
	const unsigned char *p;
	unsigned depth = 0;
	bool object = false; /* the innermost container that is open */
	unsigned char c;

	s.end = s.line + len;
value:
	NEXT(refuse);
value_here:
	switch (c) {
	case '"':
		kind = JSONL_KIND_STRING;
		break;
	case '{':
		if (!enter(stack, &depth, maxdepth, object))
			goto refuse;
		object = true;
		NEXT(refuse);
		if (c == '"')
			goto colon;
		if (c == '}')
			goto close;
		goto refuse;
	case '[':
		if (!enter(stack, &depth, maxdepth, object))
			goto refuse;
		object = false;
		NEXT(refuse);
		if (c == ']')
			goto close;
		goto value_here;
	case '-':
	case '0' ... '9':
		if (!is_number(p, s.end))
			goto refuse;
		kind = JSONL_KIND_NUMBER;
		break;
	case 't':
	case 'f':
	case 'n':
		if (!is_literal(p, s.end))
			goto refuse;
		kind = JSONL_KIND_LITERAL;
		break;
	default:
		goto refuse;
	}
after_value:
	if (!depth)
		goto after_text;
	NEXT(refuse);
	if (object) {
		if (c == ',') {
			NEXT(refuse);
			if (c != '"')
				goto refuse;
		colon:
			NEXT(refuse);
			if (c != ':')
				goto refuse;
			goto value;
		}
		if (c != '}')
			goto refuse;
	} else {
		if (c == ',')
			goto value;
		if (c != ']')
			goto refuse;
	}
close:
	kind = object ? JSONL_KIND_OBJECT : JSONL_KIND_ARRAY;
	depth--;
	object = stack[depth / 64] >> depth % 64 & 1;
	goto after_value;
after_text:
	NEXT(end);
refuse:
	return false;
end:
	if (s.failed || s.in_string)
		return false;
	*out = (struct jsonl_text){
	    .kind = kind,
	    .can_grow = kind == JSONL_KIND_NUMBER && is_digit(s.end[-1]),
	};
	return true;
}

#endif
