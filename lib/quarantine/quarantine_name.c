/* SPDX-License-Identifier: MIT */
/* Names and times of entries. */
#include "quarantine/quarantine_internal.h"

#include <time.h>

int64_t jsonl_quarantine_stamp(struct jsonl_quarantine *q)
{
	struct timespec now;
	int64_t ns;

	clock_gettime(CLOCK_REALTIME, &now);
	ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	if (ns <= q->last_stamp)
		ns = q->last_stamp + 1;
	q->last_stamp = ns;
	return ns;
}

struct timespec jsonl_quarantine_moment(int64_t stamp)
{
	return (struct timespec){.tv_sec = (time_t)(stamp / 1000000000),
				 .tv_nsec = (long)(stamp % 1000000000)};
}
