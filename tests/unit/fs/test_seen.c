/* SPDX-License-Identifier: MIT */
/* What processes have seen of files: remembered for as many as there are places, and no user
 * has it forgotten what the processes of others have seen. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "base/process.h"
#include "base/seen.h"
#include "base/version.h"

#ifndef NOTE
#define NOTE fs_seen_note
#endif

#define VICTIM 1000
#define OTHER  2000

static void note(struct fs_seen *t, pid_t pid, const char *path, uid_t uid, off_t size)
{
	const struct fs_process p = {.tgid = pid, .start = 7};
	const struct fs_version v = {.size = size};

	NOTE(t, path, &p, uid, &v);
}

/* How far it has seen the file; -1: that is not known. */
static off_t seen(struct fs_seen *t, pid_t pid, const char *path)
{
	const struct fs_process p = {.tgid = pid, .start = 7};
	struct fs_version v;

	return fs_seen_find(t, path, &p, &v) ? v.size : -1;
}

/* Of the victim's pairs those that are still known. */
static int known(struct fs_seen *t, int pairs)
{
	char path[32];
	int count = 0;

	for (int n = 0; n < pairs; n++) {
		(void)snprintf(path, sizeof(path), "v%d.jsonl", n);
		count += seen(t, 100 + n, path) == n;
	}
	return count;
}

static void flood(struct fs_seen *t, uid_t uid, int pairs, const char *name)
{
	char path[32];

	for (int n = 0; n < pairs; n++) {
		(void)snprintf(path, sizeof(path), "%s%d.jsonl", name, n);
		note(t, 100 + n, path, uid, n);
	}
}

static void test_remembers_and_forgets(void)
{
	const struct fs_process p = {.tgid = 5, .start = 7}, later = {.tgid = 5, .start = 8};
	struct fs_seen *t = fs_seen_new();
	struct fs_version v;

	CHECK(t != NULL);
	note(t, 5, "a", VICTIM, 1);
	note(t, 5, "a", VICTIM, 2);
	CHECK(seen(t, 5, "a") == 2 && seen(t, 5, "b") == -1 && seen(t, 6, "a") == -1);
	CHECK(!fs_seen_find(t, "a", &later, &v));
	fs_seen_forget(t, "a", &p);
	CHECK(seen(t, 5, "a") == -1);
	fs_seen_free(t);
}

static void test_one_user_fills_it(void)
{
	struct fs_seen *t = fs_seen_new();

	flood(t, VICTIM, 100, "v");
	CHECK(known(t, 100) == 100);
	flood(t, OTHER, 200000, "o");
	CHECK(known(t, 100) == 100, "%d", known(t, 100));
	fs_seen_free(t);
}

/* Also where others came first; of a place that is shared by four a user has two. */
static void test_who_comes_late(void)
{
	struct fs_seen *t = fs_seen_new();

	for (uid_t uid = OTHER; uid < OTHER + 3; uid++)
		flood(t, uid, 50000, "o");
	flood(t, VICTIM, 100, "v");
	for (uid_t uid = OTHER; uid < OTHER + 3; uid++)
		flood(t, uid, 50000, "p");
	CHECK(known(t, 100) >= 95, "%d", known(t, 100));
	fs_seen_free(t);
}

int main(void)
{
	test_remembers_and_forgets();
	test_one_user_fills_it();
	test_who_comes_late();
	return check_done();
}
