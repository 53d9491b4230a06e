/* SPDX-License-Identifier: MIT */
/* Log lines: what they look like, who may write how many, and that no receiver, however
 * slow or gone, holds the daemon up. */
#include "base/syslog.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static int pipe_fd[2];
static int real_stderr;

/* Standard error becomes a pipe of which we hold the other end. */
static void capture(void)
{
	CHECK(pipe2(pipe_fd, O_CLOEXEC | O_NONBLOCK) == 0);
	CHECK(dup2(pipe_fd[1], STDERR_FILENO) == STDERR_FILENO);
	close(pipe_fd[1]);
}

static struct fs_syslog_counts counts(void)
{
	struct fs_syslog_counts c;

	fs_syslog_counts(&c);
	return c;
}

static char *captured(void)
{
	static char buf[1 << 17];
	size_t len = 0;
	ssize_t n;

	while ((n = read(pipe_fd[0], buf + len, sizeof(buf) - 1 - len)) > 0)
		len += (size_t)n;
	buf[len] = '\0';
	return buf;
}

static unsigned count_lines(const char *text, const char *begin)
{
	unsigned n = 0;

	for (const char *line = text; line && *line;
	     line = strchr(line, '\n'), line += !!line)
		n += strncmp(line, begin, strlen(begin)) == 0;
	return n;
}

#define NOBODY ((uid_t)-1)

static void test_format(void)
{
	char *text;

	FS_SYSLOG(LOG_WARNING, NOBODY, "refused", FS_STR("path", "audit.jsonl"),
		  FS_INT("offset", 4), FS_STR("none", NULL), FS_INT("low", INT64_MIN));
	text = captured();
	CHECK(strcmp(text, "refused path=\"audit.jsonl\" offset=4 none=\"\" "
			   "low=-9223372036854775808\n") == 0,
	      "%s", text);
	FS_SYSLOG(LOG_DEBUG, NOBODY, "quiet", FS_INT("n", 1));
	CHECK(captured()[0] == '\0');
	CHECK(fs_syslog_open("stderr", false, true) == 0);
	FS_SYSLOG(LOG_DEBUG, NOBODY, "loud", FS_INT("n", 1));
	CHECK(strcmp(captured(), "loud n=1\n") == 0);
	CHECK(fs_syslog_open("stderr", false, false) == 0);
}

static void test_escape(void)
{
	static const struct {
		const char *in, *out;
	} table[] = {
	    {"a\nrefused path=\"x\"", "\"a\\nrefused path=\\\"x\\\"\""},
	    {"\x1b[31m\x7f\t\r\\", "\"\\u001b[31m\\u007f\\t\\r\\\\\""},
	    {"\xc2\x9b", "\"\\u009b\""},			/* C1 */
	    {"\xe2\x80\xae\xe2\x81\xa6", "\"\\u202e\\u2066\""}, /* bidi */
	    {"\xe2\x80\xa8\xef\xbb\xbf", "\"\\u2028\\ufeff\""},
	    {"\xff\xc3", "\"\\ufffd\\ufffd\""},
	    {"\xc3\xa9\xf0\x9f\x98\x80", "\"\xc3\xa9\xf0\x9f\x98\x80\""},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char want[256], *text;

		FS_SYSLOG(LOG_INFO, NOBODY, "e", FS_STR("v", table[i].in));
		text = captured();
		snprintf(want, sizeof(want), "e v=%s\n", table[i].out);
		CHECK(strcmp(text, want) == 0, "row %zu: %s", i, text);
	}
}

/* However long the values are, a line is whole, quoted, and no longer than a pipe takes
 * at once. */
static void test_length(void)
{
	for (int fill = 0; fill < 3; fill++) {
		char big[8192], *text;
		size_t len;

		memset(big, fill == 0 ? 'x' : fill == 1 ? '\x01' : '"', sizeof(big));
		big[sizeof(big) - 1] = '\0';
		FS_SYSLOG(LOG_INFO, NOBODY, "long", FS_STR("a", big), FS_STR("b", big),
			  FS_STR("c", big), FS_STR("d", big), FS_STR("e", big),
			  FS_INT("f", 1), FS_STR("g", big));
		text = captured();
		len = strlen(text);
		CHECK(len <= 4096 && len > 3500 && text[len - 1] == '\n', "%zu", len);
		CHECK(strchr(text, '\n') == text + len - 1);
		CHECK(strncmp(text, "long a=\"", 8) == 0 && strstr(text, "...\" b=\""));
	}
}

static void pass(int milliseconds)
{
	const struct timespec t = {.tv_sec = milliseconds / 1000,
				   .tv_nsec = milliseconds % 1000 * 1000000L};

	nanosleep(&t, NULL);
}

/* A burst of 50 for each user and event; what is left out is counted and said. */
static void test_rate(void)
{
	uint64_t suppressed, before = counts().suppressed;
	char *text;

	for (int i = 0; i < 200; i++) {
		FS_SYSLOG(LOG_INFO, 1000, "flood", FS_INT("i", i));
		FS_SYSLOG(LOG_INFO, 1001, "flood", FS_INT("i", i));
		FS_SYSLOG(LOG_INFO, 1000, "other", FS_INT("i", i));
		FS_SYSLOG(LOG_INFO, NOBODY, "always", FS_INT("i", i));
	}
	text = captured();
	CHECK(count_lines(text, "flood ") >= 100 && count_lines(text, "flood ") <= 110);
	CHECK(count_lines(text, "other ") >= 50 && count_lines(text, "other ") <= 55);
	CHECK(count_lines(text, "always ") == 200);
	CHECK(strstr(text, "flood i=49\n") && !strstr(text, "flood i=190\n"));
	suppressed = counts().suppressed;
	CHECK(suppressed - before >= 430 && suppressed - before <= 450, "%llu",
	      (unsigned long long)(suppressed - before));

	/* Another uid's line, a while later, tells what those who fell silent had left
	 * out. */
	pass(1200);
	FS_SYSLOG(LOG_INFO, 1002, "later", FS_INT("i", 1));
	text = captured();
	CHECK(count_lines(text, "suppressed event=\"flood\" uid=1000 count=1") == 1, "%s",
	      text);
	CHECK(count_lines(text, "suppressed event=\"flood\" uid=1001 count=1") == 1);
	CHECK(count_lines(text, "suppressed event=\"other\" uid=1000 count=1") == 1);
	/* Said once. And by then each of them may write again. */
	pass(1100);
	FS_SYSLOG(LOG_INFO, 1000, "flood", FS_INT("i", 1000));
	text = captured();
	CHECK(strcmp(text, "flood i=1000\n") == 0, "%s", text);
}

/* Ten thousand users: the table is bounded, and what it forgets it says first. */
static void test_many_users(void)
{
	unsigned lines = 0;

	for (uid_t uid = 0; uid < 10000; uid++) {
		FS_SYSLOG(LOG_INFO, uid, "many", FS_INT("uid", uid));
		if (uid % 100 == 0)
			lines += count_lines(captured(), "many ");
	}
	lines += count_lines(captured(), "many ");
	CHECK(lines == 10000, "%u", lines);
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Nobody reads: a full pipe costs no time; later it is said how much was lost. */
static void test_full_pipe(void)
{
	uint64_t lost, before;
	double start;
	char *text;

	before = counts().undelivered;
	start = seconds_now();
	for (int i = 0; i < 20000; i++)
		FS_SYSLOG(LOG_INFO, NOBODY, "full",
			  FS_STR("v", "0123456789012345678901234567"));
	CHECK(seconds_now() - start < 5);
	lost = counts().undelivered;
	CHECK(lost - before > 10000);
	text = captured();
	CHECK(strlen(text) > 60000 && text[strlen(text) - 1] == '\n');
	CHECK(count_lines(text, "full v=\"0123456789012345678901234567\"\n") ==
	      strlen(text) / strlen("full v=\"0123456789012345678901234567\"\n"));
	pass(1100);
	FS_SYSLOG(LOG_INFO, NOBODY, "again", FS_INT("i", 1));
	text = captured();
	CHECK(count_lines(text, "suppressed event=\"undelivered\" count=") == 1, "%s",
	      text);
	CHECK(count_lines(text, "again i=1") == 1);
}

/* The reader is gone: no signal, no end. */
static void test_broken_pipe(void)
{
	close(pipe_fd[0]);
	FS_SYSLOG(LOG_INFO, NOBODY, "gone", FS_INT("i", 1));
	close(STDERR_FILENO);
	FS_SYSLOG(LOG_INFO, NOBODY, "closed", FS_INT("i", 1));
	CHECK(open("/dev/null", O_WRONLY | O_CLOEXEC) == STDERR_FILENO);
	capture();
	pass(1100);
	FS_SYSLOG(LOG_INFO, NOBODY, "back", FS_INT("i", 1));
	CHECK(strstr(captured(), "back i=1\n"));
}

/* ---- syslog ---- */

/* A /dev of our own, which nobody else sees: false when we may not have one. */
static bool own_dev(void)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", "/dev", "tmpfs", 0, NULL) == 0;
}

static int listen_log(int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)unlink("/dev/log");
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	if (type == SOCK_STREAM)
		CHECK(listen(fd, 1) == 0);
	return fd;
}

static char *receive(int fd)
{
	static char buf[8192];
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

	buf[n < 0 ? 0 : n] = '\0';
	return buf;
}

/* The text of a file, of which the test must be the reader. */
static const char *text_of(const char *path)
{
	static char text[65536];
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

	text[n] = '\0';
	if (f)
		fclose(f);
	return text;
}

/* Lines go to the end of a file; one that a rotation has renamed is left within a second.
 */
static void test_file(void)
{
	char dir[] = "/tmp/test-log.XXXXXX", path[64], old[80];
	const char *text;

	CHECK(mkdtemp(dir) != NULL);
	(void)snprintf(path, sizeof(path), "%s/messages", dir);
	(void)snprintf(old, sizeof(old), "%s.1", path);
	CHECK(fs_syslog_open(dir, false, false) != 0);
	CHECK(fs_syslog_open("/nowhere/messages", false, false) == -ENOENT);
	CHECK(mkfifo(path, 0600) == 0);
	CHECK(fs_syslog_open(path, false, false) != 0);
	CHECK(unlink(path) == 0);
	CHECK(fs_syslog_open(path, false, false) == 0);
	FS_SYSLOG(LOG_WARNING, NOBODY, "refused", FS_INT("n", 1));
	text = text_of(path);
	CHECK(strstr(text, "Z jsonlfs[") && strstr(text, "]: refused n=1\n"), "%s", text);
	CHECK(rename(path, old) == 0);
	pass(1100);
	FS_SYSLOG(LOG_WARNING, NOBODY, "refused", FS_INT("n", 2));
	text = text_of(path);
	CHECK(strstr(text, "refused n=2\n") && !strstr(text, "n=1"), "%s", text);
	CHECK(strcmp(counts().to, path) == 0 && counts().error == 0);
	/* The mount command shows warnings as long as it mounts, and nothing else. */
	(void)captured();
	CHECK(fs_syslog_open(path, true, false) == 0);
	FS_SYSLOG(LOG_WARNING, NOBODY, "bypass", FS_INT("n", 3));
	FS_SYSLOG(LOG_INFO, NOBODY, "mounted", FS_INT("n", 4));
	fs_syslog_mounted();
	FS_SYSLOG(LOG_WARNING, NOBODY, "bypass", FS_INT("n", 5));
	CHECK(strcmp(captured(), "bypass n=3\n") == 0);
	CHECK(strstr(text_of(path), "bypass n=3\n") && strstr(text_of(path), "n=4\n"));
	CHECK(fs_syslog_open("none", false, false) == 0);
	FS_SYSLOG(LOG_WARNING, NOBODY, "refused", FS_INT("n", 6));
	CHECK(!strstr(text_of(path), "n=6") && counts().error == 0);
	CHECK(unlink(path) == 0 && unlink(old) == 0 && rmdir(dir) == 0);
}

static void test_syslog_absent(void)
{
	double start = seconds_now();
	uint64_t lost, before;

	before = counts().undelivered;
	for (int i = 0; i < 2000; i++)
		FS_SYSLOG(LOG_INFO, NOBODY, "nobody-listens", FS_INT("i", i));
	lost = counts().undelivered;
	CHECK(seconds_now() - start < 2 && lost - before == 2000, "%llu",
	      (unsigned long long)(lost - before));
	CHECK(counts().error == -ENOENT && strcmp(counts().to, "/dev/log") == 0);
}

static void test_syslog(void)
{
	double start;
	int fd, lines = 0;
	char *text;

	fd = listen_log(SOCK_DGRAM);
	pass(1100);
	FS_SYSLOG(LOG_WARNING, NOBODY, "hello", FS_STR("a", "b"));
	/* What nobody heard before comes first. */
	CHECK(strstr(receive(fd), "suppressed event=\"undelivered\" count=2000"));
	text = receive(fd);
	/* LOG_DAEMON and LOG_WARNING are 24 + 4. */
	CHECK(strncmp(text, "<28>", 4) == 0 && strstr(text, " jsonlfs[") &&
		  strstr(text, "]: hello a=\"b\""),
	      "%s", text);

	/* A syslogd that does not read. */
	start = seconds_now();
	for (int i = 0; i < 20000; i++)
		FS_SYSLOG(LOG_INFO, NOBODY, "flood", FS_INT("i", i));
	CHECK(seconds_now() - start < 5);
	while (receive(fd)[0])
		lines++;
	CHECK(lines > 0 && lines < 20000, "%d", lines);
	FS_SYSLOG(LOG_INFO, NOBODY, "after", FS_INT("i", 1));
	do
		text = receive(fd);
	while (text[0] && !strstr(text, "after i=1"));
	CHECK(strstr(text, "after i=1"));

	/* It is restarted: not one line is lost. */
	close(fd);
	fd = listen_log(SOCK_DGRAM);
	FS_SYSLOG(LOG_INFO, NOBODY, "restarted", FS_INT("i", 1));
	do
		text = receive(fd);
	while (text[0] && !strstr(text, "restarted i=1"));
	CHECK(strstr(text, "restarted i=1"));
	close(fd);
}

/* A syslogd of the old kind: a stream, where lines end in a NUL. */
static void test_syslog_stream(void)
{
	int fd = listen_log(SOCK_STREAM), peer;
	char *text;
	size_t len;

	pass(1100);
	FS_SYSLOG(LOG_INFO, NOBODY, "stream", FS_INT("i", 1));
	peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	CHECK(peer >= 0);
	text = receive(peer);
	len = strlen(text);
	CHECK(strstr(text, "stream i=1") || strstr(text + len + 1, "stream i=1"), "%s",
	      text);
	for (int i = 0; i < 20000; i++)
		FS_SYSLOG(LOG_INFO, NOBODY, "flood", FS_INT("i", i));
	close(peer);
	close(fd);
	for (int i = 0; i < 10; i++)
		FS_SYSLOG(LOG_INFO, NOBODY, "flood", FS_INT("i", i));
}

int main(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	real_stderr = dup(STDERR_FILENO);
	CHECK(sigaction(SIGPIPE, &action, NULL) == 0);
	capture();
	CHECK(fs_syslog_open("stderr", false, false) == 0);
	test_format();
	test_escape();
	test_length();
	test_rate();
	test_many_users();
	test_full_pipe();
	test_broken_pipe();
	CHECK(fs_syslog_open("syslog", false, false) == 0);
	test_file();
	CHECK(fs_syslog_open("syslog", false, false) == 0);
	if (own_dev()) {
		test_syslog_absent();
		test_syslog();
		test_syslog_stream();
	} else {
		puts("syslog: not tried, that takes root");
	}
	dup2(real_stderr, STDERR_FILENO);
	return check_done();
}
