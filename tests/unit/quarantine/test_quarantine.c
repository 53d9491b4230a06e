/* SPDX-License-Identifier: MIT */
/* What the quarantine stores and for whom, what it counts, and where it stops. */
#include "quarantine_rig.h"

#include <sys/xattr.h>

/* ---- what is stored ---- */

static void test_store(void)
{
	struct iovec iov[3] = {{"{\"a\":", 5}, {"", 0}, {"oops\n", 5}};
	struct jsonl_quarantine_item item = {
	    .iov = iov,
	    .niov = 3,
	    .event = "refused",
	    .code = JSONL_UNEXPECTED,
	    .offset = 5,
	    .at = 4711,
	    .path = "logs/audit.jsonl",
	    .program = "/usr/bin/bash",
	    .pid = 12,
	    .uid = 1000,
	    .source_fd = -1,
	    .durable = true,
	};
	char name[JSONL_QUARANTINE_NAME];
	uint64_t bytes, entries;
	struct jsonl_quarantine *q;
	struct jsonl_report *r;
	struct stat st;

	new_state();
	umask(077);
	q = start(64 * MIB);
	umask(022);
	CHECK(fstatat(state_fd, "quarantine", &st, 0) == 0 &&
	      (st.st_mode & 07777) == 0711);
	jsonl_quarantine_usage(q, &bytes, &entries);
	CHECK(bytes == 0 && entries == 0);
	CHECK(jsonl_quarantine_put(q, &item, name) == 0);
	CHECK(strcmp(content(name), "{\"a\":oops\n") == 0, "%s", content(name));
	/* 20251120T115601.123456789Z.0123456789abcdef-audit.jsonl */
	CHECK(strlen(name) == 44 + 11 && name[8] == 'T' && name[15] == '.' &&
		  name[25] == 'Z' && name[26] == '.' &&
		  strspn(name + 27, "0123456789abcdef") == 16 &&
		  strcmp(name + 43, "-audit.jsonl") == 0,
	      "%s", name);
	CHECK((stat_of(name).st_mode & 07777) == 0600);
	CHECK(fstatat(state_fd, "quarantine.jsonl", &st, 0) == 0 &&
	      (st.st_mode & 07777) == 0600);
	jsonl_quarantine_usage(q, &bytes, &entries);
	CHECK(bytes == 4096 + strlen(content(NULL)) && entries == 1, "%llu",
	      (unsigned long long)bytes);

	r = jsonl_report_parse(content(NULL));
	CHECK(r);
	CHECK(strcmp(jsonl_report_get_string(r, "file"), name) == 0);
	CHECK(strcmp(jsonl_report_get_string(r, "event"), "refused") == 0);
	CHECK(strcmp(jsonl_report_get_string(r, "reason"), "unexpected") == 0);
	CHECK(strcmp(jsonl_report_get_string(r, "path"), "logs/audit.jsonl") == 0);
	CHECK(strcmp(jsonl_report_get_string(r, "program"), "/usr/bin/bash") == 0);
	CHECK(jsonl_report_get_uint(r, "offset") == 5);
	CHECK(jsonl_report_get_uint(r, "at") == 4711);
	CHECK(jsonl_report_get_uint(r, "bytes") == 10);
	CHECK(jsonl_report_get_uint(r, "pid") == 12);
	CHECK(jsonl_report_get_uint(r, "uid") == 1000);
	CHECK(strlen(jsonl_report_get_string(r, "time")) == 30);
	/* The content is in the file alone. */
	CHECK(!strstr(content(NULL), "oops"));
	jsonl_report_free(r);
	check_usage(q);
	jsonl_quarantine_free(q);
}

static void test_names(void)
{
	struct jsonl_quarantine *q;
	char name[JSONL_QUARANTINE_NAME], path[PATH_MAX];
	unsigned other;

	new_state();
	q = start(64 * MIB);
	CHECK(put_text(q, "a/b\n\x1b[1m\xff\xc2\x85\xc3\xa9.jsonl", "1", name) == 0);
	CHECK(strcmp(name + 44, "b__[1m__\xc3\xa9.jsonl") == 0, "%s", name + 44);
	CHECK(content(name) && strcmp(content(name), "1") == 0);
	/* The longest name that a file can have is shortened, never inside a character.
	 */
	path[0] = '\0';
	for (int i = 0; i < 85; i++)
		strcat(path, "\xe2\x82\xac");
	CHECK(put_text(q, path, "2", name) == 0);
	CHECK(strlen(name) == 44 + 210, "%zu", strlen(name));
	CHECK(content(name) && strcmp(content(name), "2") == 0);
	CHECK(put_text(q, "", "3", name) == 0 && strcmp(content(name), "3") == 0);
	CHECK(put(q, "empty", "", 0, 0, name) == 0 && strcmp(content(name), "") == 0);
	CHECK(put_text(q, "x", "4", NULL) == 0);
	CHECK(check_index(&other) == 5 && other == 0);
	check_usage(q);
	jsonl_quarantine_free(q);
}

/* The clock goes back over names that exist: others are found. */
static void test_clock_goes_back(void)
{
	char name[JSONL_QUARANTINE_NAME], again[JSONL_QUARANTINE_NAME];
	struct jsonl_quarantine *q;

	new_state();
	q = start(64 * MIB);
	q->last_stamp = INT64_C(4000000000) * 1000000000;
	CHECK(put_text(q, "x", "1", name) == 0);
	q->last_stamp = INT64_C(4000000000) * 1000000000;
	CHECK(put_text(q, "x", "2", again) == 0);
	CHECK(strcmp(name, again) != 0, "%s", again);
	CHECK(strcmp(content(name), "1") == 0);
	CHECK(strcmp(content(again), "2") == 0);
	check_usage(q);
	jsonl_quarantine_free(q);
}

/* ---- owner, mode, ACL ---- */

static int source_file(mode_t mode, uid_t uid, gid_t gid)
{
	int fd = openat(state_fd, "source", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && fchown(fd, uid, gid) == 0 && fchmod(fd, mode) == 0);
	return fd;
}

static int put_from(struct jsonl_quarantine *q, int source, const char *text, char *name)
{
	struct iovec iov = {.iov_base = (char *)text, .iov_len = strlen(text)};
	struct jsonl_quarantine_item item = {.iov = &iov,
					     .niov = 1,
					     .event = "fragment",
					     .path = "x",
					     .source_fd = source};

	return jsonl_quarantine_put(q, &item, name);
}

static void test_mode(void)
{
	static const struct {
		mode_t source, kept;
	} table[] = {
	    {0644, 0644},  {0600, 0600}, {0640, 0640},	{0755, 0644},
	    {06777, 0666}, {0000, 0000}, {01660, 0660},
	};
	uid_t owner = geteuid() == 0 ? 1234 : geteuid();
	gid_t group = geteuid() == 0 ? 2345 : getegid();
	char name[JSONL_QUARANTINE_NAME], text[16];
	struct jsonl_quarantine *q;
	struct stat st;
	int fd;

	new_state();
	q = start(64 * MIB);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		fd = source_file(table[i].source, owner, group);
		snprintf(text, sizeof(text), "%zu", i);
		faulty_reset(0, 0, false);
		CHECK(put_from(q, fd, text, name) == 0);
		st = stat_of(name);
		CHECK((st.st_mode & 07777) == table[i].kept, "row %zu: %o", i,
		      st.st_mode);
		CHECK(st.st_uid == owner && st.st_gid == group);
		/* Made for nobody else, and the mode was there before the first byte. */
		CHECK(faulty.created == 0600);
		CHECK(faulty.seen_open == ((table[i].kept & 077) != 0));
		close(fd);
	}
	/* An O_PATH descriptor, which is all that some callers have. */
	close(source_file(0640, owner, group));
	fd = openat(state_fd, "source", O_PATH | O_CLOEXEC);
	CHECK(put_from(q, fd, "path", name) == 0);
	CHECK((stat_of(name).st_mode & 07777) == 0640 && stat_of(name).st_uid == owner);
	close(fd);
	/* No source at all any more. */
	CHECK(put_from(q, -1, "none", name) == 0);
	CHECK((stat_of(name).st_mode & 07777) == 0600 &&
	      stat_of(name).st_uid == geteuid());
	CHECK(put_from(q, 9999, "bad", name) == 0);
	CHECK((stat_of(name).st_mode & 07777) == 0600);
	jsonl_quarantine_free(q);
}

/* POSIX ACLs as the kernel stores them: version 2, then tag, permissions, id. */
#define ACL_ENTRY(tag, perm, id)                                                         \
	(tag), 0, (perm), 0, (id)&0xff, (id) >> 8 & 0xff, (id) >> 16 & 0xff,             \
	    (id) >> 24 & 0xff
#define ACL_NONE 0xffffffffU

static const unsigned char source_acl[] = {
    2,
    0,
    0,
    0,
    ACL_ENTRY(1, 7, ACL_NONE),
    ACL_ENTRY(2, 5, 1111U),
    ACL_ENTRY(4, 0, ACL_NONE),
    ACL_ENTRY(16, 5, ACL_NONE),
    ACL_ENTRY(32, 0, ACL_NONE),
};
static const unsigned char kept_acl[] = {
    2,
    0,
    0,
    0,
    ACL_ENTRY(1, 6, ACL_NONE),
    ACL_ENTRY(2, 5, 1111U),
    ACL_ENTRY(4, 0, ACL_NONE),
    ACL_ENTRY(16, 4, ACL_NONE),
    ACL_ENTRY(32, 0, ACL_NONE),
};

static void test_acl(void)
{
	char name[JSONL_QUARANTINE_NAME], path[PATH_MAX];
	unsigned char acl[256];
	struct jsonl_quarantine *q;
	int fd, link, dir;
	ssize_t n;

	new_state();
	q = start(64 * MIB);
	fd = source_file(0750, geteuid(), getegid());
	if (fsetxattr(fd, "system.posix_acl_access", source_acl, sizeof(source_acl), 0) <
	    0) {
		CHECK(errno == EOPNOTSUPP, "%d", errno);
		printf("no ACLs in %s: not tried\n", top);
		goto out;
	}
	link = openat(state_fd, "source", O_PATH | O_CLOEXEC);
	for (int i = 0; i < 2; i++) {
		CHECK(put_from(q, i ? link : fd, i ? "1" : "0", name) == 0);
		snprintf(path, sizeof(path), "%s/%u/quarantine/%s", top, state_number - 1,
			 name);
		n = getxattr(path, "system.posix_acl_access", acl, sizeof(acl));
		/* Executing is nobody's: neither by the owner's entry nor by the mask. */
		CHECK(n == (ssize_t)sizeof(kept_acl) &&
			  memcmp(acl, kept_acl, sizeof(kept_acl)) == 0,
		      "%zd", n);
	}
	close(link);
	/* A default ACL of the directory must not open what the source keeps closed. */
	dir = openat(state_fd, "quarantine", O_RDONLY | O_CLOEXEC);
	CHECK(fsetxattr(dir, "system.posix_acl_default", source_acl, sizeof(source_acl),
			0) == 0);
	close(dir);
	close(fd);
	CHECK(unlinkat(state_fd, "source", 0) == 0);
	fd = source_file(0640, geteuid(), getegid());
	CHECK(put_from(q, fd, "2", name) == 0);
	snprintf(path, sizeof(path), "%s/%u/quarantine/%s", top, state_number - 1, name);
	CHECK(getxattr(path, "system.posix_acl_access", acl, sizeof(acl)) < 0 &&
	      errno == ENODATA);
	CHECK((stat_of(name).st_mode & 07777) == 0640);
out:
	close(fd);
	jsonl_quarantine_free(q);
}

/* ---- the same bytes once ---- */

static void test_same_bytes(void)
{
	char first[JSONL_QUARANTINE_NAME], name[JSONL_QUARANTINE_NAME], path[PATH_MAX];
	struct jsonl_quarantine *q;
	unsigned other;
	int fd;

	new_state();
	q = start(64 * MIB);
	CHECK(put_text(q, "x", "same\n", first) == 0);
	CHECK(put_text(q, "x", "same\n", name) == 0 && strcmp(name, first) == 0);
	CHECK(put_text(q, "y", "same\n", name) == 0 && strcmp(name, first) != 0);
	CHECK(put_text(q, "x", "sama\n", name) == 0 && strcmp(name, first) != 0);
	/* Each user has what is his own. */
	CHECK(put(q, "x", "same\n", 5, 1001, name) == 0 && strcmp(name, first) != 0);
	CHECK(count_files() == 4 && check_index(&other) == 4);
	check_usage(q);

	/* Also after a restart. */
	jsonl_quarantine_free(q);
	q = start(64 * MIB);
	CHECK(put_text(q, "x", "same\n", name) == 0 && strcmp(name, first) == 0);
	CHECK(count_files() == 4);

	/* A file that is no longer these bytes does not stand for them. */
	snprintf(path, sizeof(path), "quarantine/%s", first);
	fd = openat(state_fd, path, O_WRONLY | O_CLOEXEC);
	CHECK(pwrite(fd, "S", 1, 0) == 1);
	close(fd);
	CHECK(put_text(q, "x", "same\n", name) == 0 && strcmp(name, first) != 0);
	CHECK(strcmp(content(name), "same\n") == 0);
	snprintf(path, sizeof(path), "quarantine/%s", name);
	CHECK(unlinkat(state_fd, path, 0) == 0);
	CHECK(put_text(q, "x", "same\n", first) == 0 && strcmp(name, first) != 0);
	CHECK(strcmp(content(first), "same\n") == 0);
	jsonl_quarantine_free(q);
}

/* What was stored without a sync is made durable when that is asked for. */
static void test_same_bytes_durable(void)
{
	char text[] = "text";
	struct iovec iov = {.iov_base = text, .iov_len = 4};
	struct jsonl_quarantine_item item = {
	    .iov = &iov, .niov = 1, .event = "e", .path = "x", .source_fd = -1};
	char first[JSONL_QUARANTINE_NAME], name[JSONL_QUARANTINE_NAME];
	struct jsonl_quarantine *q;

	new_state();
	q = start(64 * MIB);
	CHECK(jsonl_quarantine_put(q, &item, first) == 0);
	item.durable = true;
	CHECK(jsonl_quarantine_put(q, &item, name) == 0 && strcmp(name, first) == 0);
	/* Its sync fails: that file is not believed any more, another one is made. Calls
	 * of this put: openat, fstat, pread, fsync. */
	faulty_reset(4, -EIO, false);
	CHECK(jsonl_quarantine_put(q, &item, name) == 0 && strcmp(name, first) != 0);
	CHECK(count_files() == 2);
	faulty_reset(0, 0, false);
	jsonl_quarantine_free(q);
}

static void test_join(void)
{
	struct iovec begin = {(void *)"{\"a\":x", 6}, rest[2] = {{"yz", 2}, {"}\n", 2}};
	struct jsonl_quarantine_item item = {.iov = &begin,
					     .niov = 1,
					     .event = "refused",
					     .path = "x",
					     .source_fd = -1,
					     .joinable = true};
	char first[JSONL_QUARANTINE_NAME], second[JSONL_QUARANTINE_NAME], big[8192];
	struct iovec more = {big, sizeof(big)};
	struct jsonl_quarantine *q;
	unsigned other;

	new_state();
	q = start(64 * MIB);
	/* Two writers with the same beginning have an entry each. */
	CHECK(jsonl_quarantine_put(q, &item, first) == 0);
	CHECK(jsonl_quarantine_put(q, &item, second) == 0);
	CHECK(strcmp(first, second) != 0);
	CHECK(jsonl_quarantine_join(q, first, rest, 2, true) == 0);
	CHECK(strcmp(content(first), "{\"a\":xyz}\n") == 0);
	CHECK(strcmp(content(second), "{\"a\":x") == 0);
	/* An entry that was joined no longer stands for its first bytes. */
	CHECK(put_text(q, "x", "one", first) == 0);
	CHECK(jsonl_quarantine_join(q, first, rest, 2, false) == 0);
	CHECK(put_text(q, "x", "one", second) == 0 && strcmp(first, second) != 0);
	check_usage(q);
	/* Joining after a restart, and over the end of a block. */
	jsonl_quarantine_free(q);
	q = start(64 * MIB);
	CHECK(put_text(q, "x", "one", first) == 0 && strcmp(first, second) == 0);
	memset(big, 'b', sizeof(big));
	CHECK(jsonl_quarantine_join(q, second, &more, 1, false) == 0);
	CHECK(stat_of(second).st_size == 8195);
	check_usage(q);
	CHECK(check_index(&other) == 7 && other == 0, "%u", other);

	CHECK(jsonl_quarantine_join(q, "../quarantine.jsonl", rest, 2, false) == -EINVAL);
	CHECK(jsonl_quarantine_join(q, "..", rest, 2, false) == -EINVAL);
	CHECK(jsonl_quarantine_join(q, "", rest, 2, false) == -EINVAL);
	CHECK(jsonl_quarantine_join(q, "20990101", rest, 2, false) == -ENOENT);
	CHECK(symlinkat("../quarantine.jsonl", state_fd, "quarantine/link") == 0);
	CHECK(jsonl_quarantine_join(q, "link", rest, 2, false) == -ELOOP);
	CHECK(mkfifoat(state_fd, "quarantine/fifo", 0600) == 0);
	CHECK(jsonl_quarantine_join(q, "fifo", rest, 2, false) == -ENXIO);
	jsonl_quarantine_free(q);
}

/* ---- the bound ---- */

static int put_numbered(struct jsonl_quarantine *q, uid_t uid, unsigned number,
			bool reserved)
{
	static char bytes[64 << 10];
	struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	struct jsonl_quarantine_item item = {
	    .iov = &iov,
	    .niov = 1,
	    .event = "e",
	    .path = "x",
	    .uid = uid,
	    .source_fd = -1,
	    .reserved = reserved,
	};

	snprintf(bytes, sizeof(bytes), "%u", number);
	return jsonl_quarantine_put(q, &item, NULL);
}

/* Puts of 64 KiB until one is refused: how many were taken. */
static unsigned fill(struct jsonl_quarantine *q, uid_t uid, bool reserved,
		     unsigned *number)
{
	for (unsigned taken = 0; taken < 10000; taken++) {
		int rc = put_numbered(q, uid, ++*number, reserved);

		if (rc) {
			CHECK(rc == -ENOSPC, "%d", rc);
			return taken;
		}
	}
	return 10000;
}

static void test_bound(void)
{
	struct jsonl_quarantine *q;
	unsigned number = 0, taken, a, b;
	uint64_t bytes, entries;

	new_state();
	q = start(8 * MIB);
	/* A quarter for each user, lines of the index counted, and half of it all is kept
	 * for those without a caller. */
	taken = fill(q, 1001, false, &number);
	CHECK(taken == 31, "%u", taken);
	a = fill(q, 1002, false, &number);
	CHECK(a == 31, "%u", a);
	taken = fill(q, 1003, false, &number);
	CHECK(taken <= 2, "%u", taken);
	a += taken;
	taken = fill(q, 0, false, &number);
	CHECK(taken == 0, "%u", taken);
	/* One user's fragments leave room for those of others and for repairs. */
	b = fill(q, 1001, true, &number);
	CHECK(b >= 31 && b <= 33, "%u", b);
	taken = fill(q, 0, true, &number);
	CHECK(taken >= 28 && taken <= 32, "%u", taken);
	CHECK(fill(q, 1004, true, &number) == 0);
	jsonl_quarantine_usage(q, &bytes, &entries);
	CHECK(bytes <= 8 * MIB && bytes > 8 * MIB - (64 << 10), "%llu",
	      (unsigned long long)bytes);
	CHECK(entries == 31 + a + b + taken);
	CHECK(count_files() == entries);
	check_usage(q);

	/* After a restart the same is full for the same users. */
	jsonl_quarantine_free(q);
	q = start(8 * MIB);
	CHECK(fill(q, 1004, true, &number) == 0);
	CHECK(q->table.shares.count >= 3);
	jsonl_quarantine_free(q);
	q = start(16 * MIB);
	taken = fill(q, 1001, false, &number);
	CHECK(taken == 0, "%u", taken);
	taken = fill(q, 1003, false, &number);
	CHECK(taken == 0, "%u", taken);
	jsonl_quarantine_free(q);
	q = start(40 * MIB);
	taken = fill(q, 1001, false, &number);
	CHECK(taken >= 95 && taken <= 98, "%u", taken);
	jsonl_quarantine_free(q);
}

/* Somebody makes room by removing files: it is noticed without a restart. */
static void test_room_is_made(void)
{
	struct jsonl_quarantine *q;
	unsigned number = 0;
	char path[PATH_MAX];
	struct dirent *e;
	DIR *d;

	new_state();
	q = start(4 * MIB);
	CHECK(fill(q, 1001, false, &number) == 15);
	snprintf(path, sizeof(path), "%s/%u/quarantine", top, state_number - 1);
	d = opendir(path);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			CHECK(unlinkat(dirfd(d), e->d_name, 0) == 0);
	closedir(d);
	CHECK(put_numbered(q, 1001, ++number, false) == -ENOSPC); /* not looked at yet */
	q->last_recount -= 3600;
	CHECK(put_numbered(q, 1001, ++number, false) == 0);
	check_usage(q);
	jsonl_quarantine_free(q);
}

static void test_shares(void)
{
	struct jsonl_quarantine_table *t = calloc(1, sizeof(*t));

	/* The default bound, as documented: 256 MiB, 64 a user, 32 kept. */
	t->max = 256 * MIB;
	CHECK(jsonl_quarantine_table_fits(t, 1, 64 * MIB, false));
	CHECK(!jsonl_quarantine_table_fits(t, 1, 64 * MIB + 4096, false));
	for (uid_t uid = 1; uid <= 3; uid++)
		CHECK(jsonl_quarantine_table_charge(t, uid, 64 * MIB) == 0);
	CHECK(jsonl_quarantine_table_fits(t, 4, 32 * MIB, false));
	CHECK(!jsonl_quarantine_table_fits(t, 4, 32 * MIB + 4096, false));
	CHECK(jsonl_quarantine_table_fits(t, 4, 64 * MIB, true));
	CHECK(!jsonl_quarantine_table_fits(t, 3, 32 * MIB, true));
	CHECK(jsonl_quarantine_table_fits(t, 3, 16 * MIB, true));
	jsonl_quarantine_table_refund(t, 2, 64 * MIB);
	CHECK(jsonl_quarantine_table_fits(t, 2, 64 * MIB, false));
	jsonl_quarantine_table_refund(t, 2, 64 * MIB);
	jsonl_quarantine_table_refund(t, 77, 1);
	/* Nobody has what he gives back: the sum stays that of the shares. */
	CHECK(t->shares.bytes == 128 * MIB);
	/* Many users, in any order. */
	jsonl_quarantine_table_clear(t);
	CHECK(t->max == 256 * MIB && t->shares.bytes == 0);
	for (unsigned i = 0; i < 1000; i++)
		CHECK(jsonl_quarantine_table_charge(t, i * 7919 % 1000, 4096) == 0);
	CHECK(t->shares.count == 1000 && t->shares.bytes == 1000 * 4096);
	for (unsigned i = 1; i < 1000; i++)
		CHECK(t->shares.list[i - 1].uid < t->shares.list[i].uid &&
		      t->shares.list[i].bytes == 4096);
	/* A bound below every share still lets somebody in. */
	jsonl_quarantine_table_clear(t);
	t->max = 1 * MIB;
	CHECK(jsonl_quarantine_table_fits(t, 1, MIB / 2, false));
	CHECK(!jsonl_quarantine_table_fits(t, 1, MIB / 2 + 4096, false));
	t->max = 0;
	CHECK(!jsonl_quarantine_table_fits(t, 0, 4096, true));
	jsonl_quarantine_table_clear(t);
	free(t);
}

/* The ring forgets the oldest, never one that is being written. */
static void test_ring(void)
{
	struct jsonl_quarantine_table *t = calloc(1, sizeof(*t));
	struct jsonl_quarantine_recent *busy, *r;

	busy = jsonl_quarantine_table_add(t, 1, 0);
	busy->busy = true;
	for (uint64_t i = 2; i < JSONL_QUARANTINE_RECENT + 100; i++) {
		r = jsonl_quarantine_table_add(t, i, 0);
		r->name = strdup("x");
	}
	CHECK(jsonl_quarantine_table_find(t, 1) == busy);
	CHECK(!jsonl_quarantine_table_find(t, 2));
	CHECK(!jsonl_quarantine_table_find(t, 0));
	CHECK(jsonl_quarantine_table_find(t, JSONL_QUARANTINE_RECENT));
	jsonl_quarantine_table_clear(t);
	free(t);
}

/* ---- threads ---- */

struct worker {
	struct jsonl_quarantine *q;
	unsigned number;
	char names[50][JSONL_QUARANTINE_NAME];
};

static void *put_same(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < 50; i++) {
		char text[32];

		snprintf(text, sizeof(text), "text %d", i);
		if (put(w->q, "x", text, strlen(text), 7, w->names[i]) != 0)
			w->names[i][0] = '\0';
	}
	return NULL;
}

static void *put_own(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < 50; i++) {
		char text[32];

		snprintf(text, sizeof(text), "%u %d", w->number, i);
		if (put(w->q, "x", text, strlen(text), w->number, w->names[i]) != 0)
			w->names[i][0] = '\0';
	}
	return NULL;
}

static void test_threads(void)
{
	static struct worker workers[8];
	pthread_t threads[8];
	struct jsonl_quarantine *q, *q2;
	unsigned other;

	new_state();
	faulty_reset(0, 0, false);
	q = NULL;
	CHECK(jsonl_quarantine_new(&jsonl_io_system, state_fd, 256 * MIB, &q) == 0);
	for (unsigned i = 0; i < 8; i++) {
		workers[i] = (struct worker){.q = q, .number = i};
		CHECK(pthread_create(&threads[i], NULL, put_same, &workers[i]) == 0);
	}
	for (unsigned i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	CHECK(count_files() == 50, "%u", count_files());
	for (int i = 0; i < 50; i++)
		for (unsigned w = 1; w < 8; w++)
			CHECK(workers[0].names[i][0] &&
			      strcmp(workers[0].names[i], workers[w].names[i]) == 0);
	check_usage(q);

	/* Two quarantines on one directory (a mount and a tool): no name is used twice.
	 */
	q2 = NULL;
	CHECK(jsonl_quarantine_new(&jsonl_io_system, state_fd, 256 * MIB, &q2) == 0);
	for (unsigned i = 0; i < 8; i++) {
		workers[i] = (struct worker){.q = i % 2 ? q2 : q, .number = i};
		CHECK(pthread_create(&threads[i], NULL, put_own, &workers[i]) == 0);
	}
	for (unsigned i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	CHECK(count_files() == 450, "%u", count_files());
	for (unsigned w = 0; w < 8; w++)
		for (int i = 0; i < 50; i++) {
			char want[32];

			snprintf(want, sizeof(want), "%u %d", w, i);
			CHECK(strcmp(content(workers[w].names[i]), want) == 0);
		}
	CHECK(check_index(&other) == 450 && other == 0);
	jsonl_quarantine_free(q2);
	jsonl_quarantine_free(q);
}

int main(void)
{
	if (!rig_begin("test_quarantine"))
		return check_done();
	test_store();
	test_names();
	test_clock_goes_back();
	test_mode();
	test_acl();
	test_same_bytes();
	test_same_bytes_durable();
	test_join();
	test_bound();
	test_room_is_made();
	test_shares();
	test_ring();
	test_threads();
	return rig_end();
}
