/* SPDX-License-Identifier: MIT */
/* Steps through bytes that should be UTF-8 (RFC 3629), for texts that are shown to people
 * or put into JSON. Records are validated by text.h. No state; any thread. */
#ifndef JSONL_UTF8_H
#define JSONL_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Decodes the character at s. Returns its length in bytes (1 to 4) with *code, or 0 when
 * no valid character is there (overlong, surrogate, beyond U+10FFFF, cut off). */
static inline size_t jsonl_utf8_next(const char *s, size_t len, uint32_t *code)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *p = (const unsigned char *)s;
	size_t need;
	uint32_t c;

	if (len == 0)
		return 0;
	c = p[0];
	if (c < 0x80) {
		*code = c;
		return 1;
	}
	need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
	if (c < 0xc2 || c > 0xf4 || len < need)
		return 0;
	c &= 0x7fU >> need;
	for (size_t i = 1; i < need; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3fU);
	}
	if (c < least[need] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
		return 0;
	*code = c;
	return need;
}

#endif
