/* SPDX-License-Identifier: MIT */
#include "base/looker.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "base/kind.h"
#include "base/program.h"
#include "record/frame.h"

#define LOOKER_AT_A_TIME 128 /* questions that are being answered */
#define LOOKER_OF_ONE	 4   /* of one uid, if they take longer than: */
#define LOOKER_LONG_MS	 1000
#define LOOKER_STACK	 (256u << 10)
#define LOOKER_CHUNK	 (1u << 20)

/* A question that is being answered: by a thread, or a content by a process. */
struct look {
	struct fs_looker_question question;
	bool taken;
	pid_t process; /* 0: a thread */
	int64_t since;
	int reply;
};

static struct {
	pthread_mutex_t lock;
	struct look looks[LOOKER_AT_A_TIME];
} looker = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Whoever asked may have given up: then false. */
static bool reply(int fd, const struct fs_looker_answer *a)
{
	return send(fd, a, sizeof(*a), MSG_NOSIGNAL) == (ssize_t)sizeof(*a);
}

/* ---- what a client hands over; in a process that has the client's rights ---- */

struct content {
	struct fs_looker_answer answer;
	struct jsonl_frame frame;
	int fds[FS_LOOKER_FDS];
	int handed[2]; /* the new content; the old one that it is made from, or -1 */
	char buf[LOOKER_CHUNK], other[LOOKER_CHUNK];
};

static int take_handed(struct content *c)
{
	char packet[1];
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(c->handed))];
	} control;
	struct iovec iov = {.iov_base = packet, .iov_len = sizeof(packet)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *h;

	c->handed[0] = c->handed[1] = -1;
	if (recvmsg(c->fds[FS_LOOKER_CLIENT], &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0)
		return -errno;
	if (msg.msg_flags & MSG_CTRUNC)
		return -EMSGSIZE;
	h = CMSG_FIRSTHDR(&msg);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
		memcpy(c->handed, CMSG_DATA(h), h->cmsg_len - CMSG_LEN(0));
	return c->handed[0] < 0 ? -EINVAL : 0;
}

/* A regular file that is open for reading, and not of a FUSE mount, which may be anybody's. */
static int check_handed(int fd)
{
	const int flags = fcntl(fd, F_GETFL);
	struct statfs fs;
	struct stat st;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs_kind_of(&fs)->fuse)
		return -EXDEV;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) && flags >= 0 && (flags & O_ACCMODE) != O_WRONLY &&
		       !(flags & O_PATH)
		   ? 0
		   : -EINVAL;
}

/* Reads as much as it can get up to `size`: fewer bytes are the end. */
static ssize_t read_at(int fd, char *buf, size_t size, off_t at)
{
	size_t have = 0;
	ssize_t n = 0;

	while (have < size && (n = pread(fd, buf + have, size - have, at + (off_t)have)) > 0)
		have += (size_t)n;
	return n < 0 ? -errno : (ssize_t)have;
}

static int write_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0)
			return -errno;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Checks that the descriptor still holds the beginning of the log. */
static int compare(struct content *c)
{
	off_t at = 0;
	ssize_t n;

	while ((n = read_at(c->handed[1], c->buf, LOOKER_CHUNK, at)) > 0) {
		if (read_at(c->fds[FS_LOOKER_LOG], c->other, (size_t)n, at) != n ||
		    memcmp(c->buf, c->other, (size_t)n) != 0)
			return -ESTALE;
		at += n;
		c->answer.base = at;
		c->answer.unended = c->buf[n - 1] != '\n';
		if (!reply(c->fds[FS_LOOKER_REPLY], &c->answer))
			return -ECANCELED;
	}
	return (int)n;
}

/* Copies up to the chunk with the first line that is no record; the daemon finds that
 * line in the copy. */
static int copy(struct content *c, const struct jsonl_limits *limits)
{
	bool good = true;
	off_t at = 0;
	ssize_t n;

	while (good && (n = read_at(c->handed[0], c->buf, LOOKER_CHUNK, at)) > 0) {
		struct jsonl_cut cut;
		int rc = write_all(c->fds[FS_LOOKER_STAGED], c->buf, (size_t)n);

		if (rc)
			return rc;
		rc = jsonl_frame_offer(&c->frame, limits, c->buf, (size_t)n, &cut);
		good = !rc && !cut.nbad;
		if (good)
			jsonl_frame_take(&c->frame, &cut, c->buf, (size_t)n);
		jsonl_cut_deinit(&cut);
		if (rc)
			return rc;
		at += n;
		if (!reply(c->fds[FS_LOOKER_REPLY], &c->answer))
			return -ECANCELED;
	}
	return good ? (int)n : 0;
}

static int become(const struct fs_looker_question *q)
{
	if (!q->root || q->uid == 0)
		return 0;
	return setgroups(0, NULL) || setresgid(q->gid, q->gid, q->gid) ||
		       setresuid(q->uid, q->uid, q->uid)
		   ? -errno
		   : 0;
}

static _Noreturn void content_main(const struct fs_looker_question *q,
				   const int fds[FS_LOOKER_FDS])
{
	struct content *c = calloc(1, sizeof(*c));

	if (!c)
		_exit(1);
	/* From here on nobody waits for this process. */
	for (int n = 0; n < FS_LOOKER_FDS; n++)
		c->fds[n] = fcntl(fds[n], F_DUPFD_CLOEXEC, 64);
	close_range(3, 63, 0);
	c->answer.base = INT64_MAX;
	c->answer.rc = become(q);
	if (!c->answer.rc)
		c->answer.rc = take_handed(c);
	if (!c->answer.rc)
		c->answer.rc = check_handed(c->handed[0]);
	if (!c->answer.rc && c->handed[1] >= 0) {
		c->answer.base = 0;
		c->answer.rc = check_handed(c->handed[1]);
		if (!c->answer.rc)
			c->answer.rc = compare(c);
	}
	if (!c->answer.rc)
		c->answer.rc = copy(c, &q->limits);
	c->answer.done = true;
	reply(c->fds[FS_LOOKER_REPLY], &c->answer);
	_exit(0);
}

/* ---- the questions ---- */

static void *look_main(void *arg)
{
	struct look *l = arg;
	struct fs_looker_answer a = {.closing = FS_CLOSING_MORE};

	if (l->question.kind == FS_LOOKER_PROGRAM)
		fs_program_name(l->question.program, a.name, sizeof(a.name));
	else
		a.closing = fs_process_closing(&l->question.closing);
	reply(l->reply, &a);
	pthread_mutex_lock(&looker.lock);
	close(l->reply);
	l->taken = false;
	pthread_mutex_unlock(&looker.lock);
	return NULL;
}

static void reap(void)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		for (size_t i = 0; i < LOOKER_AT_A_TIME; i++)
			if (looker.looks[i].taken && looker.looks[i].process == pid)
				looker.looks[i].taken = false;
}

static struct look *look_place(const struct fs_looker_question *q, int fd)
{
	const int64_t now = jsonl_now_ms();
	struct look *place = NULL;
	unsigned same = 0;

	pthread_mutex_lock(&looker.lock);
	reap();
	for (size_t i = 0; i < LOOKER_AT_A_TIME; i++) {
		if (!looker.looks[i].taken)
			place = &looker.looks[i];
		else
			same += looker.looks[i].question.uid == q->uid &&
				now - looker.looks[i].since > LOOKER_LONG_MS;
	}
	if (same >= LOOKER_OF_ONE)
		place = NULL;
	if (place)
		*place = (struct look){
		    .question = *q, .taken = true, .reply = fd, .since = now};
	pthread_mutex_unlock(&looker.lock);
	return place;
}

/* Answers a question. Without a place, a thread or a process the daemon sees the end of
 * its socket. */
static void look_answer(const struct fs_looker_question *q, int fds[FS_LOOKER_FDS],
			const pthread_attr_t *attr)
{
	struct look *l = look_place(q, fds[FS_LOOKER_REPLY]);
	pthread_t thread;
	bool begun = false;

	if (l && q->kind == FS_LOOKER_CONTENT) {
		l->process = fork();
		if (l->process == 0)
			content_main(q, fds);
		begun = l->process > 0;
	} else if (l) {
		begun = pthread_create(&thread, attr, look_main, l) == 0;
		if (begun)
			fds[FS_LOOKER_REPLY] = -1; /* the thread's */
	}
	if (l && !begun) {
		pthread_mutex_lock(&looker.lock);
		l->taken = false;
		pthread_mutex_unlock(&looker.lock);
	}
	for (int n = 0; n < FS_LOOKER_FDS; n++)
		if (fds[n] >= 0)
			close(fds[n]);
}

/* False: the daemon has gone. */
static bool look_receive(int fd, struct fs_looker_question *q, int fds[FS_LOOKER_FDS])
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FS_LOOKER_FDS * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = q, .iov_len = sizeof(*q)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	ssize_t n;

	for (int k = 0; k < FS_LOOKER_FDS; k++)
		fds[k] = -1;
	do
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return true;
}

void fs_looker_main(void)
{
	struct fs_looker_question q;
	int fds[FS_LOOKER_FDS], null;
	pthread_attr_t attr;

	/* A signal for the terminal's whole group is meant for the daemon. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	(void)prctl(PR_SET_NAME, "jsonlfs-look", 0, 0, 0);
	/* Or whoever waits for the end of the daemon's output would wait for this
	 * child. */
	null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 ||
	    chdir("/"))
		_exit(1);
	close_range(FS_LOOKER_FD + 1, ~0U, 0);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, LOOKER_STACK);
	while (look_receive(FS_LOOKER_FD, &q, fds))
		look_answer(&q, fds, &attr);
	_exit(0);
}
