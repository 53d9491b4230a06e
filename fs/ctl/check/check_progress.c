/* SPDX-License-Identifier: MIT */
#include "ctl/check/check_progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/stamp.h"
#include "ctl/ctl.h"

#define PROGRESS_AFTER_MS 1000 /* short runs stay quiet */
#define PROGRESS_EVERY_MS 200

void check_progress_begin(struct check_progress *p)
{
	*p = (struct check_progress){.terminal = isatty(STDERR_FILENO) == 1,
				     .started = jsonl_now_ms()};
}

void check_progress_erase(struct check_progress *p)
{
	if (p->drawn)
		(void)fputs("\r\033[K", stderr);
	p->drawn = false;
}

/* "1:02:03" or "2:03". */
static const char *remaining(const struct check_progress *p, double speed,
			     char buf[CTL_NUMBER])
{
	uint64_t bytes = p->expected > p->done ? p->expected - p->done : 0;
	unsigned long long s =
	    speed >= 1 ? (unsigned long long)((double)bytes / speed + 0.5) : 0;

	if (s >= 3600)
		(void)snprintf(buf, CTL_NUMBER, "%llu:%02llu:%02llu", s / 3600,
			       s / 60 % 60, s % 60);
	else
		(void)snprintf(buf, CTL_NUMBER, "%llu:%02llu", s / 60, s % 60);
	return buf;
}

static void draw(struct check_progress *p, int64_t now, const char *shown)
{
	char done[CTL_NUMBER], total[CTL_NUMBER], rate[CTL_NUMBER], left[CTL_NUMBER];
	double percent = p->expected ? 100.0 * (double)p->done / (double)p->expected : 0;
	double speed = (double)p->done * 1000 / (double)(now - p->started);

	/* Files may have grown since they were measured. */
	(void)fprintf(stderr, "\r\033[K%3.0f %%  %s of %s  %s/s  %s left  ",
		      percent < 100 ? percent : 100, ctl_bytes(p->done, done),
		      ctl_bytes(p->expected, total), ctl_bytes((uint64_t)speed, rate),
		      remaining(p, speed, left));
	if (shown && strlen(shown) < 60)
		(void)ctl_print_name(stderr, shown);
	(void)fflush(stderr);
	p->drawn = true;
	p->last = now;
}

void check_progress_add(struct check_progress *p, uint64_t bytes, const char *shown)
{
	int64_t now;

	p->done += bytes;
	if (!p->terminal)
		return;
	now = jsonl_now_ms();
	if (now - p->started >= PROGRESS_AFTER_MS && now - p->last >= PROGRESS_EVERY_MS)
		draw(p, now, shown);
}
