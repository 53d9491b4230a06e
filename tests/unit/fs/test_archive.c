/* SPDX-License-Identifier: MIT */
/* What fits into the archive, who goes for it, and what its names say. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/archived.h"
#include "check.h"
#include "vault/archive_table.h"

/* ---- names ---- */

static void test_names(void)
{
	char name[JSONL_ARCHIVED_NAME], other[JSONL_ARCHIVED_NAME], path[400];
	struct jsonl_archived a;

	CHECK(jsonl_archived_name("d/50%.jsonl", JSONL_ARCHIVED_OWNER, name) == 0);
	CHECK(strlen(name) == 44 + 15 && strcmp(name + 44, "d%2F50%25.jsonl") == 0, "%s",
	      name);
	jsonl_archived_parse(name, &a);
	CHECK(strcmp(a.path, "d/50%.jsonl") == 0 && a.whole);
	CHECK(a.payer == JSONL_ARCHIVED_OWNER && a.time > 1700000000);
	/* Nobody can guess it, and no two are alike. */
	CHECK(jsonl_archived_name("d/50%.jsonl", JSONL_ARCHIVED_OWNER, other) == 0);
	CHECK(strcmp(name + 26, other + 26) != 0);
	CHECK(jsonl_archived_name("x.u7-y", 1234, name) == 0);
	jsonl_archived_parse(name, &a);
	CHECK(strcmp(a.path, "x.u7-y") == 0 && a.payer == 1234, "%s", name);
	memset(path, 'p', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	CHECK(jsonl_archived_name(path, 1, name) == 0);
	jsonl_archived_parse(name, &a);
	CHECK(strlen(a.path) == JSONL_ARCHIVED_PATH && !a.whole);
}

static void test_other_names(void)
{
	static const struct {
		const char *name, *path;
		int64_t time;
		uid_t payer;
	} table[] = {
	    /* as earlier versions wrote them */
	    {"20261120T101112.123456789Z-d%2Fx.u7.jsonl", "d/x.u7.jsonl", 1795169472,
	     JSONL_ARCHIVED_OWNER},
	    {"20261120T101112.123456789Z.0123456789abcdef.u0-x", "x", 1795169472, 0},
	    {"20261120T101112.123456789Z.0123456789abcdef.u-1-x", "1-x", 1795169472,
	     JSONL_ARCHIVED_OWNER},
	    {"20261120T101112.123456789Z.0123456789abcdef.u4294967295-x", "x", 1795169472,
	     JSONL_ARCHIVED_OWNER},
	    {"20261120T101112.123456789Z-", "", 1795169472, JSONL_ARCHIVED_OWNER},
	    {"20261120T101112.123456789Z-%2", "%2", 1795169472, JSONL_ARCHIVED_OWNER},
	    {"20261120T101112Z.123456789-x", "", -1, JSONL_ARCHIVED_OWNER},
	    {"20261320T101112.123456789Z-x", "", -1, JSONL_ARCHIVED_OWNER},
	    {"x.jsonl", "", -1, JSONL_ARCHIVED_OWNER},
	    {"", "", -1, JSONL_ARCHIVED_OWNER},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct jsonl_archived a;

		jsonl_archived_parse(table[i].name, &a);
		CHECK(strcmp(a.path, table[i].path) == 0, "%s: %s", table[i].name,
		      a.path);
		CHECK(a.time == table[i].time, "%s: %lld", table[i].name,
		      (long long)a.time);
		CHECK(a.payer == table[i].payer, "%s: %u", table[i].name, a.payer);
	}
}

/* ---- the table ---- */

static bool busy_none(void *ctx, const struct fs_archive_entry *e)
{
	return false;
}

static bool busy_growing(void *ctx, const struct fs_archive_entry *e)
{
	return e->growing;
}

static void enter(struct fs_archive_table *t, const char *name, uid_t payer,
		  uint64_t bytes)
{
	const struct fs_archive_entry e = {
	    .name = strdup(name), .payer = payer, .bytes = bytes, .time = atoi(name)};

	CHECK(jsonl_shares_charge(&t->shares, payer, bytes, 1) == 0);
	CHECK(fs_archive_table_enter(t, &e) == 0);
}

/* Names of the victims, one behind the other, or the error. */
static const char *room(struct fs_archive_table *t, uid_t remover, uid_t owner,
			uint64_t bytes,
			bool (*busy)(void *, const struct fs_archive_entry *))
{
	const struct fs_archive_claim claim = {remover, owner};
	struct fs_archive_entry *victims;
	static char text[1000];
	size_t n;
	int rc = fs_archive_table_make_room(t, &claim, bytes, busy, NULL, &victims, &n);

	snprintf(text, sizeof(text), "%s", rc == -EDQUOT ? "EDQUOT" : rc ? "error" : "");
	CHECK(rc == 0 || n == 0);
	for (size_t i = 0; i < n; i++) {
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s ",
			 victims[i].name);
		free(victims[i].name);
	}
	free(victims);
	return text;
}

#define ROOM(want, ...)                                                                  \
	do {                                                                             \
		const char *got_ = room(__VA_ARGS__);                                    \
		CHECK(strcmp(got_, want) == 0, "%s", got_);                              \
	} while (0)

static void test_payers(void)
{
	CHECK(fs_archive_payer(&(struct fs_archive_claim){5, 5}) == 5);
	CHECK(fs_archive_payer(&(struct fs_archive_claim){0, 5}) == 5);
	CHECK(fs_archive_payer(&(struct fs_archive_claim){6, 5}) == 6);
	CHECK(fs_archive_payer(&(struct fs_archive_claim){6, 0}) == 6);
}

static void test_room(void)
{
	struct fs_archive_table t = {.max = 1000};

	enter(&t, "10", 1, 300);
	enter(&t, "30", 1, 300);
	enter(&t, "20", 2, 200);
	CHECK(t.shares.bytes == 800 && t.count == 3 && strcmp(t.list[1].name, "20") == 0);
	/* It fits. */
	ROOM("", &t, 2, 2, 200, busy_none);
	ROOM("", &t, 1, 1, 150, busy_none);
	/* Three quarters: the owner's oldest. */
	ROOM("EDQUOT", &t, 1, 1, 751, busy_none);
	ROOM("10 ", &t, 1, 1, 200, busy_none);
	CHECK(t.shares.bytes == 500 && t.count == 2);
	enter(&t, "40", 1, 200);
	enter(&t, "50", 3, 300);
	/* Nobody's goes for another's. */
	ROOM("EDQUOT", &t, 2, 2, 201, busy_none);
	ROOM("20 ", &t, 2, 2, 150, busy_none);
	enter(&t, "60", 2, 150);
	ROOM("EDQUOT", &t, 4, 1, 100, busy_none);
	ROOM("EDQUOT", &t, 4, 4, 100, busy_none);
	ROOM("", &t, 4, 1, 50, busy_none);
	/* Root pushes out its own first, then what the owner of the file has. */
	enter(&t, "70", 0, 50);
	CHECK(t.shares.bytes == 1000);
	ROOM("70 ", &t, 0, 1, 30, busy_none);
	ROOM("30 ", &t, 0, 1, 100, busy_none);
	ROOM("EDQUOT", &t, 0, 0, 800, busy_none);
	/* An older entry that is in use stays. */
	t.list[fs_archive_table_find(&t, "40")].growing = true;
	enter(&t, "80", 1, 350);
	CHECK(t.shares.bytes == 1000);
	ROOM("80 ", &t, 1, 1, 10, busy_growing);
	ROOM("EDQUOT", &t, 1, 1, 600, busy_growing);
	fs_archive_table_clear(&t);
	CHECK(t.max == 1000 && t.count == 0 && t.shares.bytes == 0);
}

static void test_growth_and_taking(void)
{
	struct fs_archive_table t = {.max = 1000};
	struct fs_archive_entry e;

	enter(&t, "1", 1, 100);
	enter(&t, "2", 2, 100);
	CHECK(fs_archive_table_find(&t, "1.5") == t.count);
	fs_archive_table_resize(&t, 0, 700);
	CHECK(t.shares.bytes == 800 && fs_archive_table_percent(&t) == 93);
	fs_archive_table_resize(&t, 0, 50);
	CHECK(t.shares.bytes == 150 && fs_archive_table_percent(&t) == 15);
	fs_archive_table_take(&t, fs_archive_table_find(&t, "1"), &e);
	CHECK(strcmp(e.name, "1") == 0 && t.shares.bytes == 100 && t.shares.count == 1);
	free(e.name);
	jsonl_shares_refund(&t.shares, 77, 5, 1);
	CHECK(t.shares.bytes == 100);
	fs_archive_table_clear(&t);
	CHECK(fs_archive_table_percent(&t) == 0);
}

static void test_expiry(void)
{
	struct fs_archive_table t = {.max = 1000};
	struct fs_archive_entry *victims;
	size_t n;

	for (int i = 1; i <= 9; i++)
		enter(&t, (char[]){(char)('0' + i), '\0'}, (uid_t)i, 10);
	t.list[2].growing = true;
	CHECK(fs_archive_table_expire(&t, 5, busy_growing, NULL, &victims, &n) == 0);
	CHECK(n == 3 && t.count == 6 && t.shares.bytes == 60 &&
	      strcmp(t.list[0].name, "3") == 0 && strcmp(t.list[1].name, "5") == 0);
	for (size_t i = 0; i < n; i++)
		free(victims[i].name);
	free(victims);
	fs_archive_table_clear(&t);
}

/* Small entries are bounded, too: they cost memory and inodes. */
static void test_many(void)
{
	struct fs_archive_table t = {.max = 1 << 20};
	unsigned long gone = 0;
	char name[16];

	for (int i = 0; i < 3000; i++) {
		const struct fs_archive_claim claim = {1, 1};
		struct fs_archive_entry *victims;
		size_t n;

		CHECK(fs_archive_table_make_room(&t, &claim, 1, busy_none, NULL, &victims,
						 &n) == 0);
		gone += n;
		for (size_t k = 0; k < n; k++)
			free(victims[k].name);
		free(victims);
		snprintf(name, sizeof(name), "%08d", i);
		enter(&t, name, 1, 1);
	}
	CHECK(t.count == (1024 + 256) * 3 / 4 && gone == 3000 - t.count, "%zu, %lu gone",
	      t.count, gone);
	CHECK(strcmp(t.list[t.count - 1].name, "00002999") == 0);
	fs_archive_table_clear(&t);
}

int main(void)
{
	test_names();
	test_other_names();
	test_payers();
	test_room();
	test_growth_and_taking();
	test_expiry();
	test_many();
	return check_done();
}
