/* SPDX-License-Identifier: MIT */
#include "ctl/ctl.h"

#include <string.h>

#include "base/cleanup.h"
#include "json/utf8.h"

const char *ctl_number(uint64_t n, char buf[CTL_NUMBER])
{
	char *p = buf + CTL_NUMBER - 1;
	int digits = 0;

	*p = '\0';
	do {
		if (digits && digits % 3 == 0)
			*--p = ',';
		*--p = (char)('0' + n % 10);
		n /= 10;
		digits++;
	} while (n);
	return p;
}

const char *ctl_bytes(uint64_t n, char buf[CTL_NUMBER])
{
	static const char *const units[] = {"B",   "KiB", "MiB", "GiB",
					    "TiB", "PiB", "EiB"};
	double value = (double)n;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1024;
		unit++;
	}
	(void)snprintf(buf, CTL_NUMBER, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return buf;
}

static bool is_safe(uint32_t code)
{
	return code >= 0x20 && (code < 0x7f || code >= 0xa0) &&
	       (code < 0x200b || code > 0x200f) && (code < 0x2028 || code > 0x202e) &&
	       (code < 0x2060 || code > 0x206f) && code != 0x61c && code != 0xfeff;
}

size_t ctl_print_bytes(FILE *to, const char *name, size_t len)
{
	size_t columns = 0;

	for (size_t i = 0; i < len;) {
		uint32_t code = 0;
		size_t n = jsonl_utf8_next(name + i, len - i, &code);

		if (n && is_safe(code)) {
			if (to)
				(void)fwrite(name + i, 1, n, to);
			columns++;
		} else {
			n = n ? n : 1;
			for (size_t k = 0; to && k < n; k++)
				(void)fprintf(to, "\\x%02x", (unsigned char)name[i + k]);
			columns += 4 * n;
		}
		i += n;
	}
	return columns;
}

size_t ctl_print_name(FILE *to, const char *name)
{
	return ctl_print_bytes(to, name, strlen(name));
}

char *ctl_safe_text(const char *name)
{
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	if (!to)
		return NULL;
	(void)ctl_print_name(to, name);
	return fclose(to) == 0 ? text : NULL;
}

size_t ctl_column_width(size_t width, const char *text)
{
	size_t wanted = ctl_print_name(NULL, text) + 1;

	return wanted > width ? wanted : width;
}

void ctl_print_column(const char *text, size_t width)
{
	size_t used = ctl_print_name(stdout, text);

	printf("%*s", used < width ? (int)(width - used) : 1, "");
}

/* Unsafe characters are in strings only, where JSON has an escape for them. */
void ctl_print_json(const char *text)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len;) {
		uint32_t code = 0;
		size_t n = jsonl_utf8_next(text + i, len - i, &code);

		if (n && code >= 0x7f && !is_safe(code))
			printf("\\u%04x", (unsigned)code);
		else
			(void)fwrite(text + i, 1, n ? n : 1, stdout);
		i += n ? n : 1;
	}
}

const char *ctl_text_of(const struct jsonl_report *o, const char *key)
{
	const char *text = jsonl_report_get_string(o, key);

	return text ? text : "?";
}

int ctl_print_report(struct jsonl_report *o)
{
	cleanup_free char *text = jsonl_report_text(o, true);

	jsonl_report_free(o);
	if (!text) {
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	ctl_print_json(text);
	return 0;
}
