/* SPDX-License-Identifier: MIT */
/* The two paths of text.h agree, and the first wrong byte is the first that is wrong. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json/text.h"
#include "json/text_vector.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                               \
	do {                                                                             \
		if (!(condition)) {                                                      \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition);          \
			abort();                                                         \
		}                                                                        \
	} while (0)

static int ask(const uint8_t *line, size_t len, unsigned maxdepth,
	       struct jsonl_text *text)
{
	struct jsonl_text other;
	int verdict = jsonl_text_check_portable(line, len, maxdepth, text);

	REQUIRE(jsonl_text_check(line, len, maxdepth, &other) == verdict);
	REQUIRE(other.offset == text->offset && other.kind == text->kind &&
		other.can_grow == text->can_grow);
#if JSONL_TEXT_VECTOR
	REQUIRE(jsonl_text_accept(line, len, maxdepth, &other) == (verdict == JSONL_OK));
#endif
	return verdict;
}

static bool may_go_on(int verdict)
{
	return verdict == JSONL_OK || verdict == JSONL_INCOMPLETE ||
	       verdict == JSONL_BLANK;
}

/* The same line somewhere else, without a byte to spare. */
static int ask_prefix(const uint8_t *line, size_t len, unsigned maxdepth, size_t *offset)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct jsonl_text text;
	int verdict;

	REQUIRE(copy);
	memcpy(copy, line, len);
	verdict = ask(copy, len, maxdepth, &text);
	*offset = text.offset;
	free(copy);
	return verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned depths[] = {128, 3, 64, 4096};
	struct jsonl_text text;
	unsigned maxdepth;
	size_t offset;
	int verdict, before;

	if (size == 0)
		return 0;
	/* The depth hangs on the last byte, so that corpora of plain lines are of use. */
	maxdepth = depths[data[size - 1] % 4];
	verdict = ask(data, size, maxdepth, &text);
	REQUIRE(text.offset <= size);
	if (verdict == JSONL_OK) {
		REQUIRE(text.offset == 0 && text.kind != JSONL_KIND_NONE);
	} else if (verdict == JSONL_INCOMPLETE || verdict == JSONL_BLANK) {
		REQUIRE(text.offset == size);
	} else if (verdict != JSONL_BOM) {
		REQUIRE(text.offset < size);
		before = ask_prefix(data, text.offset, maxdepth, &offset);
		REQUIRE(may_go_on(before));
		REQUIRE(ask_prefix(data, text.offset + 1, maxdepth, &offset) == verdict);
		REQUIRE(offset == text.offset);
	}
	return 0;
}
