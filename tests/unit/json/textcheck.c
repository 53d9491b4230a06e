/* SPDX-License-Identifier: MIT */
/* Answers for test_text_crosscheck.py. Reads lines from stdin, each after its length in
 * four bytes, little-endian; prints for each verdict, offset, kind, can_grow and whether
 * the two paths of text.h agree. The argument is maxdepth (128). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "text_pair.h"

static int answer(unsigned maxdepth)
{
	unsigned char head[4], *line;
	struct text_answer a;
	bool agree;
	size_t len, got = fread(head, 1, sizeof(head), stdin);

	if (got != sizeof(head))
		return got ? -1 : 0;
	len = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 |
	      (size_t)head[3] << 24;
	line = malloc(len ? len : 1);
	if (!line || fread(line, 1, len, stdin) != len) {
		free(line);
		return -1;
	}
	a = text_ask(line, len, maxdepth, &agree);
	free(line);
	printf("%s %zu %d %d %d\n", jsonl_error_name(a.verdict), a.text.offset,
	       (int)a.text.kind, a.text.can_grow, agree);
	fflush(stdout);
	return 1;
}

int main(int argc, char **argv)
{
	unsigned maxdepth = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 128;
	int r;

	do {
		r = answer(maxdepth);
	} while (r > 0);
	return r ? 1 : 0;
}
