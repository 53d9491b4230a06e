/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

/* Two changes within one tick of the kernel's clock for files cannot be told apart. */
#define TICK_NS 20000000LL
/* FAT, ext4 with small inodes and other file systems keep less: two seconds at worst, and
 * then the rest is a multiple of the finest that they keep. */
#define COARSE_TICK_NS 2000000000LL
#define COARSE_UNIT_NS 10000000L

bool fs_same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool fs_later_time(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static int64_t nanoseconds(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

bool fs_stamp_is_old(const struct stat *st)
{
	int64_t m = nanoseconds(st->st_mtim), c = nanoseconds(st->st_ctim);
	int64_t tick = TICK_NS;
	struct timespec now;

	/* Programs cannot set the ctime. */
	if (st->st_ctim.tv_nsec % COARSE_UNIT_NS == 0)
		tick += COARSE_TICK_NS;
	clock_gettime(CLOCK_REALTIME, &now);
	return nanoseconds(now) - (m > c ? m : c) > tick;
}
