/* SPDX-License-Identifier: MIT */
#include "base/look.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "base/error.h"
#include "base/looker.h"
#include "base/syslog.h"

#define LOOK_PATIENCE_MS 1000
#define LOOK_PENALTY_MS	 10000
#define LOOK_PROGRESS_MS 10000 /* longest wait for a piece of content */
#define LOOK_PIECE_MS	 100   /* time between two checks whether it is still wanted */

static struct {
	int fd;		      /* constant once there are threads; -1: no child */
	bool root;	      /* constant */
	pthread_mutex_t lock; /* a leaf; under it: */
	struct {
		uid_t uid;
		int64_t until;
	} penalties[16];
	unsigned next;
} asker = {.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

/* Executes the child under a name of its own, so that it has nothing of the daemon's
 * memory. */
static _Noreturn void become_looker(int fd)
{
	char *const argv[] = {FS_LOOKER_ARGV0, NULL};

	if (dup2(fd, FS_LOOKER_FD) == FS_LOOKER_FD &&
	    fcntl(FS_LOOKER_FD, F_SETFD, 0) == 0)
		execv("/proc/self/exe", argv);
	_exit(1);
}

void fs_look_start(void)
{
	int ends[2];
	pid_t pid;

	asker.root = geteuid() == 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0) {
		fflush(NULL);
		pid = fork();
		if (pid == 0)
			become_looker(ends[1]);
		close(ends[1]);
		if (pid > 0) {
			asker.fd = ends[0];
			return;
		}
		close(ends[0]);
	}
	FS_SYSLOG(LOG_WARNING, (uid_t)-1, "no-looks",
		  FS_STR("reason", jsonl_error_text(-errno)),
		  FS_STR("next",
			 "names of programs lack their scripts, commit=close commits "
			 "when the last process has gone, and jsonlfsctl cannot "
			 "replace logs; mount again"));
}

void fs_look_end(void)
{
	if (asker.fd >= 0)
		close(steal_fd(&asker.fd));
}

static bool is_penalized(uid_t uid)
{
	const int64_t now = jsonl_now_ms();
	bool found = false;

	pthread_mutex_lock(&asker.lock);
	for (size_t i = 0; i < sizeof(asker.penalties) / sizeof(asker.penalties[0]); i++)
		found |= asker.penalties[i].uid == uid && asker.penalties[i].until > now;
	pthread_mutex_unlock(&asker.lock);
	return found;
}

static void penalize(uid_t uid)
{
	const unsigned places = sizeof(asker.penalties) / sizeof(asker.penalties[0]);

	pthread_mutex_lock(&asker.lock);
	asker.penalties[asker.next % places].uid = uid;
	asker.penalties[asker.next++ % places].until = jsonl_now_ms() + LOOK_PENALTY_MS;
	pthread_mutex_unlock(&asker.lock);
}

static bool send_question(const struct fs_looker_question *q, const int *fds, size_t n)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FS_LOOKER_FDS * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)q, .iov_len = sizeof(*q)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	return sendmsg(asker.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(*q);
}

/* Sends a question. Returns the socket for the answers, or -1. fds[FS_LOOKER_REPLY] is
 * filled in here. */
static int question_begin(const struct fs_looker_question *q, int *fds, size_t n)
{
	cleanup_close int mine = -1, theirs = -1;
	int ends[2];

	if (asker.fd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return -1;
	mine = ends[0];
	fds[FS_LOOKER_REPLY] = theirs = ends[1];
	return send_question(q, fds, n) ? steal_fd(&mine) : -1;
}

/* Waits for an answer. 1; 0: there is none yet; -1: there will be none. */
static int answer_wait(int fd, int ms, struct fs_looker_answer *a)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	int ready;

	do
		ready = poll(&pfd, 1, ms);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0)
		return ready;
	return recv(fd, a, sizeof(*a), MSG_DONTWAIT) == (ssize_t)sizeof(*a) ? 1 : -1;
}

enum fs_closing fs_look_closing(uid_t uid, const struct fs_closing_question *q)
{
	const struct fs_looker_question question = {
	    .kind = FS_LOOKER_CLOSING, .uid = uid, .closing = *q};
	int fds[1];
	cleanup_close int fd = question_begin(&question, fds, 1);
	struct fs_looker_answer a;

	return fd >= 0 && answer_wait(fd, LOOK_PATIENCE_MS, &a) > 0 ? a.closing
								    : FS_CLOSING_MORE;
}

bool fs_look_program(uid_t uid, pid_t pid, char *buf, size_t size)
{
	const struct fs_looker_question question = {
	    .kind = FS_LOOKER_PROGRAM, .uid = uid, .program = pid};
	int fds[1], found;
	cleanup_close int fd = pid <= 0 || is_penalized(uid)
				   ? -1
				   : question_begin(&question, fds, 1);
	struct fs_looker_answer a;

	if (fd < 0)
		return false;
	found = answer_wait(fd, LOOK_PATIENCE_MS, &a);
	if (found == 0)
		penalize(uid);
	if (found > 0)
		snprintf(buf, size, "%.*s", (int)sizeof(a.name) - 1, a.name);
	return found > 0;
}

int fs_look_content(const struct fs_look_content *c, bool (*stopping)(void *ctx), void *ctx,
		    off_t *base, bool *unended)
{
	const struct fs_looker_question question = {.kind = FS_LOOKER_CONTENT,
						    .uid = c->uid,
						    .gid = c->gid,
						    .root = asker.root,
						    .limits = *c->limits};
	int fds[FS_LOOKER_FDS] = {[FS_LOOKER_CLIENT] = c->client,
				  [FS_LOOKER_STAGED] = c->staged,
				  [FS_LOOKER_LOG] = c->log};
	cleanup_close int fd = question_begin(&question, fds, FS_LOOKER_FDS);
	struct fs_looker_answer a = {0};
	int64_t last = jsonl_now_ms();

	if (fd < 0)
		return -EUSERS;
	while (!a.done) {
		int found = answer_wait(fd, LOOK_PIECE_MS, &a);

		if (found < 0)
			return -EUSERS;
		if (found > 0)
			last = jsonl_now_ms();
		if (stopping(ctx))
			return -ECANCELED;
		if (jsonl_now_ms() - last > LOOK_PROGRESS_MS)
			return -ETIMEDOUT;
	}
	*base = a.base;
	*unended = a.unended;
	return a.rc;
}
