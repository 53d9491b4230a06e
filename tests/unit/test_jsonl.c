/* SPDX-License-Identifier: MIT */
/* What programs get from libjsonl, over real files. */
#include "jsonl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "check.h"

static const struct timespec long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

static void lay_down(const char *name, const void *bytes, size_t len)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	CHECK(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
	CHECK(futimens(fd, long_ago) == 0);
	close(fd);
}

static bool holds(const char *name, const char *want)
{
	static char buf[1 << 16];
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, buf, sizeof(buf));

	close(fd);
	return n == (ssize_t)strlen(want) && memcmp(buf, want, (size_t)n) == 0;
}

/* Files whose names begin so; the last one's name in *name. */
static int count_files(const char *prefix, char name[256])
{
	DIR *dir = opendir(".");
	const struct dirent *e;
	int n = 0;

	while ((e = readdir(dir))) {
		if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
			continue;
		n++;
		if (name)
			(void)snprintf(name, 256, "%s", e->d_name);
	}
	closedir(dir);
	return n;
}

/* ---- records of a damaged file ---- */

#define ROW(text, want)                                                                  \
	{                                                                                \
		(text), sizeof(text) - 1, (want)                                         \
	}

static const struct {
	const char *text;
	size_t len;
	const char *want; /* DATA@LINE:OFFSET, or VERDICT+LENGTH@LINE:OFFSET */
} table[] = {
    ROW("", ""),
    ROW("\n \n\n", ""),
    ROW("{}\n[1]\r\n", "{}@1:0 [1]\r@2:3 "),
    ROW("{}\n\n[1]", "{}@1:0 [1]@3:4 "),
    ROW("bad\n{}\n", "bad-literal+3@1:0 {}@2:4 "),
    ROW("{}\n{\"a\"", "{}@1:0 incomplete+4@2:3 "),
    ROW("{\"a\":1}{\"b\":2}[3]\n{}\n", "{\"a\":1}@1:0 {\"b\":2}@1:7 [3]@1:14 {}@2:18 "),
    ROW("{\"a\":1}{\"b\":2\n{}\n", "fused+13@1:0 {}@2:14 "),
    ROW("{}\0\0\0{}\n", "{}@1:0 nul+3@1:2 {}@1:5 "),
    ROW("\0\0\n1\n", "nul+2@1:0 1@2:3 "),
    ROW("12\0\n", "incomplete+2@1:0 nul+1@1:2 "),
    ROW("\0 12\n3\n", "nul+1@1:0 incomplete+3@1:1 3@2:5 "),
    ROW("1\n23", "1@1:0 incomplete+2@2:2 "),
    ROW("{\"a\":\0\0 \0}\n", "incomplete+5@1:0 nul+2@1:5 nul+1@1:8 unexpected+1@1:9 "),
    ROW("{\"a\":\"\xff\"}\n", "bad-utf8+9@1:0 "),
};

static void show(char *seen, size_t size, const char *name)
{
	struct jsonl_records *it = NULL;
	struct jsonl_record rec;
	size_t n = 0;

	seen[0] = '\0';
	if (!CHECK(jsonl_records_open(name, &it) == 0))
		return;
	for (;;) {
		int rc = jsonl_records_next(it, &rec);

		if (!CHECK(rc >= 0) || !rec.data)
			break;
		if (rc == 0)
			n += (size_t)snprintf(seen + n, size - n, "%.*s", (int)rec.len,
					      rec.data);
		else
			n += (size_t)snprintf(seen + n, size - n, "%s+%zu",
					      jsonl_error_name(rc), rec.len);
		n += (size_t)snprintf(seen + n, size - n, "@%llu:%llu ",
				      (unsigned long long)rec.line,
				      (unsigned long long)rec.offset);
	}
	/* The end stays the end. */
	CHECK(jsonl_records_next(it, &rec) == 0 && !rec.data);
	jsonl_records_close(it);
}

static void test_records(void)
{
	struct jsonl_records *it;
	char seen[4096];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		lay_down("r.jsonl", table[i].text, table[i].len);
		show(seen, sizeof(seen), "r.jsonl");
		CHECK(strcmp(seen, table[i].want) == 0, "row %zu: %s", i, seen);
	}
	CHECK(jsonl_records_open("absent", &it) == -ENOENT);
	CHECK(jsonl_records_open(".", &it) == -EISDIR);
	jsonl_records_close(NULL);
}

/* Longer than every buffer: records over its joints, and lines that are no lines. */
static void test_long_lines(void)
{
	const size_t max = 16u << 20, len = 40u << 20;
	struct jsonl_records *it;
	struct jsonl_record rec;
	char *text = malloc(len);
	size_t sum = 0, line = 0;
	int rc;

	if (!CHECK(text))
		return;
	memset(text, 'x', len);
	memcpy(text, "{}\n\"", 4);
	memcpy(text + max, "\"\n", 2);		    /* 16 MiB - 3: a record */
	memcpy(text + len - 10, "\n\"last\"\n", 8); /* far more: none */
	text[len - 2] = text[len - 1] = '\n';
	lay_down("long.jsonl", text, len);
	CHECK(jsonl_records_open("long.jsonl", &it) == 0);
	CHECK(jsonl_records_next(it, &rec) == 0 && rec.len == 2);
	CHECK(jsonl_records_next(it, &rec) == 0 && rec.len == max - 2 && rec.line == 2);
	while ((rc = jsonl_records_next(it, &rec)) == JSONL_TOO_LONG) {
		sum += rec.len;
		line = rec.line;
	}
	CHECK(sum == len - 10 - max - 2 && line == 3, "%zu of line %zu", sum, line);
	CHECK(rc == 0 && rec.len == 6 && memcmp(rec.data, "\"last\"", 6) == 0 &&
	      rec.line == 4 && rec.offset == len - 9);
	CHECK(jsonl_records_next(it, &rec) == 0 && !rec.data);
	jsonl_records_close(it);
	free(text);
	unlink("long.jsonl");
}

/* ---- appending ---- */

static void test_append(void)
{
	struct jsonl_log *log;
	struct stat st;
	char *big;

	(void)umask(027);
	CHECK(jsonl_open("a.jsonl", 0666, &log) == 0);
	CHECK(stat("a.jsonl", &st) == 0 && (st.st_mode & 0777) == 0640);
	CHECK(jsonl_append(log, "{\"a\":1}", 7) == 0 && jsonl_sync(log) == 0);
	CHECK(jsonl_append(log, "{\"a\":1", 6) == JSONL_INCOMPLETE);
	CHECK(jsonl_append(log, "1\n2", 3) > 0);
	big = malloc(16u << 20);
	if (CHECK(big)) {
		memset(big, ' ', 16u << 20);
		big[0] = '1';
		CHECK(jsonl_append(log, big, 16u << 20) == JSONL_TOO_LONG);
	}
	free(big);
	CHECK(holds("a.jsonl", "{\"a\":1}\n"));
	/* It follows its name: rotated, replaced, removed. */
	CHECK(rename("a.jsonl", "a.jsonl.1") == 0);
	CHECK(jsonl_append(log, "2", 1) == 0);
	CHECK(holds("a.jsonl", "2\n") && holds("a.jsonl.1", "{\"a\":1}\n"));
	CHECK(stat("a.jsonl", &st) == 0 && (st.st_mode & 0777) == 0640);
	CHECK(jsonl_replace_file("a.jsonl", "0\n", 2, 0600) == 0);
	CHECK(jsonl_append(log, "3", 1) == 0 && holds("a.jsonl", "0\n3\n"));
	CHECK(unlink("a.jsonl") == 0);
	CHECK(jsonl_append(log, "4", 1) == 0 && jsonl_sync(log) == 0);
	CHECK(holds("a.jsonl", "4\n"));
	jsonl_close(log);
	jsonl_close(NULL);
	CHECK(jsonl_append_record("a.jsonl", "5", 1) == 0 && holds("a.jsonl", "4\n5\n"));
	CHECK(jsonl_append_record("absent/a.jsonl", "5", 1) == -ENOENT);
	CHECK(jsonl_open(".", 0666, &log) < 0);
}

/* A file whose end nobody can judge is moved away, and its log goes on in a new one. */
static void test_append_behind_a_file_that_was_moved_away(void)
{
	struct jsonl_log *log;
	int fd;

	CHECK(jsonl_open("b.jsonl", 0666, &log) == 0 && jsonl_append(log, "1", 1) == 0);
	fd = open("b.jsonl", O_WRONLY | O_APPEND | O_CLOEXEC);
	CHECK(write(fd, "at\nall", 6) == 6);
	close(fd);
	CHECK(jsonl_append(log, "2", 1) == JSONL_UNKNOWN_TAIL);
	CHECK(rename("b.jsonl", "b.jsonl.1") == 0);
	CHECK(jsonl_append(log, "2", 1) == 0 && holds("b.jsonl", "2\n"));
	CHECK(holds("b.jsonl.1", "1\nat\nall"));
	jsonl_close(log);
}

/* With `n` descriptors free. */
static int open_with(int n, struct jsonl_log **log)
{
	struct rlimit all, few;
	int next = open(".", O_RDONLY | O_CLOEXEC), rc;

	close(next);
	CHECK(getrlimit(RLIMIT_NOFILE, &all) == 0);
	few = (struct rlimit){.rlim_cur = (rlim_t)(next + n), .rlim_max = all.rlim_max};
	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	rc = jsonl_open("e.jsonl", 0666, log);
	CHECK(setrlimit(RLIMIT_NOFILE, &all) == 0);
	return rc;
}

/* A log whose directory nobody could sync is none that jsonl_sync may answer for. */
static void test_few_descriptors(void)
{
	struct jsonl_log *log = NULL;

	for (int n = 0; n < 4; n++) {
		CHECK(open_with(n, &log) == -EMFILE, "%d descriptors", n);
		(void)unlink("e.jsonl");
	}
	CHECK(open_with(4, &log) == 0);
	jsonl_close(log);
}

static void *hold_lock(void *arg)
{
	int fd = open("l.jsonl", O_RDWR | O_APPEND | O_CLOEXEC);
	const struct timespec while_held = {.tv_nsec = 300 * 1000000L};

	bool good = flock(fd, LOCK_EX) == 0;

	pthread_barrier_wait(arg);
	nanosleep(&while_held, NULL);
	/* As others do: the lock is held while the record is appended. */
	good = good && write(fd, "\"theirs\"\n", 9) == 9;
	close(fd);
	return good ? arg : NULL;
}

static void test_lock(void)
{
	pthread_barrier_t held;
	pthread_t thread;
	void *good;

	lay_down("l.jsonl", "", 0);
	pthread_barrier_init(&held, NULL, 2);
	pthread_create(&thread, NULL, hold_lock, &held);
	pthread_barrier_wait(&held);
	CHECK(jsonl_append_record("l.jsonl", "\"ours\"", 6) == 0);
	pthread_join(thread, &good);
	CHECK(good);
	pthread_barrier_destroy(&held);
	CHECK(holds("l.jsonl", "\"theirs\"\n\"ours\"\n"));
}

static void *hold_and_move(void *arg)
{
	int fd = open("w.jsonl", O_RDWR | O_CLOEXEC);
	const struct timespec while_held = {.tv_nsec = 300 * 1000000L};
	bool good = flock(fd, LOCK_EX) == 0;

	pthread_barrier_wait(arg);
	nanosleep(&while_held, NULL);
	good = good && rename("w.jsonl", "w.jsonl.1") == 0;
	close(fd);
	return good ? arg : NULL;
}

/* It makes no file in the place of one that was moved away meanwhile. */
static void test_repair_tail_and_a_rotation(void)
{
	pthread_barrier_t held;
	pthread_t thread;
	void *good;

	lay_down("w.jsonl", "{}\n", 3);
	pthread_barrier_init(&held, NULL, 2);
	pthread_create(&thread, NULL, hold_and_move, &held);
	pthread_barrier_wait(&held);
	CHECK(jsonl_repair_tail("w.jsonl") == -ENOENT);
	pthread_join(thread, &good);
	CHECK(good && access("w.jsonl", F_OK) < 0);
	pthread_barrier_destroy(&held);
}

static void test_repair_tail(void)
{
	char name[256];

	lay_down("t.jsonl", "{}\n{\"to", 7);
	CHECK(jsonl_repair_tail("t.jsonl") == 0 && holds("t.jsonl", "{}\n"));
	CHECK(count_files("t.jsonl.torn-", name) == 1 && holds(name, "{\"to"));
	CHECK(jsonl_repair_tail("t.jsonl") == 0 && holds("t.jsonl", "{}\n"));
	lay_down("u.jsonl", "{}\n[1]", 6);
	CHECK(jsonl_repair_tail("u.jsonl") == 0 && holds("u.jsonl", "{}\n[1]\n"));
	lay_down("v.jsonl", "not JSON\nat all", 15);
	CHECK(jsonl_repair_tail("v.jsonl") == JSONL_UNKNOWN_TAIL);
	CHECK(holds("v.jsonl", "not JSON\nat all"));
	CHECK(jsonl_repair_tail("absent.jsonl") == -ENOENT &&
	      access("absent.jsonl", F_OK));
	CHECK(count_files("u.jsonl.torn-", NULL) + count_files("v.jsonl.torn-", NULL) ==
	      0);
}

/* ---- whole files ---- */

static void test_replace(void)
{
	struct stat st;

	CHECK(jsonl_replace_file("d.json", "{\"v\":1}\n", 8, 0666) == 0);
	CHECK(holds("d.json", "{\"v\":1}\n"));
	CHECK(stat("d.json", &st) == 0 && (st.st_mode & 07777) == 0640); /* umask 027 */
	CHECK(chmod("d.json", 0604) == 0 &&
	      utimensat(AT_FDCWD, "d.json", long_ago, 0) == 0);
	CHECK(symlink("d.json", "link.json") == 0);
	CHECK(jsonl_replace_file("link.json", "2\n", 2, 0666) == 0);
	CHECK(lstat("link.json", &st) == 0 && S_ISLNK(st.st_mode) &&
	      holds("d.json", "2\n"));
	CHECK(stat("d.json", &st) == 0 && (st.st_mode & 07777) == 0604);
	CHECK(st.st_mtim.tv_sec > 1, "the time of the old content");
	CHECK(jsonl_replace_file("d.json", "", 0, 0) == 0 && holds("d.json", ""));
	CHECK(jsonl_replace_file("absent/d.json", "1", 1, 0666) == -ENOENT);
	CHECK(mkdir("dir.json", 0700) == 0);
	CHECK(jsonl_replace_file("dir.json", "1", 1, 0666) == -EISDIR);
	CHECK(count_files(".", NULL) == 2, "temporary files are left"); /* . and .. */
}

static void test_load(void)
{
	char *text, *aside;
	size_t len;

	CHECK(jsonl_load("s.json", "{}", &text, &len, &aside) == 0);
	CHECK(text && strcmp(text, "{}") == 0 && len == 2 && !aside);
	free(text);
	lay_down("s.json", "{\n  \"a\": [1]\n}\n", 15);
	CHECK(jsonl_load("s.json", "{}", &text, &len, NULL) == 0);
	CHECK(text && strcmp(text, "{\n  \"a\": [1]\n}\n") == 0 && len == 15);
	free(text);
	lay_down("s.json", "{\"a\":", 5);
	CHECK(jsonl_load("./s.json", "[]", &text, NULL, &aside) == JSONL_INCOMPLETE);
	CHECK(text && strcmp(text, "[]") == 0);
	CHECK(aside && strstr(aside, "/s.json.bad-2") && holds(aside, "{\"a\":"), "%s",
	      aside);
	CHECK(access("s.json", F_OK) < 0);
	free(text);
	free(aside);
	lay_down("s.json", "", 0);
	CHECK(jsonl_load("s.json", "null", &text, NULL, NULL) == JSONL_BLANK);
	CHECK(text && strcmp(text, "null") == 0 && count_files("s.json.bad-", NULL) == 2);
	free(text);
	CHECK(jsonl_load(".", "{}", &text, NULL, NULL) == -EISDIR && !text);
	CHECK(jsonl_load("absent/s.json", "{}", &text, NULL, NULL) == -ENOENT && !text);
}

/* ---- threads ---- */

#define THREADS 4
#define RECORDS 300

struct appender {
	struct jsonl_log *log;
	int number;
};

static void *append_many(void *arg)
{
	const struct appender *a = arg;

	for (int i = 0; i < RECORDS; i++) {
		char record[64];
		int len = snprintf(record, sizeof(record), "[%d,%d]", a->number, i);

		if (jsonl_append(a->log, record, (size_t)len) ||
		    (i % 10 == 0 && jsonl_sync(a->log)))
			return NULL;
	}
	return arg;
}

/* Every record of every thread once, in its order, whatever file it went to. */
static void count_records(const char *name, int next[THREADS])
{
	struct jsonl_records *it;
	struct jsonl_record rec;
	int n, i;

	CHECK(jsonl_records_open(name, &it) == 0);
	while (jsonl_records_next(it, &rec) == 0 && rec.data) {
		char text[64];

		(void)snprintf(text, sizeof(text), "%.*s", (int)rec.len, rec.data);
		/* NOLINTNEXTLINE(cert-err34-c): counted below */
		if (!CHECK(sscanf(text, "[%d,%d]", &n, &i) == 2 && n < THREADS))
			break;
		CHECK(next[n] == i, "%s: thread %d: %d, not %d", name, n, i, next[n]);
		next[n] = i + 1;
	}
	CHECK(!rec.data);
	jsonl_records_close(it);
}

/* Two logs of one file, each shared by two threads, while it is rotated by rename. */
static void test_threads(void)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000000L};
	struct appender appenders[THREADS];
	pthread_t threads[THREADS];
	int next[THREADS] = {0}, rotated = 0;
	struct jsonl_log *logs[2];
	char name[32];
	void *good;

	CHECK(jsonl_open("m.jsonl", 0666, &logs[0]) == 0);
	CHECK(jsonl_open("./m.jsonl", 0666, &logs[1]) == 0);
	for (int i = 0; i < THREADS; i++) {
		appenders[i] = (struct appender){logs[i % 2], i};
		pthread_create(&threads[i], NULL, append_many, &appenders[i]);
	}
	for (; rotated < 5; rotated++) {
		nanosleep(&pause, NULL);
		(void)snprintf(name, sizeof(name), "m.jsonl.%d", rotated);
		if (rename("m.jsonl", name) < 0)
			break; /* nobody has appended since */
	}
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], &good) == 0 && good);
	jsonl_close(logs[0]);
	jsonl_close(logs[1]);
	CHECK(rotated > 0);
	for (int i = 0; i < rotated; i++) {
		(void)snprintf(name, sizeof(name), "m.jsonl.%d", i);
		count_records(name, next);
	}
	if (access("m.jsonl", F_OK) == 0)
		count_records("m.jsonl", next);
	for (int i = 0; i < THREADS; i++)
		CHECK(next[i] == RECORDS, "thread %d: %d", i, next[i]);
}

#define RENAMES 20 /* during one append: without a bound it may have no turn */

/* Until `rounds` is negative. */
static void *rename_often(void *arg)
{
	const struct timespec pause = {.tv_nsec = 20000};
	const atomic_int *rounds = arg;
	int round, before = -1, renamed = 0;

	while ((round = *rounds) >= 0) {
		if (round != before)
			renamed = 0;
		before = round;
		if (renamed++ < RENAMES)
			(void)rename("n.jsonl", "n.jsonl.1");
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/* A log that is moved away at any moment, between two calls of one append, too. Two logs of
 * the name, as one of them may then find the file that the other has made. */
static void test_a_rotation_at_any_moment(void)
{
	static atomic_int rounds;
	struct jsonl_log *logs[2];
	pthread_t rotates;
	int failed = 0;

	CHECK(jsonl_open("n.jsonl", 0666, &logs[0]) == 0);
	CHECK(jsonl_open("n.jsonl", 0666, &logs[1]) == 0);
	pthread_create(&rotates, NULL, rename_often, &rounds);
	for (int i = 0; i < 2000 && !failed; i++, rounds++) {
		struct jsonl_log *once;

		failed = jsonl_append(logs[i % 2], "1", 1);
		if (!failed)
			failed = jsonl_open("n.jsonl", 0666, &once);
		if (!failed)
			jsonl_close(once);
	}
	CHECK(!failed, "%s", jsonl_message(failed));
	rounds = -1;
	pthread_join(rotates, NULL);
	jsonl_close(logs[0]);
	jsonl_close(logs[1]);
}

int main(void)
{
	const char *tmp = getenv("TMPDIR");
	char dir[256], command[300];

	(void)snprintf(dir, sizeof(dir), "%s/test-jsonl-XXXXXX", tmp ? tmp : "/tmp");
	if (!CHECK(mkdtemp(dir) && chdir(dir) == 0))
		return check_done();
	test_records();
	test_long_lines();
	test_append();
	test_append_behind_a_file_that_was_moved_away();
	test_few_descriptors();
	test_lock();
	test_repair_tail_and_a_rotation();
	test_repair_tail();
	test_replace();
	test_load();
	test_threads();
	test_a_rotation_at_any_moment();
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	CHECK(chdir("/") == 0 && system(command) == 0);
	return check_done();
}
