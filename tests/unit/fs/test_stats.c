/* SPDX-License-Identifier: MIT */
/* Programs and files that are counted: how many there are, and that no user takes the
 * places of all others. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "base/stats.h"

#define OWNER 500
#ifndef INIT
#define INIT(s) fs_stats_init(s, OWNER)
#endif

static struct fs_stats stats;

/* Entries by this user of `count` files; how many of them have a name of their own. */
static unsigned writes(uid_t uid, unsigned count)
{
	unsigned named = 0;

	for (unsigned i = 0; i < count; i++) {
		char path[32];
		struct fs_writer_stats *w;

		(void)snprintf(path, sizeof(path), "f%u.jsonl", i);
		w = fs_stats_writer(&stats, "/bin/p", uid, path);
		w->records++;
		named += w->uid == uid && strcmp(w->path, path) == 0;
		if (w->uid == uid && *w->path)
			CHECK(fs_stats_writer(&stats, "/bin/p", uid, path) == w);
	}
	return named;
}

static void test_one_user_leaves_places(void)
{
	CHECK(INIT(&stats) == 0);
	CHECK(writes(1000, 2 * FS_STATS_MAX_WRITERS) == FS_STATS_MAX_WRITERS / 2);
	CHECK(writes(1001, 100) == 100);
	CHECK(writes(0, 100) == 100 && writes(OWNER, 100) == 100);
	/* What has no place is still its user's. */
	CHECK(fs_stats_writer(&stats, "/bin/q", 1000, "x.jsonl")->uid == 1000);
	fs_stats_deinit(&stats);
}

static void test_many_users_leave_places(void)
{
	CHECK(INIT(&stats) == 0);
	for (uid_t uid = 1000; uid < 1040; uid++)
		CHECK(writes(uid, FS_STATS_MAX_WRITERS) >= 15, "of %u", (unsigned)uid);
	CHECK(writes(2000, 10) == 10);
	fs_stats_deinit(&stats);
}

static void test_all_are_listed_and_bounded(void)
{
	size_t count = 0;

	CHECK(INIT(&stats) == 0);
	CHECK(fs_stats_first(&stats) == NULL);
	CHECK(writes(0, 3) == 3);
	for (uid_t uid = 1000; uid < 40000; uid++)
		fs_stats_writer(&stats, "/bin/p", uid, "x")->records++;
	for (const struct fs_writer_stats *w = fs_stats_first(&stats); w;
	     w = fs_stats_next(&stats, w))
		count++;
	CHECK(count > FS_STATS_MAX_WRITERS && count < 2 * FS_STATS_MAX_WRITERS, "%zu", count);
	fs_stats_deinit(&stats);
}

int main(void)
{
	test_one_user_leaves_places();
	test_many_users_leave_places();
	test_all_are_listed_and_bounded();
	return check_done();
}
