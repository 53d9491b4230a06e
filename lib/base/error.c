/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <stddef.h>
#include <string.h>

struct verdict {
	const char *name;
	const char *text;
	int code;
};

static const struct verdict verdicts[JSONL_VERDICT_COUNT] = {
	[JSONL_OK] = { "ok", "no error", 0 },
#define X(id, name, code, text) [JSONL_##id] = { name, text, code },
	JSONL_VERDICTS(X)
#undef X
};

const char *jsonl_error_name(int code)
{
	if (code < 0 || code >= JSONL_VERDICT_COUNT)
		return "error";
	return verdicts[code].name;
}

const char *jsonl_error_text(int code)
{
	static _Thread_local char buf[128];

	if (code >= 0 && code < JSONL_VERDICT_COUNT)
		return verdicts[code].text;
	return strerror_r(-code, buf, sizeof(buf));
}

int jsonl_error_errno(int code)
{
	if (code < 0)
		return -code;
	if (code >= JSONL_VERDICT_COUNT)
		return EIO;
	return verdicts[code].code;
}
