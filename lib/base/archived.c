/* SPDX-License-Identifier: MIT */
#include "base/archived.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/stamp.h"

#define STAMP_LEN 25 /* without the Z */

int jsonl_archived_name(const char *path, uid_t payer, char name[JSONL_ARCHIVED_NAME])
{
	const size_t size = JSONL_ARCHIVED_NAME;
	uint64_t random;
	size_t n;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	jsonl_stamp_name_now(name);
	n = strlen(name);
	n += (size_t)snprintf(name + n, size - n, ".%016llx", (unsigned long long)random);
	if (payer != JSONL_ARCHIVED_OWNER)
		n += (size_t)snprintf(name + n, size - n, ".u%u", (unsigned)payer);
	name[n++] = '-';
	/* The end of a long path says more than its beginning. */
	if (strlen(path) > JSONL_ARCHIVED_PATH)
		path += strlen(path) - JSONL_ARCHIVED_PATH;
	for (; *path && n + 4 < size; path++) {
		if (*path == '/' || *path == '%')
			n += (size_t)snprintf(name + n, size - n, "%%%02X",
					      (unsigned char)*path);
		else
			name[n++] = *path;
	}
	name[n] = '\0';
	return 0;
}

static int digits(const char *s, size_t n)
{
	int value = 0;

	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -1;
		value = value * 10 + (s[i] - '0');
	}
	return value;
}

static int64_t parse_stamp(const char *s)
{
	struct tm tm = {
	    .tm_year = digits(s, 4) - 1900,
	    .tm_mon = digits(s + 4, 2) - 1,
	    .tm_mday = digits(s + 6, 2),
	    .tm_hour = digits(s + 9, 2),
	    .tm_min = digits(s + 11, 2),
	    .tm_sec = digits(s + 13, 2),
	};

	if (s[8] != 'T' || s[15] != '.' || s[STAMP_LEN] != 'Z' || tm.tm_year < 70 ||
	    tm.tm_mon < 0 || tm.tm_mon > 11 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
	    tm.tm_hour < 0 || tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 ||
	    tm.tm_sec < 0 || tm.tm_sec > 60 || digits(s + 16, 9) < 0)
		return -1;
	return timegm(&tm);
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void parse_path(const char *from, struct jsonl_archived *a)
{
	size_t n = 0;

	for (; *from && n + 1 < sizeof(a->path); from++) {
		if (from[0] == '%' && from[1] && hex(from[1]) >= 0 && hex(from[2]) >= 0) {
			a->path[n++] = (char)(hex(from[1]) << 4 | hex(from[2]));
			from += 2;
		} else {
			a->path[n++] = *from;
		}
	}
	a->path[n] = '\0';
	a->whole = n > 0 && n < JSONL_ARCHIVED_PATH;
}

void jsonl_archived_parse(const char *name, struct jsonl_archived *a)
{
	const char *dash = strchr(name, '-'), *user;

	a->time = strlen(name) > STAMP_LEN ? parse_stamp(name) : -1;
	a->payer = JSONL_ARCHIVED_OWNER;
	a->whole = false;
	a->path[0] = '\0';
	if (!dash || a->time < 0)
		return;
	parse_path(dash + 1, a);
	user = strstr(name, ".u");
	if (user && user < dash) {
		char *end;
		unsigned long uid = strtoul(user + 2, &end, 10);

		if (end == dash && uid < JSONL_ARCHIVED_OWNER)
			a->payer = (uid_t)uid;
	}
}
