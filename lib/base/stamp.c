/* SPDX-License-Identifier: MIT */
#include "base/stamp.h"

#include <stdio.h>

/* `format`: of strftime, up to the seconds. */
static void stamp(const struct timespec *at, const char *format, int digits,
		  char buf[JSONL_STAMP])
{
	char fraction[12];
	struct tm tm;
	size_t n = 0;

	if (gmtime_r(&at->tv_sec, &tm))
		n = strftime(buf, JSONL_STAMP, format, &tm);
	(void)snprintf(fraction, sizeof(fraction), ".%09u",
		       (unsigned)at->tv_nsec % 1000000000);
	(void)snprintf(buf + n, JSONL_STAMP - n, "%.*sZ", digits ? digits + 1 : 0,
		       fraction);
}

void jsonl_stamp_name(const struct timespec *at, char buf[JSONL_STAMP])
{
	stamp(at, "%Y%m%dT%H%M%S", 9, buf);
}

void jsonl_stamp_text(const struct timespec *at, int digits, char buf[JSONL_STAMP])
{
	stamp(at, "%Y-%m-%dT%H:%M:%S", digits, buf);
}

static struct timespec now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	return at;
}

void jsonl_stamp_name_now(char buf[JSONL_STAMP])
{
	const struct timespec at = now();

	jsonl_stamp_name(&at, buf);
}

void jsonl_stamp_text_now(int digits, char buf[JSONL_STAMP])
{
	const struct timespec at = now();

	jsonl_stamp_text(&at, digits, buf);
}

int64_t jsonl_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
