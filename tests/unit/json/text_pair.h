/* SPDX-License-Identifier: MIT */
/* Asks the two paths of text.h the same question, and whether they agree. */
#ifndef TESTS_UNIT_TEXT_PAIR_H
#define TESTS_UNIT_TEXT_PAIR_H

#include "json/text.h"
#include "json/text_vector.h"

struct text_answer {
	int verdict;
	struct jsonl_text text;
};

static inline bool text_same(const struct text_answer *a, const struct text_answer *b)
{
	return a->verdict == b->verdict && a->text.offset == b->text.offset &&
	       a->text.kind == b->text.kind && a->text.can_grow == b->text.can_grow;
}

/* The answer of the portable path; *agree: the other one gives the same, and the part of
 * it that only accepts does so exactly when the answer is JSONL_OK. */
static inline struct text_answer text_ask(const void *line, size_t len, unsigned maxdepth,
					  bool *agree)
{
	struct text_answer portable, other;

	portable.verdict = jsonl_text_check_portable(line, len, maxdepth, &portable.text);
	other.verdict = jsonl_text_check(line, len, maxdepth, &other.text);
	*agree = text_same(&portable, &other);
#if JSONL_TEXT_VECTOR
	if (maxdepth <= JSONL_TEXT_MAXDEPTH) {
		struct jsonl_text text;
		bool accepted = jsonl_text_accept(line, len, maxdepth, &text);

		*agree = *agree && accepted == (portable.verdict == JSONL_OK);
	}
#endif
	return portable;
}

#endif
