/* SPDX-License-Identifier: MIT */
/* Everything short: all lines of two bytes, all lines of up to five characters that
 * matter, all that can stand where UTF-8 is checked, against a definition that is written
 * another way. */
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "text_pair.h"

static void test_pairs(void)
{
	unsigned char line[2];
	bool agree = true;

	for (unsigned i = 0; i < 65536 && agree; i++) {
		line[0] = (unsigned char)(i >> 8);
		line[1] = (unsigned char)i;
		(void)text_ask(line, 2, 128, &agree);
	}
	CHECK(agree, "0x%02x%02x", line[0], line[1]);
}

/* ---- numbers: a definition by states, RFC 8259 section 6 ---- */

enum number_state {
	N_START,
	N_MINUS,
	N_ZERO,
	N_INT,
	N_POINT,
	N_FRAC,
	N_E,
	N_SIGN,
	N_EXP,
	N_NO
};

static enum number_state number_step(enum number_state s, char c)
{
	bool digit = c >= '0' && c <= '9', e = c == 'e' || c == 'E';

	switch (s) {
	case N_START:
		if (c == '-')
			return N_MINUS;
		__attribute__((fallthrough));
	case N_MINUS:
		return c == '0' ? N_ZERO : digit ? N_INT : N_NO;
	case N_ZERO:
		return c == '.' ? N_POINT : e ? N_E : N_NO;
	case N_INT:
		return digit ? N_INT : c == '.' ? N_POINT : e ? N_E : N_NO;
	case N_POINT:
		return digit ? N_FRAC : N_NO;
	case N_FRAC:
		return digit ? N_FRAC : e ? N_E : N_NO;
	case N_E:
		return c == '+' || c == '-' ? N_SIGN : digit ? N_EXP : N_NO;
	default:
		return digit ? N_EXP : N_NO;
	}
}

static int number_verdict(const char *s, size_t len, size_t *offset)
{
	enum number_state state = N_START;

	for (size_t i = 0; i < len; i++) {
		state = number_step(state, s[i]);
		*offset = i;
		if (state == N_NO)
			return JSONL_BAD_NUMBER;
	}
	*offset = len;
	if (state == N_ZERO || state == N_INT || state == N_FRAC || state == N_EXP)
		return JSONL_OK;
	return JSONL_INCOMPLETE;
}

/* All strings of `alphabet` of `len` characters. */
static void each_string(const char *alphabet, size_t len,
			void (*fn)(const char *s, size_t len))
{
	size_t n = strlen(alphabet), at[8] = {0}, i;
	char s[8];

	for (;;) {
		for (i = 0; i < len; i++)
			s[i] = alphabet[at[i]];
		fn(s, len);
		for (i = 0; i < len && ++at[i] == n; i++)
			at[i] = 0;
		if (i == len)
			return;
	}
}

static unsigned wrong_numbers;

static void try_number(const char *s, size_t len)
{
	size_t offset;
	int verdict = number_verdict(s, len, &offset);
	bool agree, ok;
	struct text_answer a;
	char line[64];

	/* What begins with neither a digit nor a minus is no number at all. */
	if (s[0] == '+' || s[0] == '.' || s[0] == 'e')
		return;
	a = text_ask(s, len, 128, &agree);
	ok = agree && a.verdict == verdict && a.text.offset == (verdict ? offset : 0) &&
	     a.text.can_grow == (verdict == JSONL_OK);
	/* In the middle, where more than eight bytes can be read. */
	line[0] = '[';
	memcpy(line + 1, s, len);
	memcpy(line + 1 + len, ",22222222]", 10);
	a = text_ask(line, len + 11, 128, &agree);
	ok = ok && agree && (a.verdict == JSONL_OK) == (verdict == JSONL_OK);
	if (verdict == JSONL_BAD_NUMBER)
		ok = ok && a.verdict == verdict && a.text.offset == offset + 1;
	if (verdict == JSONL_INCOMPLETE)
		ok = ok && a.verdict == JSONL_BAD_NUMBER && a.text.offset == len + 1;
	wrong_numbers += !ok;
	if (!ok)
		printf("%.*s\n", (int)len, s);
}

static void test_numbers(void)
{
	for (size_t len = 1; len <= 6; len++)
		each_string("01-+.e9", len, try_number);
	CHECK(wrong_numbers == 0, "%u numbers", wrong_numbers);
}

/* ---- grammar: short texts of everything that has a meaning ---- */

static unsigned disagreements;

static void try_grammar(const char *s, size_t len)
{
	char line[128];
	bool agree;

	(void)text_ask(s, len, 128, &agree);
	disagreements += !agree;
	/* The same at the border of two blocks. */
	memset(line, ' ', 62);
	memcpy(line + 62, s, len);
	(void)text_ask(line, 62 + len, 128, &agree);
	disagreements += !agree;
	if (!agree)
		printf("%.*s\n", (int)len, s);
}

static void test_grammar(void)
{
	for (size_t len = 1; len <= 6; len++)
		each_string("{}[]:,\"1 ", len, try_grammar);
	for (size_t len = 1; len <= 4; len++)
		each_string("{}[]:,\"\\ut1n-.e \t\n\x01\x7f\x80\xc3\xe2\xf0", len,
			    try_grammar);
	CHECK(disagreements == 0, "%u texts", disagreements);
}

/* ---- UTF-8: by decoding, RFC 3629 section 3 ---- */

/* Is s[0..len) exactly one character? */
static bool is_character(const unsigned char *s, size_t len)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
	static const unsigned char mask[] = {0, 0, 0xe0, 0xf0, 0xf8};
	uint32_t code;

	if (len < 2 || len > 4 || (s[0] & mask[len]) != lead[len])
		return false;
	code = s[0] & (unsigned char)~mask[len];
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return false;
		code = code << 6 | (s[i] & 0x3f);
	}
	return code >= least[len] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

/* Could s[0..len) stand in a string? */
static bool are_characters(const unsigned char *s, size_t len)
{
	while (len) {
		size_t n = 1;

		if (s[0] >= 0x80) {
			while (++n <= len && !is_character(s, n))
				;
			if (n > len)
				return false;
		} else if (s[0] == '"') {
			return false;
		}
		s += n;
		len -= n;
	}
	return true;
}

/* Around a sequence: a string that begins `pad` bytes before it. */
static bool try_character(const unsigned char *s, size_t len, size_t pad)
{
	unsigned char line[128];
	struct text_answer a;
	bool agree;

	memset(line, 'x', sizeof(line));
	line[0] = '"';
	memcpy(line + 1 + pad, s, len);
	line[1 + pad + len] = '"';
	a = text_ask(line, pad + len + 2, 128, &agree);
	return agree && (a.verdict == JSONL_OK) == are_characters(s, len);
}

static void test_characters(void)
{
	static const unsigned char third[] = {0x22, 0x7f, 0x80, 0xa5, 0xbf, 0xc0, 0xff};
	unsigned wrong = 0, good = 0;
	unsigned char s[4];

	for (unsigned first = 0x80; first < 0x100; first++) {
		s[0] = (unsigned char)first;
		for (unsigned second = 0x80; second < 0x100; second++) {
			s[1] = (unsigned char)second;
			wrong += !try_character(s, 2, 0) || !try_character(s, 2, 62);
			good += is_character(s, 2);
			for (size_t i = 0; i < sizeof(third); i++) {
				s[2] = third[i];
				wrong += !try_character(s, 3, 0);
				wrong += !try_character(s, 3, 61);
				good += is_character(s, 3);
				for (size_t k = 0; k < sizeof(third); k++) {
					s[3] = third[k];
					wrong += !try_character(s, 4, 0);
					wrong += !try_character(s, 4, 60);
					good += is_character(s, 4);
				}
			}
		}
	}
	CHECK(wrong == 0, "%u sequences", wrong);
	CHECK(good > 1920, "%u characters", good);
}

static size_t encode(uint32_t code, unsigned char *s)
{
	if (code < 0x80) {
		s[0] = (unsigned char)code;
		return 1;
	}
	if (code < 0x800) {
		s[0] = (unsigned char)(0xc0 | code >> 6);
		s[1] = (unsigned char)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		s[0] = (unsigned char)(0xe0 | code >> 12);
		s[1] = (unsigned char)(0x80 | (code >> 6 & 0x3f));
		s[2] = (unsigned char)(0x80 | (code & 0x3f));
		return 3;
	}
	s[0] = (unsigned char)(0xf0 | code >> 18);
	s[1] = (unsigned char)(0x80 | (code >> 12 & 0x3f));
	s[2] = (unsigned char)(0x80 | (code >> 6 & 0x3f));
	s[3] = (unsigned char)(0x80 | (code & 0x3f));
	return 4;
}

/* Every code point there could be, in a string, with room for some that there are not. */
static void test_code_points(void)
{
	unsigned wrong = 0;

	for (uint32_t code = 0; code < 0x140000; code++) {
		unsigned char line[8] = {'"'};
		size_t n = encode(code, line + 1);
		struct text_answer a;
		bool agree, valid;

		line[1 + n] = '"';
		a = text_ask(line, n + 2, 128, &agree);
		valid = code >= 0x20 && code != '"' && code != '\\' &&
			(code < 0xd800 || code > 0xdfff) && code <= 0x10ffff;
		wrong += !agree || (a.verdict == JSONL_OK) != valid;
	}
	CHECK(wrong == 0, "%u code points", wrong);
}

int main(void)
{
	test_pairs();
	test_numbers();
	test_grammar();
	test_characters();
	test_code_points();
	return check_done();
}
