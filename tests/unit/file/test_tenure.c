/* SPDX-License-Identifier: MIT */
/* The lock of a log between hosts: what is asked and made durable between the moment it
 * is had and the moment it is let go of. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/stamp.h"
#include "check.h"
#include "file/file.h"
#include "file/file_internal.h"

static char dir[] = "/tmp/test_tenure.XXXXXX";
static int dir_fd;
static struct jsonl_io io;
static char calls[256]; /* a letter for each: Lock Stat Write sYnc Unlock Drop Open */
static int write_fails, sync_fails, sync_takes /* ms */, timers, turns;
static unsigned late_ms, lost_locks;
static off_t lost_from;
static uint64_t lost_length;
static _Atomic bool shared = true;

static void note(char call)
{
	size_t n = strlen(calls);

	CHECK(n + 1 < sizeof(calls));
	calls[n] = call;
	calls[n + 1] = '\0';
}

static int spy_trylock(const struct jsonl_io *own, int fd)
{
	note('L');
	return jsonl_io_system.trylock(own, fd);
}

static int spy_unlock(const struct jsonl_io *own, int fd)
{
	note('U');
	return jsonl_io_system.unlock(own, fd);
}

static int spy_fstat(const struct jsonl_io *own, int fd, struct stat *st)
{
	note('S');
	return jsonl_io_remote.fstat(own, fd, st);
}

static ssize_t spy_writev(const struct jsonl_io *own, int fd, const struct iovec *iov,
			  int n)
{
	note('W');
	return write_fails ? -write_fails : jsonl_io_system.writev(own, fd, iov, n);
}

static int spy_fdatasync(const struct jsonl_io *own, int fd)
{
	const struct timespec pause = {.tv_nsec = sync_takes * 1000000L};

	note('Y');
	nanosleep(&pause, NULL);
	return sync_fails ? -sync_fails : jsonl_io_system.fdatasync(own, fd);
}

static int spy_drop_cache(const struct jsonl_io *own, int fd, off_t off, off_t len)
{
	note('D');
	CHECK(off == 0 && len == 0, "all of it");
	return jsonl_io_system.drop_cache(own, fd, off, len);
}

static int spy_openat(const struct jsonl_io *own, int at, const char *name, int flags,
		      mode_t mode)
{
	note('O');
	return jsonl_io_system.openat(own, at, name, flags, mode);
}

static int set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
		     int niov, off_t at, uint64_t offset)
{
	return 0;
}

static void report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
	if (strcmp(event, "lock-lost"))
		return;
	lost_locks++;
	lost_from = at;
	lost_length = len;
}

static void count_timer(void *ctx)
{
	timers++;
}

static void count_turn(void *ctx)
{
	turns++;
}

static const struct jsonl_file_events lingering = {
    .set_aside = set_aside, .report = report, .tenure = count_timer, .turn = count_turn};
static const struct jsonl_file_events at_once = {.set_aside = set_aside,
						 .report = report};

static int open_log(int flags)
{
	return openat(dir_fd, "log", flags | O_CREAT | O_CLOEXEC, 0600);
}

static struct jsonl_file *again(const struct jsonl_file_events *events)
{
	const struct jsonl_file_options opt = {.maxrecord = 4096,
					       .maxdepth = 8,
					       .retain = true,
					       .shared = &shared,
					       .remote = true,
					       .late_ms = late_ms};
	struct jsonl_file *file;

	CHECK(jsonl_file_new(&io, open_log(O_RDONLY), &opt, events, NULL, &file) == 0);
	jsonl_file_set_append_fd(file, open_log(O_RDWR | O_APPEND), false);
	calls[0] = '\0';
	timers = turns = 0;
	return file;
}

static struct jsonl_file *begin(const struct jsonl_file_events *events)
{
	(void)unlinkat(dir_fd, "log", 0);
	return again(events);
}

static int append_for(struct jsonl_file *file, struct jsonl_file_user *user,
		      const char *line)
{
	const struct iovec iov = {.iov_base = (char *)line, .iov_len = strlen(line)};

	return jsonl_file_append(file, &iov, 1, user, NULL);
}

static int append(struct jsonl_file *file, const char *line)
{
	struct jsonl_file_user user = {0};

	return append_for(file, &user, line);
}

static void is_called(const char *wanted)
{
	CHECK(strcmp(calls, wanted) == 0, "%s, not %s", calls, wanted);
	calls[0] = '\0';
}

static void other_appends(const char *bytes)
{
	int fd = open_log(O_WRONLY | O_APPEND);

	CHECK(write(fd, bytes, strlen(bytes)) == (ssize_t)strlen(bytes));
	close(fd);
}

static bool is_locked(void)
{
	int fd = open_log(O_RDONLY);
	bool locked = flock(fd, LOCK_EX | LOCK_NB) < 0;

	close(fd);
	return locked;
}

static void pause_ms(int ms)
{
	const struct timespec pause = {.tv_nsec = ms * 1000000L};

	nanosleep(&pause, NULL);
}

static void past_tenure(void)
{
	pause_ms(JSONL_TENURE_MS + 5);
}

/* Returns true when the tenure has not ended, or may have: this has taken longer than it
 * may be idle. */
static bool goes_on(struct jsonl_file *file, int64_t since)
{
	bool ended = jsonl_file_tenure_finish(file);

	return !ended || jsonl_now_ms() - since >= JSONL_TENURE_IDLE_MS;
}

/* Without a timer each append has the lock for itself, and is durable before it is let
 * go. */
static void test_at_once(void)
{
	struct jsonl_file *file = begin(&at_once);

	CHECK(append(file, "1\n") == 0);
	is_called("LYSSDWYU");
	/* As this host has left it. */
	CHECK(append(file, "2\n") == 0);
	is_called("LYSSWYU");
	other_appends("3\n");
	CHECK(append(file, "4\n") == 0);
	is_called("LYSSDWYU");
	CHECK(jsonl_io_equals(&jsonl_io_system, jsonl_file_fd(file), "1\n2\n3\n4\n", 8,
			      0) == 1);
	jsonl_file_free(file);
}

/* One tenure serves all who append meanwhile, with one sync, and ends by the clock. */
static void test_lingering(void)
{
	struct jsonl_file *file = begin(&lingering);
	int64_t since = jsonl_now_ms();

	CHECK(append(file, "1\n") == 0 && append(file, "2\n") == 0);
	is_called("LYSSDWW");
	CHECK(timers == 1 && is_locked());
	CHECK(goes_on(file, since));
	pause_ms(JSONL_TENURE_IDLE_MS + 1);
	CHECK(jsonl_file_tenure_finish(file) && !is_locked());
	is_called("YU");
	/* The next append finds that it is over: others first. */
	CHECK(append(file, "3\n") == 0);
	past_tenure();
	CHECK(append(file, "4\n") == -EAGAIN && !is_locked());
	is_called("LYSSWYU");
	CHECK(append(file, "4\n") == 0 && is_locked());
	jsonl_file_free(file);
	CHECK(!is_locked());
}

/* Somebody who waits until it is durable does not end it: others of this host may follow.
 */
static void test_waiting(void)
{
	struct jsonl_file *file = begin(&lingering);
	struct jsonl_file_user user = {0};

	CHECK(append_for(file, &user, "1\n") == 0 && is_locked());
	CHECK(jsonl_file_sync(file, &user) == 0 && is_locked());
	is_called("LYSSDWY");
	pause_ms(JSONL_TENURE_IDLE_MS + 1);
	CHECK(jsonl_file_tenure_finish(file) && !is_locked());
	is_called("U");
	jsonl_file_free(file);
}

/* A sync that ends when the servers may have given the lock away is not believed; the
 * bytes are looked for before the next append. */
static void test_late(void)
{
	struct jsonl_file_user user = {0};
	struct jsonl_file *file;

	late_ms = 200;
	file = begin(&lingering);
	CHECK(append_for(file, &user, "1\n") == 0);
	sync_takes = 250;
	CHECK(jsonl_file_sync(file, &user) == -EIO && !is_locked());
	sync_takes = 0;
	is_called("LYSSDWYYUO");
	CHECK(lost_locks == 1 && lost_from == 0 && lost_length == 2);
	CHECK(append_for(file, &user, "2\n") == 0 && jsonl_file_sync(file, &user) == 0);
	CHECK(jsonl_io_equals(&jsonl_io_system, jsonl_file_fd(file), "1\n2\n", 4, 0) ==
	      1);
	jsonl_file_free(file);
	late_ms = 0;
}

/* After an error nothing more is written by that descriptor. */
static void test_errors(void)
{
	struct jsonl_file *file = begin(&lingering);
	struct jsonl_file_user user = {0};

	write_fails = EIO;
	CHECK(append(file, "1\n") == -EIO && !is_locked());
	is_called("LYSSDWUO");
	write_fails = 0;
	CHECK(append_for(file, &user, "2\n") == 0);
	sync_fails = EIO;
	CHECK(jsonl_file_sync(file, &user) == -EIO && !is_locked());
	sync_fails = 0;
	CHECK(strchr(calls, 'O') != NULL, "%s", calls);
	CHECK(append(file, "3\n") == 0);
	jsonl_file_free(file);
	/* Nor is anything written when the servers do not answer how long the file is. */
	file = begin(&lingering);
	sync_fails = EIO;
	CHECK(append(file, "1\n") == -EIO && !is_locked());
	sync_fails = 0;
	is_called("LYUO");
	CHECK(append(file, "1\n") == 0);
	jsonl_file_free(file);
}

static int moved(struct jsonl_file_user *user, const struct stat *st)
{
	*(struct stat *)user->ctx = *st;
	return -EAGAIN;
}

static void test_names(void)
{
	struct jsonl_file *file = begin(&at_once);
	struct stat st = {0};
	struct jsonl_file_user user = {.check = moved, .ctx = &st};

	CHECK(append_for(file, &user, "1\n") == -EAGAIN && st.st_nlink == 1 &&
	      !is_locked());
	CHECK(append(file, "1\n") == 0);
	unlinkat(dir_fd, "log", 0);
	CHECK(append(file, "2\n") == -ESTALE);
	shared = false;
	CHECK(append(file, "2\n") == 0);
	shared = true;
	jsonl_file_free(file);
}

/* While somebody waits in the queue for the lock, nobody else touches its descriptor. */
static void test_turns(void)
{
	struct jsonl_file *file = begin(&lingering);
	int other = open_log(O_RDONLY), fd;

	CHECK(flock(other, LOCK_EX) == 0);
	CHECK(append(file, "1\n") == -EAGAIN && turns == 1);
	fd = jsonl_file_turn_begin(file);
	CHECK(fd >= 0 && jsonl_file_turn_begin(file) == -1);
	CHECK(append(file, "1\n") == -EAGAIN && turns == 1);
	close(other);
	CHECK(flock(fd, LOCK_EX) == 0);
	jsonl_file_turn_end(file, true);
	CHECK(timers == 1 && append(file, "1\n") == 0 && is_locked());
	jsonl_file_free(file);
}

/* Returns true while there is a lock that a close(2) of any descriptor of the file ends.
 */
static bool has_record_lock(int fd)
{
	struct flock lock = {.l_type = F_WRLCK};

	CHECK(fcntl(fd, F_OFD_GETLK, &lock) == 0);
	return lock.l_type != F_UNLCK;
}

/* Between hosts the client is told that there is no more to come. */
static void test_unlock(void)
{
	int fd = open_log(O_RDWR | O_APPEND), other = open_log(O_RDWR);
	struct flock lock = {.l_type = F_WRLCK};

	CHECK(flock(fd, LOCK_EX) == 0 && is_locked());
	CHECK(fcntl(fd, F_SETLK, &lock) == 0 && has_record_lock(other));
	CHECK(jsonl_io_remote.unlock(&jsonl_io_remote, fd) == 0);
	CHECK(!has_record_lock(other) && !is_locked());
	CHECK(fcntl(fd, F_GETFD) >= 0);
	close(fd);
	close(other);
}

static ssize_t sound(struct jsonl_file *file, const char *bytes, size_t n, size_t want,
		     bool last)
{
	return jsonl_file_sound(file, bytes, n, want, 0, (off_t)want, last);
}

/* What a reader gets when pages are older than the length. */
static void test_reading(void)
{
	struct jsonl_file *file = begin(&at_once);
	off_t visible;

	CHECK(jsonl_file_visible(file, &visible) == 0 && visible == 0);
	other_appends("10\n20\n");
	CHECK(jsonl_file_visible(file, &visible) == 0 && visible == 6);
	calls[0] = '\0';
	CHECK(sound(file, "10\n20\n", 6, 6, false) == 6);
	is_called("");
	CHECK(jsonl_file_visible(file, &visible) == 0);
	is_called("S");
	/* Too few, a half, NULs: the pages are dropped and the length is looked at anew.
	 */
	CHECK(sound(file, "10\n2", 4, 6, false) == -EAGAIN);
	is_called("D");
	CHECK(jsonl_file_visible(file, &visible) == 0 && visible == 6);
	is_called("SD");
	CHECK(sound(file, "10\n20\0", 6, 6, false) == -EAGAIN);
	CHECK(sound(file, "10\n200", 6, 6, false) == -EAGAIN);
	/* That does not help: whole lines. */
	CHECK(sound(file, "10\n2", 4, 6, true) == 3);
	CHECK(sound(file, "10\n20\0", 6, 6, true) == 3);
	CHECK(sound(file, "\0\0\0\0\0\n", 6, 6, true) == 0);
	CHECK(sound(file, "", 0, 6, true) == 0);
	/* The end of a last value that has no newline is what it seems to be. */
	CHECK(sound(file, "10\n200", 6, 6, true) == 6);
	jsonl_file_free(file);
	/* NULs that were there at the first look are damage, which is shown. */
	(void)unlinkat(dir_fd, "log", 0);
	other_appends("10\n20\n");
	file = again(&at_once);
	CHECK(jsonl_file_visible(file, &visible) == 0 && visible == 6);
	CHECK(sound(file, "1\0\n20\n", 6, 6, false) == -EAGAIN);
	CHECK(sound(file, "1\0\n20\n", 6, 6, true) == 6);
	/* Without other hosts nothing is doubted. */
	shared = false;
	CHECK(sound(file, "1\0", 2, 6, false) == 2);
	shared = true;
	jsonl_file_free(file);
}

/* A call that one of the tables lacks would only be found by the first who makes it. */
static void test_tables(void)
{
	const struct jsonl_io *tables[] = {&jsonl_io_system, &jsonl_io_remote};

	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
		void (*members[sizeof(struct jsonl_io) / sizeof(void (*)(void))])(void);

		memcpy(members, tables[t], sizeof(members));
		for (size_t n = 0; n < sizeof(members) / sizeof(members[0]); n++)
			CHECK(members[n] != NULL);
	}
}

int main(void)
{
	CHECK(mkdtemp(dir) != NULL);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
	io = jsonl_io_system;
	io.trylock = spy_trylock;
	io.unlock = spy_unlock;
	io.fstat = spy_fstat;
	io.position = jsonl_io_remote.position;
	io.writev = spy_writev;
	io.fdatasync = spy_fdatasync;
	io.drop_cache = spy_drop_cache;
	io.openat = spy_openat;
	test_tables();
	test_at_once();
	test_lingering();
	test_waiting();
	test_late();
	test_errors();
	test_names();
	test_turns();
	test_unlock();
	test_reading();
	unlinkat(dir_fd, "log", 0);
	rmdir(dir);
	return check_done();
}
