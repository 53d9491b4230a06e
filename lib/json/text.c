/* SPDX-License-Identifier: MIT */
#include "json/text.h"

#include <stdint.h>
#include <string.h>

#include "json/text_vector.h"

/* The portable path. It also finds the verdict for a text that the vector path refused.
 */

#define STACK_WORDS (JSONL_TEXT_MAXDEPTH / 64)

struct parser {
	const unsigned char *p, *end;
	int verdict; /* set with p at the wrong byte */
	unsigned depth, maxdepth;
	/* One bit for each open container: 1 an object, 0 an array. */
	uint64_t stack[STACK_WORDS];
};

static bool is_space(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static void skip_space(struct parser *ps)
{
	while (ps->p < ps->end && is_space(*ps->p))
		ps->p++;
}

/* Sets the verdict because the byte at p is wrong, or missing. Returns false, for the
 * caller to return. */
static bool wrong(struct parser *ps, int verdict)
{
	if (ps->p == ps->end)
		ps->verdict = JSONL_INCOMPLETE;
	else
		ps->verdict = *ps->p == '\0' ? JSONL_NUL : verdict;
	return false;
}

/* Steps over the next byte if it is from low to high. */
static bool take_range(struct parser *ps, unsigned char low, unsigned char high)
{
	if (ps->p == ps->end || *ps->p < low || *ps->p > high)
		return false;
	ps->p++;
	return true;
}

/* Steps over one character of two to four bytes, by the table in section 4 of RFC 3629.
 */
static bool scan_multibyte(struct parser *ps)
{
	unsigned char lead = *ps->p, low = 0x80, high = 0xbf;
	int more;

	if (lead >= 0xc2 && lead <= 0xdf)
		more = 1;
	else if (lead >= 0xe0 && lead <= 0xef)
		more = 2;
	else if (lead >= 0xf0 && lead <= 0xf4)
		more = 3;
	else
		return wrong(ps, JSONL_BAD_UTF8);
	if (lead == 0xe0)
		low = 0xa0;
	else if (lead == 0xed)
		high = 0x9f;
	else if (lead == 0xf0)
		low = 0x90;
	else if (lead == 0xf4)
		high = 0x8f;
	ps->p++;
	for (; more; more--, low = 0x80, high = 0xbf) {
		if (!take_range(ps, low, high))
			return wrong(ps, JSONL_BAD_UTF8);
	}
	return true;
}

static bool scan_escape(struct parser *ps)
{
	ps->p++;
	if (ps->p == ps->end)
		return wrong(ps, JSONL_BAD_ESCAPE);
	switch (*ps->p) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		ps->p++;
		return true;
	case 'u':
		break;
	default:
		return wrong(ps, JSONL_BAD_ESCAPE);
	}
	ps->p++;
	for (int i = 0; i < 4; i++) {
		if (!take_range(ps, '0', '9') && !take_range(ps, 'a', 'f') &&
		    !take_range(ps, 'A', 'F'))
			return wrong(ps, JSONL_BAD_ESCAPE);
	}
	return true;
}

#define BYTES(c) (UINT64_C(0x0101010101010101) * (c))

/* Steps over bytes that mean nothing in a string, eight at a time. A borrow of the
 * subtractions can only add hits above a true one, and the lowest hit is taken. */
static void skip_ordinary(struct parser *ps)
{
	while (ps->end - ps->p >= 8) {
		uint64_t x, quote, slash, hit;

		memcpy(&x, ps->p, sizeof(x));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
		x = __builtin_bswap64(x);
#endif
		quote = x ^ BYTES('"');
		slash = x ^ BYTES('\\');
		hit = ((quote - BYTES(1)) & ~quote) | ((slash - BYTES(1)) & ~slash) |
		      ((x - BYTES(0x20)) & ~x) | x;
		hit &= BYTES(0x80);
		if (hit) {
			ps->p += __builtin_ctzll(hit) / 8;
			return;
		}
		ps->p += 8;
	}
}

static bool scan_string(struct parser *ps)
{
	ps->p++;
	for (;;) {
		skip_ordinary(ps);
		if (ps->p == ps->end)
			return wrong(ps, JSONL_INCOMPLETE);
		if (*ps->p == '"') {
			ps->p++;
			return true;
		}
		if (*ps->p < 0x20)
			return wrong(ps, JSONL_CONTROL);
		if (*ps->p == '\\') {
			if (!scan_escape(ps))
				return false;
		} else if (*ps->p >= 0x80) {
			if (!scan_multibyte(ps))
				return false;
		} else {
			ps->p++;
		}
	}
}

static bool scan_digits(struct parser *ps)
{
	if (!take_range(ps, '0', '9'))
		return wrong(ps, JSONL_BAD_NUMBER);
	while (take_range(ps, '0', '9'))
		;
	return true;
}

static bool scan_number(struct parser *ps)
{
	(void)take_range(ps, '-', '-');
	if (!take_range(ps, '0', '0') && !scan_digits(ps))
		return false;
	if (take_range(ps, '.', '.') && !scan_digits(ps))
		return false;
	if (take_range(ps, 'e', 'e') || take_range(ps, 'E', 'E')) {
		if (!take_range(ps, '+', '+'))
			(void)take_range(ps, '-', '-');
		if (!scan_digits(ps))
			return false;
	}
	/* 01, 1.2.3, 0x10, 1_000: the number is wrong, not the byte behind it. */
	if (ps->p < ps->end && (is_digit(*ps->p) || is_letter(*ps->p) || *ps->p == '.' ||
				*ps->p == '+' || *ps->p == '-'))
		return wrong(ps, JSONL_BAD_NUMBER);
	return true;
}

static bool scan_literal(struct parser *ps)
{
	const char *word = *ps->p == 't' ? "true" : *ps->p == 'f' ? "false" : "null";

	for (; *word; word++) {
		if (!take_range(ps, (unsigned char)*word, (unsigned char)*word))
			return wrong(ps, JSONL_BAD_LITERAL);
	}
	if (ps->p < ps->end && (is_digit(*ps->p) || is_letter(*ps->p)))
		return wrong(ps, JSONL_BAD_LITERAL);
	return true;
}

static bool push(struct parser *ps, bool object)
{
	uint64_t bit = UINT64_C(1) << (ps->depth % 64);
	uint64_t *word = &ps->stack[ps->depth / 64];

	if (ps->depth == ps->maxdepth)
		return wrong(ps, JSONL_TOO_DEEP);
	if (bit == 1)
		*word = 0; /* used for the first time */
	*word = object ? *word | bit : *word & ~bit;
	ps->depth++;
	ps->p++;
	skip_space(ps);
	return true;
}

static bool in_object(const struct parser *ps)
{
	return ps->stack[(ps->depth - 1) / 64] >> ((ps->depth - 1) % 64) & 1;
}

/* Steps over a key and its colon; the key must begin at p. */
static bool scan_key(struct parser *ps)
{
	skip_space(ps);
	if (ps->p == ps->end || *ps->p != '"')
		return wrong(ps, JSONL_UNEXPECTED);
	if (!scan_string(ps))
		return false;
	skip_space(ps);
	if (!take_range(ps, ':', ':'))
		return wrong(ps, JSONL_UNEXPECTED);
	return true;
}

/* Steps over a value at p that is no container. */
static bool scan_scalar(struct parser *ps, enum jsonl_kind *kind)
{
	unsigned char c = *ps->p;

	if (c == '"') {
		*kind = JSONL_KIND_STRING;
		return scan_string(ps);
	}
	if (c == '-' || is_digit(c)) {
		*kind = JSONL_KIND_NUMBER;
		return scan_number(ps);
	}
	if (c == 't' || c == 'f' || c == 'n') {
		*kind = JSONL_KIND_LITERAL;
		return scan_literal(ps);
	}
	return wrong(ps, is_letter(c) ? JSONL_BAD_LITERAL : JSONL_UNEXPECTED);
}

/* Steps over the bytes behind a value: over closing brackets, to where the next value
 * must begin (p). Returns true with depth 0 when all containers are closed. */
static bool next_value(struct parser *ps)
{
	while (ps->depth) {
		bool object = in_object(ps);

		skip_space(ps);
		if (take_range(ps, ',', ','))
			return !object || scan_key(ps);
		if (!(object ? take_range(ps, '}', '}') : take_range(ps, ']', ']')))
			return wrong(ps, JSONL_UNEXPECTED);
		ps->depth--;
	}
	return true;
}

/* Steps over one value with everything in it. */
static bool scan_value(struct parser *ps, enum jsonl_kind *top)
{
	enum jsonl_kind kind = JSONL_KIND_NONE;

	do {
		skip_space(ps);
		if (ps->p == ps->end)
			return wrong(ps, JSONL_INCOMPLETE);
		if (*ps->p == '{') {
			kind = JSONL_KIND_OBJECT;
			if (*top == JSONL_KIND_NONE)
				*top = kind;
			if (!push(ps, true))
				return false;
			if (take_range(ps, '}', '}'))
				ps->depth--;
			else if (scan_key(ps))
				continue;
			else
				return false;
		} else if (*ps->p == '[') {
			kind = JSONL_KIND_ARRAY;
			if (*top == JSONL_KIND_NONE)
				*top = kind;
			if (!push(ps, false))
				return false;
			if (!take_range(ps, ']', ']'))
				continue;
			ps->depth--;
		} else if (!scan_scalar(ps, &kind)) {
			return false;
		}
		if (*top == JSONL_KIND_NONE)
			*top = kind;
		if (!next_value(ps))
			return false;
	} while (ps->depth);
	return true;
}

static int check(struct parser *ps, struct jsonl_text *out)
{
	enum jsonl_kind kind = JSONL_KIND_NONE;
	bool fused;

	if (ps->end - ps->p >= 3 && memcmp(ps->p, "\xef\xbb\xbf", 3) == 0)
		return JSONL_BOM;
	skip_space(ps);
	if (ps->p == ps->end)
		return JSONL_BLANK;
	if (!scan_value(ps, &kind))
		return ps->verdict;
	if (ps->p == ps->end) {
		out->kind = kind;
		out->can_grow = kind == JSONL_KIND_NUMBER;
		return JSONL_OK;
	}
	skip_space(ps);
	if (ps->p == ps->end) {
		out->kind = kind;
		return JSONL_OK;
	}
	fused = (kind == JSONL_KIND_OBJECT || kind == JSONL_KIND_ARRAY) &&
		(*ps->p == '{' || *ps->p == '[');
	(void)wrong(ps, fused ? JSONL_FUSED : JSONL_TRAILING);
	return ps->verdict;
}

int jsonl_text_check_portable(const void *line, size_t len, unsigned maxdepth,
			      struct jsonl_text *out)
{
	/* A caller may pass NULL and no bytes; arithmetic on NULL is undefined. */
	const unsigned char *begin = line ? line : (const void *)"";
	struct parser ps; /* not initialized as a whole: the stack is large */
	int verdict;

	ps.p = begin;
	ps.end = begin + len;
	ps.verdict = JSONL_OK;
	ps.depth = 0;
	ps.maxdepth = maxdepth < JSONL_TEXT_MAXDEPTH ? maxdepth : JSONL_TEXT_MAXDEPTH;
	*out = (struct jsonl_text){.kind = JSONL_KIND_NONE};
	verdict = check(&ps, out);
	out->offset = verdict ? (size_t)(ps.p - begin) : 0;
	return verdict;
}

int jsonl_text_check(const void *line, size_t len, unsigned maxdepth,
		     struct jsonl_text *out)
{
#if JSONL_TEXT_VECTOR
	unsigned depth = maxdepth < JSONL_TEXT_MAXDEPTH ? maxdepth : JSONL_TEXT_MAXDEPTH;

	if (jsonl_text_accept(line, len, depth, out))
		return JSONL_OK;
#endif
	return jsonl_text_check_portable(line, len, maxdepth, out);
}
