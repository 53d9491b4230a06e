/* SPDX-License-Identifier: MIT */
#include "base/syslog_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/stamp.h"

#define SYSLOG_PATH   "/dev/log"
#define JOURNAL_PATH  "/run/systemd/journal/socket"
#define STDERR_WAIT   20 /* milliseconds, once, for a reader that is a little slow */
#define RETRY_SECONDS 1	 /* between attempts to reach a syslog that is not there */

enum sink { SINK_STDERR, SINK_SYSLOG, SINK_JOURNAL, SINK_FILE, SINK_NONE };

static enum sink sink = SINK_STDERR;
static const char *sink_file; /* its path */
static int file_fd = -1;
static int64_t file_looked; /* when the name was last compared with the file */
static int last_error;	    /* -errno of the last line that was not delivered */
static bool stderr_behind; /* the last line was not taken: do not wait again */
static int socket_fd = -1;
static bool socket_stream; /* lines end in a NUL there */
static int64_t last_attempt = -RETRY_SECONDS;

/* A pipe or terminal that can be written has room for PIPE_BUF bytes, and a line is
 * not longer. */
static bool write_stderr(const char *line, size_t len)
{
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
	struct iovec iov[2] = {{.iov_base = (char *)line, .iov_len = len},
			       {.iov_base = (char *)"\n", .iov_len = 1}};
	int ready = poll(&p, 1, stderr_behind ? 0 : STDERR_WAIT);
	ssize_t n = -1;

	if (ready == 1 && (p.revents & POLLOUT))
		n = writev(STDERR_FILENO, iov, 2);
	stderr_behind = n != (ssize_t)len + 1;
	return !stderr_behind;
}

static int connect_as(const char *path, int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int code = -errno;

		close(fd);
		return code;
	}
	return fd;
}

static bool connected(void)
{
	const char *path = sink == SINK_JOURNAL ? JOURNAL_PATH : SYSLOG_PATH;
	const int64_t now = jsonl_now_ms() / 1000;
	int fd;

	if (socket_fd >= 0)
		return true;
	if (now - last_attempt < RETRY_SECONDS)
		return false;
	last_attempt = now;
	fd = connect_as(path, SOCK_DGRAM);
	socket_stream = fd == -EPROTOTYPE && sink == SINK_SYSLOG;
	if (socket_stream)
		fd = connect_as(path, SOCK_STREAM);
	if (fd < 0)
		last_error = fd;
	socket_fd = fd < 0 ? -1 : fd;
	return socket_fd >= 0;
}

/* Writes the head of a line: <priority>, local time, program and pid, as syslogd expects
 * it; the fields of the journal; UTC and pid in a file. */
static size_t head(int priority, char *buf, size_t size)
{
	time_t now = time(NULL);
	char when[JSONL_STAMP] = "";
	struct tm tm;
	int n = 0;

	if (sink == SINK_SYSLOG && localtime_r(&now, &tm))
		(void)strftime(when, sizeof(when), "%b %e %H:%M:%S", &tm);
	else if (sink == SINK_FILE)
		jsonl_stamp_text_now(0, when);
	if (sink == SINK_SYSLOG)
		n = snprintf(buf, size, "<%d>%s jsonlfs[%d]: ", LOG_DAEMON | priority,
			     when, (int)getpid());
	else if (sink == SINK_JOURNAL)
		n = snprintf(buf, size,
			     "PRIORITY=%d\nSYSLOG_IDENTIFIER=jsonlfs\nSYSLOG_FACILITY=3\n"
			     "SYSLOG_PID=%d\nMESSAGE=",
			     priority, (int)getpid());
	else
		n = snprintf(buf, size, "%s jsonlfs[%d]: ", when, (int)getpid());
	return n > 0 && (size_t)n < size ? (size_t)n : 0;
}

/* Sends a line with its end: a NUL on a stream, a newline in the journal's list of
 * fields. */
static bool write_socket(int priority, const char *line, size_t len)
{
	char start[128];
	size_t start_len = head(priority, start, sizeof(start));
	bool journal = sink == SINK_JOURNAL;
	struct iovec iov[3] = {{.iov_base = start, .iov_len = start_len},
			       {.iov_base = (char *)line, .iov_len = len},
			       {.iov_base = (char *)(journal ? "\n" : ""), .iov_len = 1}};
	struct msghdr message = {.msg_iov = iov};
	size_t want;

	/* Two attempts find a restarted syslogd at once. */
	for (int i = 0; i < 2 && connected(); i++) {
		ssize_t n;

		message.msg_iovlen = socket_stream || journal ? 3 : 2;
		want = start_len + len + (socket_stream || journal);
		n = sendmsg(socket_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n == (ssize_t)want)
			return true;
		last_error = n < 0 ? -errno : -EAGAIN;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ||
			      errno == ENOBUFS || errno == EMSGSIZE))
			return false;
		/* The peer is gone, or half a line was written to a stream: only a new
		 * connection helps. */
		close(steal_fd(&socket_fd));
		last_attempt -= RETRY_SECONDS;
	}
	return false;
}

static int open_file(void)
{
	struct stat st;
	cleanup_close int fd =
	    open(sink_file,
		 O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);

	if (fd < 0 || fstat(fd, &st))
		return -errno;
	return S_ISREG(st.st_mode) ? steal_fd(&fd) : -EINVAL;
}

/* Opens a file anew that a rotation has renamed, or that was removed; looks at the name
 * once a second. */
static void follow_file(void)
{
	const int64_t now = jsonl_now_ms() / 1000;
	struct stat named, open_one;
	int fd;

	if (now == file_looked)
		return;
	file_looked = now;
	if (stat(sink_file, &named) == 0 && fstat(file_fd, &open_one) == 0 &&
	    named.st_dev == open_one.st_dev && named.st_ino == open_one.st_ino)
		return;
	fd = open_file();
	if (fd < 0)
		return;
	close(file_fd);
	file_fd = fd;
}

static bool write_file(int priority, const char *line, size_t len)
{
	char start[128];
	struct iovec iov[3] = {{.iov_base = start},
			       {.iov_base = (char *)line, .iov_len = len},
			       {.iov_base = (char *)"\n", .iov_len = 1}};
	ssize_t n;

	follow_file();
	iov[0].iov_len = head(priority, start, sizeof(start));
	n = writev(file_fd, iov, 3);
	if (n < 0)
		last_error = -errno;
	return n == (ssize_t)(iov[0].iov_len + len + 1);
}

/* ---- public ---- */

int fs_syslog_sink_open(const char *where)
{
	struct sigaction old;

	sink = strcmp(where, "stderr") == 0    ? SINK_STDERR
	       : strcmp(where, "syslog") == 0  ? SINK_SYSLOG
	       : strcmp(where, "journal") == 0 ? SINK_JOURNAL
	       : strcmp(where, "none") == 0    ? SINK_NONE
					       : SINK_FILE;
	if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL) {
		old.sa_handler = SIG_IGN;
		(void)sigaction(SIGPIPE, &old, NULL);
	}
	if (sink != SINK_FILE)
		return 0;
	sink_file = where;
	file_fd = open_file();
	return file_fd < 0 ? file_fd : 0;
}

bool fs_syslog_sink_write(int priority, const char *line, size_t len)
{
	bool done = sink == SINK_NONE	  ? true
		    : sink == SINK_STDERR ? write_stderr(line, len)
		    : sink == SINK_FILE	  ? write_file(priority, line, len)
					  : write_socket(priority, line, len);

	if (done)
		last_error = 0;
	return done;
}

void fs_syslog_sink_stderr(const char *line, size_t len)
{
	if (sink != SINK_STDERR)
		(void)write_stderr(line, len);
}

int fs_syslog_sink_error(const char **to)
{
	*to = sink == SINK_STDERR    ? "stderr"
	      : sink == SINK_SYSLOG  ? SYSLOG_PATH
	      : sink == SINK_JOURNAL ? JOURNAL_PATH
	      : sink == SINK_FILE    ? sink_file
				     : "none";
	return last_error;
}
