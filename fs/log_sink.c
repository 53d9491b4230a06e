#include "log_sink.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"

#define SOCKET_PATH   "/dev/log"
#define STDERR_WAIT   20 /* milliseconds, once, for a reader that is a little behind */
#define RETRY_SECONDS 1	 /* between attempts to reach a syslog that is not there */

static bool use_stderr = true;
static bool stderr_behind; /* the last line was not taken: do not wait again */
static int socket_fd = -1;
static bool socket_stream; /* lines end in a NUL there */
static int64_t last_attempt = -RETRY_SECONDS;

void fs_log_sink_open(bool to_stderr)
{
	struct sigaction old;

	use_stderr = to_stderr;
	if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL) {
		old.sa_handler = SIG_IGN;
		(void)sigaction(SIGPIPE, &old, NULL);
	}
}

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

static int connect_as(int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET_PATH};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int code = -errno;

		close(fd);
		return code;
	}
	return fd;
}

static bool connected(void)
{
	struct timespec now;
	int fd;

	if (socket_fd >= 0)
		return true;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec - last_attempt < RETRY_SECONDS)
		return false;
	last_attempt = now.tv_sec;
	fd = connect_as(SOCK_DGRAM);
	socket_stream = fd == -EPROTOTYPE;
	if (socket_stream)
		fd = connect_as(SOCK_STREAM);
	socket_fd = fd < 0 ? -1 : fd;
	return socket_fd >= 0;
}

/* The head that syslogd expects: <priority>, local time, program and pid. */
static size_t head(int priority, char *buf, size_t size)
{
	time_t now = time(NULL);
	char when[32] = "";
	struct tm tm;
	int n;

	if (localtime_r(&now, &tm))
		(void)strftime(when, sizeof(when), "%b %e %H:%M:%S", &tm);
	n = snprintf(buf, size, "<%d>%s jsonlfs[%d]: ", LOG_DAEMON | priority, when,
		     (int)getpid());
	return n > 0 && (size_t)n < size ? (size_t)n : 0;
}

static bool write_syslog(int priority, const char *line, size_t len)
{
	char start[96];
	size_t start_len = head(priority, start, sizeof(start));
	struct iovec iov[3] = {{.iov_base = start, .iov_len = start_len},
			       {.iov_base = (char *)line, .iov_len = len},
			       {.iov_base = (char *)"", .iov_len = 1}};
	struct msghdr message = {.msg_iov = iov};
	size_t want;

	/* Twice: a syslogd that was restarted is found again at once. */
	for (int i = 0; i < 2 && connected(); i++) {
		ssize_t n;

		message.msg_iovlen = socket_stream ? 3 : 2;
		want = start_len + len + socket_stream;
		n = sendmsg(socket_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n == (ssize_t)want)
			return true;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ||
			      errno == ENOBUFS || errno == EMSGSIZE))
			return false;
		/* Gone, or half a line on a stream: only a new connection helps. */
		close(steal_fd(&socket_fd));
		last_attempt -= RETRY_SECONDS;
	}
	return false;
}

bool fs_log_sink_write(int priority, const char *line, size_t len)
{
	return use_stderr ? write_stderr(line, len) : write_syslog(priority, line, len);
}
