/* SPDX-License-Identifier: MIT */
/* Every code point forth and back, and every pair and triple of bytes against the table
 * of RFC 3629. */
#include "json/utf8.h"

#include <stdbool.h>
#include <string.h>

#include "check.h"

static size_t encode(uint32_t c, char *to)
{
	size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	if (len == 1) {
		to[0] = (char)c;
		return 1;
	}
	for (size_t i = len; i-- > 1; c >>= 6)
		to[i] = (char)(0x80 | (c & 0x3f));
	to[0] = (char)(0xf00 >> len | c);
	return len;
}

static void test_code_points(void)
{
	unsigned wrong = 0;

	for (uint32_t c = 0; c <= 0x10ffff; c++) {
		uint32_t seen = ~c;
		char text[4];
		size_t len = encode(c, text);
		size_t want = c >= 0xd800 && c <= 0xdfff ? 0 : len;

		wrong += jsonl_utf8_next(text, len, &seen) != want;
		wrong += want && seen != c;
		/* Cut off it is no character. */
		wrong += jsonl_utf8_next(text, len - 1, &seen) != 0;
	}
	CHECK(!wrong, "%u", wrong);
}

/* May this follow the first byte? Table of RFC 3629, section 4. */
static bool second_fits(unsigned a, unsigned b)
{
	unsigned least = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80;
	unsigned most = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;

	return b >= least && b <= most;
}

static void test_bytes(void)
{
	unsigned wrong = 0;
	uint32_t code;

	for (unsigned a = 0; a < 256; a++)
		for (unsigned b = 0; b < 256; b++)
			for (unsigned c = 0; c < 256; c++) {
				char text[4] = {(char)a, (char)b, (char)c, (char)0xbf};
				bool tail = (c & 0xc0) == 0x80;
				size_t want = 0;

				if (a < 0x80)
					want = 1;
				else if (a >= 0xc2 && a <= 0xdf)
					want = second_fits(a, b) ? 2 : 0;
				else if (a >= 0xe0 && a <= 0xef)
					want = second_fits(a, b) && tail ? 3 : 0;
				else if (a >= 0xf0 && a <= 0xf4)
					want = second_fits(a, b) && tail ? 4 : 0;
				wrong += jsonl_utf8_next(text, 4, &code) != want;
			}
	CHECK(!wrong, "%u", wrong);
	CHECK(jsonl_utf8_next("", 0, &code) == 0);
}

int main(void)
{
	test_code_points();
	test_bytes();
	return check_done();
}
