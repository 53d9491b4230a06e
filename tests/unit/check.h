/* SPDX-License-Identifier: MIT */
/* What unit tests are made of: CHECK() counts and goes on, so that one run shows every
 * failure. main() ends with `return check_done();`, which prints the sum and gives the
 * exit status that meson expects. A program without a single check fails. Threads may
 * check, too. */
#ifndef TESTS_UNIT_CHECK_H
#define TESTS_UNIT_CHECK_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static _Atomic unsigned check_passed, check_failed;

__attribute__((format(printf, 5, 6), unused)) static bool
check_report(bool ok, const char *file, int line, const char *text, const char *format,
	     ...)
{
	va_list ap;

	if (ok) {
		check_passed++;
		return true;
	}
	check_failed++;
	printf("%s:%d: failed: %s", file, line, text);
	if (format[1]) { /* CHECK() puts a space before it */
		printf(":");
		va_start(ap, format);
		vprintf(format, ap);
		va_end(ap);
	}
	printf("\n");
	return false;
}

/* CHECK(condition) or CHECK(condition, "what was seen: %d", n); the value is the
 * condition's. */
#define CHECK(condition, ...)                                                            \
	check_report((condition), __FILE__, __LINE__, #condition, " " __VA_ARGS__)

__attribute__((unused)) static int check_done(void)
{
	printf("%u passed, %u failed\n", check_passed, check_failed);
	return check_failed || !check_passed ? 1 : 0;
}

#endif
