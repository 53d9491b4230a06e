/* SPDX-License-Identifier: MIT */
#include "json/text_tokens.h"

#if JSONL_TEXT_VECTOR

#include <emmintrin.h>
#include <stdint.h>
#include <string.h>

#define BLOCK	      64
#define UNLIKELY(x)   __builtin_expect((x) != 0, 0)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define NEVER_INLINE  static __attribute__((noinline))

/* The bytes of a block by kind, one bit a byte. */
struct block {
	uint64_t quote;	    /* " */
	uint64_t space;	    /* white space */
	uint64_t structure; /* { } [ ] : , */
	uint64_t slash;	    /* backslash */
	uint64_t odd;	    /* control characters and bytes of 0x80 and more */
};

static bool is_digit(unsigned char c)
{
	return (unsigned char)(c - '0') < 10;
}

static bool is_hex(unsigned char c)
{
	return is_digit(c) || (unsigned char)((c | 0x20) - 'a') < 6;
}

/* ---- the contents of strings ---- */

/* Returns the end of the multibyte character at p, NULL when none is there (RFC 3629,
 * section 4). */
static const unsigned char *after_multibyte(const unsigned char *p,
					    const unsigned char *end)
{
	unsigned char lead = *p, low = 0x80, high = 0xbf;
	int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;

	if (lead < 0xc2 || lead > 0xf4 || end - p <= more)
		return NULL;
	if (lead == 0xe0)
		low = 0xa0;
	else if (lead == 0xed)
		high = 0x9f;
	else if (lead == 0xf0)
		low = 0x90;
	else if (lead == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return NULL;
	for (int i = 2; i <= more; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return NULL;
	}
	return p + more + 1;
}

/* The length of an escape, by the byte behind the backslash; 0: no escape. */
static const unsigned char escape_len[256] = {
    ['"'] = 2, ['\\'] = 2, ['/'] = 2, ['b'] = 2, ['f'] = 2,
    ['n'] = 2, ['r'] = 2,  ['t'] = 2, ['u'] = 6,
};

static bool is_escape(const unsigned char *p, const unsigned char *end)
{
	unsigned char len = end - p > 1 ? escape_len[p[1]] : 0;

	if (len == 2)
		return true;
	return len && end - p >= len && is_hex(p[2]) && is_hex(p[3]) && is_hex(p[4]) &&
	       is_hex(p[5]);
}

/* Checks the escapes of a block and sets the bits of escaped bytes. A backslash outside
 * of a string is treated alike: it becomes a token, which the grammar refuses. */
NEVER_INLINE bool check_escapes(struct jsonl_text_scan *s, uint64_t slash,
				uint64_t *escaped)
{
	*escaped = s->escaped;
	s->escaped = 0;
	slash &= ~*escaped;
	while (slash) {
		unsigned i = (unsigned)__builtin_ctzll(slash);

		if (!is_escape(s->base + i, s->end))
			return false;
		if (i == BLOCK - 1) {
			s->escaped = 1;
			break;
		}
		*escaped |= UINT64_C(2) << i;
		slash &= ~(UINT64_C(3) << i);
	}
	return true;
}

/* Refuses control characters and bad UTF-8. `odd`: control characters and bytes of 0x80
 * and more, inside strings. */
NEVER_INLINE bool check_odd(struct jsonl_text_scan *s, uint64_t odd)
{
	for (; odd; odd &= odd - 1) {
		const unsigned char *p = s->base + __builtin_ctzll(odd);

		if (*p < 0x80)
			return false;
		if (p < s->checked)
			continue;
		p = after_multibyte(p, s->end);
		if (!p)
			return false;
		s->checked = p;
	}
	return true;
}

/* ---- bytes to tokens ---- */

static inline uint64_t join(__m128i a, __m128i b, __m128i c, __m128i d)
{
	return (uint64_t)(unsigned)_mm_movemask_epi8(a) |
	       (uint64_t)(unsigned)_mm_movemask_epi8(b) << 16 |
	       (uint64_t)(unsigned)_mm_movemask_epi8(c) << 32 |
	       (uint64_t)(unsigned)_mm_movemask_epi8(d) << 48;
}

static inline __m128i equal(__m128i v, char c)
{
	return _mm_cmpeq_epi8(v, _mm_set1_epi8(c));
}

/* Finds { } [ ] : and ,. [ and {, ] and } differ by 0x20 only, and no other byte becomes
 * { or } by setting it. */
static inline __m128i structure(__m128i v)
{
	__m128i folded = _mm_or_si128(v, _mm_set1_epi8(0x20));

	return _mm_or_si128(_mm_or_si128(equal(folded, '{'), equal(folded, '}')),
			    _mm_or_si128(equal(v, ':'), equal(v, ',')));
}

/* Finds control characters and, the comparison being signed, bytes of 0x80 and more. */
static inline __m128i odd(__m128i v)
{
	return _mm_cmplt_epi8(v, _mm_set1_epi8(0x20));
}

/* Finds bytes that a string of plain ASCII without escapes does not have. */
static inline __m128i rare(__m128i v)
{
	return _mm_or_si128(odd(v), equal(v, '\\'));
}

static inline __m128i control_space(__m128i v)
{
	return _mm_or_si128(_mm_or_si128(equal(v, '\t'), equal(v, '\n')), equal(v, '\r'));
}

#define EACH(f, ...)                                                                     \
	join(f(v[0] __VA_ARGS__), f(v[1] __VA_ARGS__), f(v[2] __VA_ARGS__),              \
	     f(v[3] __VA_ARGS__))

/* Sorts 64 bytes by kind, with SSE2, which every x86-64 has. AVX2 was measured: 3 percent
 * faster for records of 600 bytes, where the grammar costs more than this. */
ALWAYS_INLINE void sort(const unsigned char *src, struct block *block)
{
	__m128i v[4], any;

	for (int i = 0; i < 4; i++)
		v[i] = _mm_loadu_si128(
		    (const __m128i *)(const void *)(src + (size_t)16 * i));
	block->quote = EACH(equal, , '"');
	block->structure = EACH(structure);
	block->space = EACH(equal, , ' ');
	block->slash = 0;
	block->odd = 0;
	any = _mm_or_si128(_mm_or_si128(rare(v[0]), rare(v[1])),
			   _mm_or_si128(rare(v[2]), rare(v[3])));
	if (UNLIKELY(_mm_movemask_epi8(any))) {
		block->slash = EACH(equal, , '\\');
		block->odd = EACH(odd);
		block->space |= EACH(control_space);
	}
}

/* Sets bit n when the number of bits from 0 to n is odd. */
static uint64_t prefix_xor(uint64_t bits)
{
	bits ^= bits << 1;
	bits ^= bits << 2;
	bits ^= bits << 4;
	bits ^= bits << 8;
	bits ^= bits << 16;
	bits ^= bits << 32;
	return bits;
}

/* Sorts the last block: reads the 64 bytes that end with the line and shifts the masks. A
 * line shorter than that is copied. */
NEVER_INLINE void sort_last(const struct jsonl_text_scan *s, struct block *block)
{
	unsigned char padded[BLOCK];
	size_t left = (size_t)(s->end - s->base);
	unsigned gap = BLOCK - (unsigned)left;

	if (s->end - s->line >= BLOCK) {
		sort(s->end - BLOCK, block);
		block->quote >>= gap;
		block->space >>= gap;
		block->structure >>= gap;
		block->slash >>= gap;
		block->odd >>= gap;
		block->space |= ~(~UINT64_C(0) >> gap);
		return;
	}
	memset(padded, ' ', sizeof(padded));
	memcpy(padded, s->base, left);
	sort(padded, block);
}

static uint64_t fail(struct jsonl_text_scan *s)
{
	s->failed = true;
	return 0;
}

/* Returns the tokens of a block. `inside`: bytes that are inside strings. */
static inline uint64_t tokens_of(struct jsonl_text_scan *s, const struct block *block,
				 uint64_t inside)
{
	uint64_t scalar = ~(block->structure | block->space | block->quote | inside);
	uint64_t first = scalar & ~(scalar << 1 | s->scalar);

	s->scalar = scalar >> (BLOCK - 1);
	return (block->structure & ~inside) | (block->quote & inside) | first;
}

uint64_t jsonl_text_scan_next(struct jsonl_text_scan *s)
{
	struct block block;
	uint64_t inside, tokens;

	do {
		s->base = s->next;
		if (s->end - s->next >= BLOCK) {
			sort(s->base, &block);
			s->next += BLOCK;
		} else if (s->next < s->end) {
			struct block last; /* the other can stay in registers */

			sort_last(s, &last);
			block = last;
			s->next = s->end;
		} else {
			return 0;
		}
		if (UNLIKELY(block.slash | s->escaped)) {
			uint64_t escaped;

			if (!check_escapes(s, block.slash, &escaped))
				return fail(s);
			block.quote &= ~escaped;
		}
		/* The opening quote is inside, the closing one is not. */
		inside = prefix_xor(block.quote) ^ s->in_string;
		s->in_string = 0 - (inside >> (BLOCK - 1));
		if (UNLIKELY(block.odd & inside) && !check_odd(s, block.odd & inside))
			return fail(s);
		tokens = tokens_of(s, &block, inside);
	} while (!tokens);
	return tokens;
}

#endif
