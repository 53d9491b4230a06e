/* SPDX-License-Identifier: MIT */
/* What a client of the control socket sends: any bytes are read as one JSON text or not at
 * all, and asking for any member of it answers. */
#include <stdint.h>
#include <string.h>

#include "json/text.h"
#include "report/report.h"
#include "tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const keys[] = {"verb", "path", "as", "name", "a", "b", "", NULL};

static unsigned ask(const struct jsonl_report *r, unsigned depth)
{
	unsigned found = 0;

	for (size_t k = 0; k < sizeof(keys) / sizeof(*keys); k++) {
		const char *text = jsonl_report_get_string(r, keys[k]);

		found += text && strlen(text) > 0;
		found += jsonl_report_get_uint(r, keys[k]) > 0;
		found += jsonl_report_get_bool(r, keys[k]);
		if (keys[k] && depth)
			found += ask(jsonl_report_get(r, keys[k]), depth - 1);
	}
	for (size_t k = 0; depth && k < jsonl_report_length(r) && k < 8; k++)
		found += ask(jsonl_report_at(r, k), depth - 1);
	REQUIRE(!jsonl_report_at(r, jsonl_report_length(r)));
	return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size * 8 + 1), *again, *third;
	struct jsonl_report *r, *second;
	struct jsonl_text whole;
	size_t len = 0;

	REQUIRE(text);
	for (size_t n = 0; n < size; n++)
		len += token_add(text + len, size * 8 - len, data[n]);
	text[len] = '\0';
	r = jsonl_report_parse(text);
	if (r) {
		(void)ask(r, 2);
		again = jsonl_report_text(r, false);
		REQUIRE(again && strchr(again, '\n') == again + strlen(again) - 1);
		REQUIRE(jsonl_text_check(again, strlen(again) - 1, 4096, &whole) == JSONL_OK);
		second = jsonl_report_parse(again);
		REQUIRE(second && ask(second, 2) == ask(r, 2));
		third = jsonl_report_text(second, false);
		REQUIRE(third && !strcmp(again, third));
		free(third);
		jsonl_report_free(second);
		free(again);
	} else {
		REQUIRE(ask(r, 2) == 0);
	}
	jsonl_report_free(r);
	free(text);
	return 0;
}
