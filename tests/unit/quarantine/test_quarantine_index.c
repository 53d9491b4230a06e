/* SPDX-License-Identifier: MIT */
/* Lines of one program in one entry, and an index that shrinks again. */
#include "quarantine_rig.h"

#include "base/memory.h"

static int gather(struct jsonl_quarantine *q, const char *program, const char *path,
		  uid_t uid, int source, const char *text, char *name)
{
	struct iovec iov = {.iov_base = (char *)text, .iov_len = strlen(text)};
	struct jsonl_quarantine_item item = {.iov = &iov,
					     .niov = 1,
					     .event = "refused",
					     .code = JSONL_UNEXPECTED,
					     .path = path,
					     .program = program,
					     .uid = uid,
					     .source_fd = source,
					     .gather = true};

	return jsonl_quarantine_put(q, &item, name);
}

static uint64_t bytes_of(struct jsonl_quarantine *q)
{
	uint64_t bytes, entries;

	jsonl_quarantine_usage(q, &bytes, &entries);
	return bytes;
}

static unsigned lines_of(const char *event)
{
	char text[64], *at = content(NULL);
	unsigned n = 0;

	snprintf(text, sizeof(text), "\"event\":\"%s\"", event);
	for (at = at ? strstr(at, text) : NULL; at; at = strstr(at + 1, text))
		n++;
	return n;
}

static void test_gather(void)
{
	char first[JSONL_QUARANTINE_NAME], name[JSONL_QUARANTINE_NAME], big[700 << 10];
	struct jsonl_quarantine *q;
	unsigned other = 0;
	int fd;

	new_state();
	q = start(64 * MIB);
	CHECK(gather(q, "p", "x", 1, -1, "one\n", first) == 0);
	CHECK(gather(q, "p", "x", 1, -1, "two", name) == 0 && strcmp(name, first) == 0);
	CHECK(gather(q, "p", "x", 1, -1, "three\n", name) == 0 &&
	      strcmp(name, first) == 0);
	/* Each on lines of its own. */
	CHECK(strcmp(content(first), "one\ntwo\nthree\n") == 0, "%s", content(first));
	/* The same line again is there already, whichever it was. */
	CHECK(gather(q, "p", "x", 1, -1, "one\n", name) == 0 && strcmp(name, first) == 0);
	CHECK(gather(q, "p", "x", 1, -1, "two", name) == 0 && strcmp(name, first) == 0);
	CHECK(stat_of(first).st_size == 14);
	CHECK(lines_of("refused") == 3 && lines_of("joined") == 0);
	CHECK(strstr(content(NULL), "\"from\":4,") &&
	      strstr(content(NULL), "\"from\":8,"));
	/* Also to the next one. */
	jsonl_quarantine_free(q);
	q = start(64 * MIB);
	for (int i = 0; i < 3; i++)
		CHECK(gather(q, "p", "x", 1, -1,
			     i == 2 ? "three\n"
			     : i    ? "two"
				    : "one\n",
			     name) == 0 &&
			  strcmp(name, first) == 0,
		      "%d", i);
	CHECK(count_files() == 1);
	/* Another program, file or user has an entry of its own. */
	CHECK(gather(q, "P", "x", 1, -1, "1\n", name) == 0 && strcmp(name, first) != 0);
	CHECK(gather(q, "p", "X", 1, -1, "2\n", name) == 0 && strcmp(name, first) != 0);
	CHECK(gather(q, "p", "x", 2, -1, "3\n", name) == 0 && strcmp(name, first) != 0);
	CHECK(count_files() == 4);
	/* So has a file that others may read now. */
	fd = openat(state_fd, "source", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(gather(q, "p", "x", 1, fd, "4\n", name) == 0 && strcmp(name, first) != 0);
	CHECK(fchmod(fd, 0644) == 0);
	CHECK(gather(q, "p", "x", 1, fd, "5\n", first) == 0 && strcmp(name, first) != 0);
	CHECK((stat_of(name).st_mode & 0777) == 0600 &&
	      (stat_of(first).st_mode & 0777) == 0644);
	close(fd);
	/* A large entry is not gone on with, nor one that is gone, nor an old one. */
	memset(big, 'b', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	CHECK(gather(q, "big", "x", 1, -1, big, first) == 0);
	big[0] = 'B';
	CHECK(gather(q, "big", "x", 1, -1, big, name) == 0 && strcmp(name, first) != 0);
	CHECK(jsonl_quarantine_drop(q, name) == 0);
	CHECK(gather(q, "big", "x", 1, -1, "6\n", first) == 0 &&
	      strcmp(content(first), "6\n") == 0);
	for (size_t i = 0; i < JSONL_QUARANTINE_GATHERS; i++)
		q->table.gathers[i].since -= JSONL_QUARANTINE_GATHER_SECONDS + 1;
	CHECK(gather(q, "big", "x", 1, -1, "7\n", name) == 0 && strcmp(name, first) != 0);
	/* It goes on after stock was taken. */
	CHECK(jsonl_quarantine_settle(q) == 0);
	CHECK(gather(q, "big", "x", 1, -1, "8\n", first) == 0 &&
	      strcmp(name, first) == 0);
	CHECK(strcmp(content(name), "7\n8\n") == 0);
	CHECK(check_index(&other) && other == 0);
	check_usage(q);
	jsonl_quarantine_free(q);
}

/* A thousand lines of one program are one entry, and as many events. */
static void test_flood(void)
{
	char text[32], name[JSONL_QUARANTINE_NAME];
	struct jsonl_quarantine *q;
	uint64_t used;

	new_state();
	q = start(64 * MIB);
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "line %d\n", i);
		CHECK(gather(q, "p", "x", 1, -1, text, name) == 0);
	}
	CHECK(count_files() == 1 && stat_of(name).st_size == 8890);
	CHECK(lines_of("refused") == 1000 && lines_of("joined") == 0);
	check_usage(q);
	/* Dropped it leaves nothing. */
	used = bytes_of(q);
	CHECK(used == 3 * 4096 + strlen(content(NULL)));
	CHECK(jsonl_quarantine_drop(q, name) == 0 && jsonl_quarantine_settle(q) == 0);
	CHECK(bytes_of(q) == 0 && strlen(content(NULL)) == 0);
	jsonl_quarantine_free(q);
}

/* The rest of a record in many pieces is one line of the index when it is written anew.
 */
static void test_joins_become_one(void)
{
	struct iovec rest = {(void *)"rest", 4};
	char name[JSONL_QUARANTINE_NAME];
	struct jsonl_quarantine *q;

	new_state();
	q = start(64 * MIB);
	CHECK(put_text(q, "x", "begin", name) == 0);
	for (int i = 0; i < 50; i++)
		CHECK(jsonl_quarantine_join(q, name, &rest, 1, false) == 0);
	CHECK(lines_of("joined") == 50);
	check_usage(q);
	CHECK(jsonl_quarantine_settle(q) == 0);
	CHECK(lines_of("refused") == 1 && lines_of("joined") == 1);
	CHECK(strstr(content(NULL), "\"bytes\":200,"), "%s", content(NULL));
	check_usage(q);
	jsonl_quarantine_free(q);
}

static void fill_numbered(struct jsonl_quarantine *q, unsigned n, bool drop)
{
	char text[32], name[JSONL_QUARANTINE_NAME];

	for (unsigned i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "entry %u of %u", i, n);
		CHECK(put(q, "x", text, strlen(text), 1001, name) == 0);
		if (drop)
			CHECK(jsonl_quarantine_drop(q, name) == 0);
	}
}

/* What was dropped is out of the index, and counts no more. */
static void test_drop_helps(void)
{
	char kept[JSONL_QUARANTINE_NAME];
	struct jsonl_quarantine *q;
	unsigned other = 0;

	new_state();
	q = start(64 * MIB);
	CHECK(put_text(q, "x", "kept", kept) == 0);
	fill_numbered(q, 100, true);
	CHECK(lines_of("refused") == 101);
	CHECK(jsonl_quarantine_settle(q) == 0);
	CHECK(lines_of("refused") == 1 && strstr(content(NULL), kept));
	CHECK(bytes_of(q) == 4096 + strlen(content(NULL)));
	CHECK(check_index(&other) == 1 && other == 0);
	CHECK(faccessat(state_fd, "quarantine.jsonl.new", F_OK, 0) < 0);
	/* And it is gone on with. */
	CHECK(put_text(q, "x", "more", NULL) == 0);
	CHECK(check_index(&other) == 2);
	check_usage(q);
	jsonl_quarantine_free(q);
}

/* A share that is full of lines alone is room again without anybody's drop. */
static void test_lines_are_charged(void)
{
	char text[32], name[JSONL_QUARANTINE_NAME];
	struct jsonl_quarantine *q;
	unsigned number = 0;

	new_state();
	q = start(1 * MIB);
	for (int round = 0; round < 6; round++) {
		int rc = 0;

		/* Each entry is removed behind our back at once, its line stays. */
		while (rc == 0 && number < 10000) {
			snprintf(text, sizeof(text), "%u", number++);
			rc = put(q, "x", text, strlen(text), 1001, name);
			if (rc == 0)
				CHECK(jsonl_quarantine_drop(q, name) == 0);
			q->last_recount = jsonl_quarantine_seconds();
		}
		CHECK(rc == -ENOSPC, "%d", rc);
		q->last_recount -= 3600;
		CHECK(put(q, "x", "room", 4, 1001, name) == 0);
		CHECK(jsonl_quarantine_drop(q, name) == 0);
	}
	CHECK(lines_of("refused") < 300, "%u of %u", lines_of("refused"), number);
	CHECK(put(q, "x", "last", 4, 1001, name) == 0);
	q->last_recount = 0;
	CHECK(jsonl_quarantine_refresh(q) && q->table.shares.count == 1);
	CHECK(q->table.shares.list[0].bytes == 4096 + strlen(content(NULL)));
	jsonl_quarantine_free(q);
}

/* An index that is mostly of what is gone is written anew by a start. */
static void test_start_compacts(void)
{
	struct jsonl_quarantine *q;
	unsigned other = 0;
	int fd;

	new_state();
	q = start(64 * MIB);
	CHECK(put_text(q, "x", "kept", NULL) == 0);
	fill_numbered(q, 400, true);
	jsonl_quarantine_free(q);
	/* Also torn and foreign lines, and what one left behind who died at it. */
	fd = openat(state_fd, "quarantine.jsonl", O_WRONLY | O_APPEND | O_CLOEXEC);
	CHECK(write(fd, "{\"file\":1}\nnothing\n{\"half", 25) == 25);
	close(fd);
	close(openat(state_fd, "quarantine.jsonl.new", O_WRONLY | O_CREAT | O_CLOEXEC,
		     0600));
	q = start(64 * MIB);
	/* The half line may be one that somebody is just writing. */
	CHECK(check_index(&other) == 1 && other == 1, "%u", other);
	CHECK(faccessat(state_fd, "quarantine.jsonl.new", F_OK, 0) < 0);
	check_usage(q);
	jsonl_quarantine_free(q);
}

/* Every call of a new index fails, or is the last of its process. */
static void test_compaction_fails(bool dead)
{
	unsigned failed = 0;

	for (int at = 1;; at++) {
		char kept[JSONL_QUARANTINE_NAME];
		struct jsonl_quarantine *q;
		unsigned other = 0;
		bool reached;

		new_state();
		faulty_reset(0, 0, false);
		q = start(64 * MIB);
		CHECK(put_text(q, "x", "kept", kept) == 0);
		fill_numbered(q, 20, true);
		faulty_reset(at, -EIO, dead);
		failed += jsonl_quarantine_settle(q) < 0;
		reached = faulty.calls >= at;
		faulty_reset(0, 0, false);
		if (dead) {
			jsonl_quarantine_free(q);
			q = start(64 * MIB);
		}
		CHECK(content(NULL) && strstr(content(NULL), kept), "call %d", at);
		CHECK(put_text(q, "x", "after", NULL) == 0);
		CHECK(jsonl_quarantine_settle(q) == 0);
		CHECK(check_index(&other) == 2 && other == 0, "call %d", at);
		check_usage(q);
		jsonl_quarantine_free(q);
		if (!reached)
			break;
	}
	CHECK(failed >= 2, "%u", failed);
}

static void *put_many(void *arg)
{
	struct jsonl_quarantine *q = arg;
	char text[32];

	for (int i = 0; i < 200; i++) {
		snprintf(text, sizeof(text), "%p %d", arg, i);
		CHECK(put(q, "x", text, strlen(text), 1, NULL) == 0);
	}
	return NULL;
}

/* ---- a client of a file system of several hosts, which believes the size that it was
 * last told and appends there ---- */

static _Atomic off_t believed[1024]; /* by descriptor */

static int believing_openat(const struct jsonl_io *io, int dir, const char *name,
			    int flags, mode_t mode)
{
	int fd =
	    jsonl_io_system.openat(io, dir, name, flags & ~O_APPEND, mode);
	struct stat st;

	if (fd >= 0 && fd < 1024)
		believed[fd] = fstat(fd, &st) == 0 ? st.st_size : 0;
	return fd;
}

static int believing_fstat(const struct jsonl_io *io, int fd, struct stat *st)
{
	int rc = jsonl_io_system.fstat(io, fd, st);

	if (rc == 0 && fd < 1024)
		believed[fd] = st->st_size;
	return rc;
}

static ssize_t believing_writev(const struct jsonl_io *io, int fd,
				const struct iovec *iov, int n)
{
	const struct timespec way = {.tv_nsec = 50000};
	ssize_t written;

	(void)io;
	nanosleep(&way, NULL); /* to the servers */
	written = pwritev(fd, iov, n, believed[fd]);
	if (written > 0)
		believed[fd] += written;
	return written < 0 ? -errno : written;
}

/* Another process makes the index in the moment after this one has not found it. */
static int late_openat(const struct jsonl_io *io, int dir, const char *name, int flags,
		       mode_t mode)
{
	if ((flags & O_EXCL) && strcmp(name, "quarantine.jsonl") == 0)
		close(jsonl_io_system.openat(io, dir, name, flags, mode));
	return jsonl_io_system.openat(io, dir, name, flags, mode);
}

/* The disk is full in the middle of a line, and another process has appended by then. */
static ssize_t full_writev(const struct jsonl_io *io, int fd, const struct iovec *iov,
			   int n)
{
	static bool begun;
	struct iovec half = {.iov_base = iov[0].iov_base, .iov_len = 10};
	int other;

	if (jsonl_iov_length(iov, n) < 20)
		return jsonl_io_system.writev(io, fd, iov, n);
	begun = !begun;
	if (begun)
		return jsonl_io_system.writev(io, fd, &half, 1);
	other = openat(state_fd, "quarantine.jsonl", O_WRONLY | O_APPEND | O_CLOEXEC);
	CHECK(write(other, "\n{\"other\":1}\n", 14) == 14);
	close(other);
	return -ENOSPC;
}

static void test_a_failed_line_cuts_no_other(void)
{
	struct jsonl_io full = jsonl_io_system;
	struct jsonl_quarantine *q;
	const char *index;

	new_state();
	full.writev = full_writev;
	CHECK(jsonl_quarantine_new(&full, state_fd, 64 * MIB, &q) == 0);
	CHECK(put_text(q, "x", "one", NULL) == -ENOSPC);
	index = content(NULL);
	CHECK(index && strstr(index, "{\"other\":1}\n"), "%s", index);
	jsonl_quarantine_free(q);
}

static void test_both_begin(void)
{
	struct jsonl_io late = jsonl_io_system;
	struct jsonl_quarantine *q;

	new_state();
	late.openat = late_openat;
	CHECK(jsonl_quarantine_new(&late, state_fd, 64 * MIB, &q) == 0);
	CHECK(put_text(q, "x", "one", NULL) == 0);
	jsonl_quarantine_free(q);
}

/* A tool and a mount on one directory: no line is lost while the other one writes the
 * index anew. */
static void test_two(const struct jsonl_io *io, bool shared)
{
	struct jsonl_quarantine *q[2];
	pthread_t threads[2];
	unsigned lines, other = 0;

	new_state();
	for (int i = 0; i < 2; i++) {
		CHECK(jsonl_quarantine_new(io, state_fd, 64 * MIB, &q[i]) == 0);
		if (shared)
			jsonl_quarantine_share(q[i]);
	}
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&threads[i], NULL, put_many, q[i]) == 0);
	for (int i = 0; i < 50; i++) {
		char name[JSONL_QUARANTINE_NAME], text[32];

		snprintf(text, sizeof(text), "drop %d", i);
		CHECK(put_text(q[i % 2], "y", text, name) == 0);
		CHECK(jsonl_quarantine_drop(q[i % 2], name) == 0);
		CHECK(jsonl_quarantine_settle(q[i % 2]) == 0);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CHECK(count_files() == 400);
	CHECK(jsonl_quarantine_settle(q[0]) == 0);
	lines = check_index(&other);
	CHECK(lines >= 400 && other == 0, "%u, %u", lines, other);
	for (int i = 0; i < 2; i++)
		jsonl_quarantine_free(q[i]);
}

int main(void)
{
	struct jsonl_io believing = jsonl_io_system;

	if (!rig_begin("test_quarantine_index"))
		return check_done();
	test_gather();
	test_flood();
	test_joins_become_one();
	test_drop_helps();
	test_lines_are_charged();
	test_start_compacts();
	test_compaction_fails(false);
	test_compaction_fails(true);
	faulty_reset(0, 0, false);
	test_both_begin();
	test_a_failed_line_cuts_no_other();
	test_two(&jsonl_io_system, false);
	believing.openat = believing_openat;
	believing.fstat = believing_fstat;
	believing.writev = believing_writev;
	test_two(&believing, true);
	return rig_end();
}
