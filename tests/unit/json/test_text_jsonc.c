/* SPDX-License-Identifier: MIT */
/* One way only: what we accept json-c must accept, too. The other way does not hold:
 * json-c, also when strict, takes NaN, -01, 2., single-quoted keys, raw tabs and bytes
 * that are not UTF-8. Traps of json-c that this program goes round:
 *
 *   a bare number    wants a byte behind it, or json-c waits for more: a newline is added
 *   strict           0.18 refuses every character beyond ASCII and numbers that overflow
 *                    64 bits: strict is switched on only for texts that have neither
 *   its UTF-8 check  the same, and slow: not switched on
 *   depth            counts scalars, too, and 32 is the default
 *   after an error   the tokener must be reset, or it answers for the text before
 *   the end          a text may be followed by anything: json_tokener_get_parse_end tells
 */
#include <json-c/json.h>
#include <stdio.h>

#include "check.h"
#include "corpus.h"
#include "json/text.h"

/* Does it avoid what strict versions of json-c cannot read? */
static bool may_be_strict(const struct corpus_case *c)
{
	unsigned digits = 0;

	for (size_t i = 0; i < c->len; i++) {
		digits = c->bytes[i] >= '0' && c->bytes[i] <= '9' ? digits + 1 : 0;
		if (c->bytes[i] >= 0x80 || digits > 18)
			return false;
	}
	return true;
}

static unsigned strict;

static void check_case(const struct corpus_case *c)
{
	struct json_tokener *tok = json_tokener_new_ex(130);
	struct json_object *object;
	size_t end = c->len;
	char *text = malloc(c->len + 1);

	if (!tok || !text)
		abort();
	memcpy(text, c->bytes, c->len);
	text[c->len] = '\n';
	if (may_be_strict(c)) {
		json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
		strict++;
	}
	object = json_tokener_parse_ex(tok, text, (int)c->len + 1);
	CHECK(json_tokener_get_error(tok) == json_tokener_success, "%s: %s", c->name,
	      json_tokener_error_desc(json_tokener_get_error(tok)));
	while (end && strchr(" \t\r\n", c->bytes[end - 1]))
		end--;
	CHECK(json_tokener_get_parse_end(tok) >= end, "%s: stopped at %zu", c->name,
	      json_tokener_get_parse_end(tok));
	json_object_put(object);
	json_tokener_free(tok);
	free(text);
}

int main(int argc, char **argv)
{
	CHECK(corpus_each(argc > 1 ? argv[1] : "tests", "accept", check_case) >= 90);
	CHECK(strict >= 70, "%u", strict);
	return check_done();
}
