/* SPDX-License-Identifier: MIT */
#include "ctl/ask/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stamp.h"

#define PACKET_MAX	65536 /* FS_CONTROL_PACKET of the daemon */
#define RESTART_WAIT_MS 5000  /* for a daemon that is being started again */
#define RESTART_STEP_MS 50
#define SEND_LIMIT	10 /* seconds, for a daemon that reads nothing */
#define FDS_MAX		2
#define DROP_AT_ONCE	32 /* names, escaped, with room to spare */

/* ---- finding it ---- */

/* Connects, and waits no longer than `wait` milliseconds while the socket's queue is
 * full: it may be anybody's socket. Whoever answers must be `owner`. 0 with the
 * descriptor, or -errno (-EUSERS: the queue is full). */
static int connect_to(const char *path, uid_t owner, int wait, int *out)
{
	const struct timespec pause = {.tv_nsec = RESTART_STEP_MS * 1000000L};
	const struct timeval send_limit = {.tv_sec = SEND_LIMIT};
	const int64_t until = jsonl_now_ms() + wait;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	cleanup_close int fd =
	    socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno != EAGAIN)
			return -errno;
		if (jsonl_now_ms() >= until)
			return -EUSERS;
		(void)nanosleep(&pause, NULL);
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -errno;
	if (peer.uid != owner)
		return -EPERM;
	if (fcntl(fd, F_SETFL, 0) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send_limit, sizeof(send_limit)) < 0)
		return -errno;
	*out = steal_fd(&fd);
	return 0;
}

/* Connects to the socket that the mount names; it must belong to the user who, as the
 * kernel says, mounted it. A daemon in a chroot names a path in its own root. */
static int connect_mounted(const struct ctl_vault *v, int *fd)
{
	const char *path = jsonl_report_get_string(v->status, "control");
	cleanup_free char *other = NULL;
	int rc;

	if (!path || path[0] != '/')
		return -EOPNOTSUPP;
	rc = connect_to(path, v->mount->owner, RESTART_WAIT_MS, fd);
	if (rc != -ENOENT && rc != -ENOTDIR)
		return rc;
	if (asprintf(&other, "/proc/%llu/root%s",
		     (unsigned long long)jsonl_report_get_uint(v->status, "pid"),
		     path) < 0) {
		other = NULL;
		return -ENOMEM;
	}
	return connect_to(other, v->mount->owner, RESTART_WAIT_MS, fd);
}

/* Connects to the socket of this vault in `dir`, where only `owner` can have put it:
 * -ENOENT when the directory is somebody else's. */
static int connect_in(const char *dir, uid_t owner, const struct stat *root, int *fd)
{
	cleanup_close int dir_fd =
	    open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char path[96];
	struct stat st;

	if (dir_fd < 0 || fstat(dir_fd, &st) < 0)
		return -errno;
	if (st.st_uid != owner || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return -ENOENT;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%u:%u-%llu", dir_fd,
		       major(root->st_dev), minor(root->st_dev),
		       (unsigned long long)root->st_ino);
	return connect_to(path, owner, RESTART_WAIT_MS, fd);
}

/* Returns true when no daemon answers. One that died may have left its socket. */
static bool is_absent(int rc)
{
	return rc == -ENOENT || rc == -ECONNREFUSED || rc == -ENOTDIR || rc == -EACCES ||
	       rc == -ELOOP;
}

/* Connects from the backing directory: the sockets of daemons are named by its device
 * and inode. */
static int connect_bare(const struct ctl_vault *v, int *fd)
{
	/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat root;
	char dir[80];
	uid_t owner;
	int rc;

	if (fstatat(v->root_fd, "", &root, AT_EMPTY_PATH) < 0)
		return -errno;
	/* The daemon's user owns the state directory. */
	owner = v->is_vault ? v->spot.owner : root.st_uid;
	rc = connect_in("/run/jsonlfs", 0, &root, fd);
	if (is_absent(rc) && runtime && strlen(runtime) < 60) {
		(void)snprintf(dir, sizeof(dir), "%s/jsonlfs", runtime);
		rc = connect_in(dir, geteuid(), &root, fd);
	}
	if (is_absent(rc)) {
		(void)snprintf(dir, sizeof(dir), "/run/user/%u/jsonlfs", (unsigned)owner);
		rc = connect_in(dir, owner, &root, fd);
	}
	if (is_absent(rc)) {
		(void)snprintf(dir, sizeof(dir), "/tmp/jsonlfs-%u", (unsigned)owner);
		rc = connect_in(dir, owner, &root, fd);
	}
	return is_absent(rc) ? -ENOENT : rc;
}

static int connect_once(const struct ctl_vault *v, int *fd)
{
	if (v->status_error == -ENOTCONN || v->status_error == -ECONNABORTED)
		return -ENOTCONN;
	return v->status ? connect_mounted(v, fd) : connect_bare(v, fd);
}

static int answer_of(const struct ctl_vault *v, int rc, int fd)
{
	return rc == 0 ? fd : v->status && rc == -ENOENT ? -EOPNOTSUPP : rc;
}

int ctl_control_try(const struct ctl_vault *v)
{
	int fd = -1, rc = connect_once(v, &fd);

	return answer_of(v, rc, fd);
}

int ctl_control_connect(const struct ctl_vault *v)
{
	const struct timespec pause = {.tv_nsec = RESTART_STEP_MS * 1000000L};
	const int64_t until = jsonl_now_ms() + RESTART_WAIT_MS;
	int fd = -1, rc;

	while ((rc = connect_once(v, &fd)) && v->status && jsonl_now_ms() < until &&
	       (rc == -ECONNREFUSED || rc == -ENOENT))
		(void)nanosleep(&pause, NULL);
	return answer_of(v, rc, fd);
}

/* ---- asking ---- */

struct jsonl_report *ctl_control_request(const char *verb)
{
	struct jsonl_report *r = jsonl_report_object();

	jsonl_report_add_string(r, "verb", verb);
	return r;
}

int ctl_control_send(int fd, struct jsonl_report *request, const int *fds, int nfds)
{
	cleanup_free char *text = jsonl_report_text(request, false);
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = text, .iov_len = text ? strlen(text) : 0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	jsonl_report_free(request);
	if (!text)
		return -ENOMEM;
	if (nfds) {
		struct cmsghdr *c;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)nfds * sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

struct jsonl_report *ctl_control_receive(int fd, int *rc)
{
	cleanup_free char *buf = malloc(PACKET_MAX + 1);
	struct jsonl_report *reply;
	ssize_t n;

	*rc = -ENOMEM;
	if (!buf)
		return NULL;
	do
		n = recv(fd, buf, PACKET_MAX, 0);
	while (n < 0 && errno == EINTR);
	*rc = n < 0 ? -errno : -ECONNRESET;
	if (n <= 0)
		return NULL;
	buf[n] = '\0';
	reply = jsonl_report_parse(buf);
	*rc = reply ? 0 : -EPROTO;
	return reply;
}

/* Returns the result in the last packet of an answer. */
static int verdict_of(const struct jsonl_report *answer)
{
	int rc = (int)jsonl_report_get_uint(answer, "verdict");

	if (!rc)
		rc = -(int)jsonl_report_get_uint(answer, "error");
	/* -ENOENT would say that there is no daemon. */
	return rc == -ENOENT ? -ENXIO : rc;
}

int ctl_control_each(const struct ctl_vault *v, struct jsonl_report *request,
		     int (*take)(void *ctx, const struct jsonl_report *packet), void *ctx)
{
	cleanup_close int fd = ctl_control_connect(v);
	bool last = false;
	int rc;

	if (fd < 0) {
		jsonl_report_free(request);
		return fd;
	}
	rc = ctl_control_send(fd, request, NULL, 0);
	/* A refusal may be sent, and the socket closed, before the request is read. */
	while (!last && (rc == 0 || rc == -EPIPE || rc == -ECONNRESET)) {
		struct jsonl_report *packet = ctl_control_receive(fd, &rc);

		if (!packet)
			break;
		last = jsonl_report_get(packet, "error") != NULL;
		rc = last ? verdict_of(packet) : take(ctx, packet);
		jsonl_report_free(packet);
	}
	return rc;
}

int ctl_control_ask(const struct ctl_vault *v, struct jsonl_report *request,
		    const int *fds, int nfds, struct jsonl_report **reply)
{
	cleanup_close int fd = ctl_control_connect(v);
	struct jsonl_report *answer = NULL;
	int rc;

	if (reply)
		*reply = NULL;
	if (fd < 0) {
		jsonl_report_free(request);
		return fd;
	}
	rc = ctl_control_send(fd, request, fds, nfds);
	/* A refusal may be sent, and the socket closed, before the request is read. */
	if (rc == 0 || rc == -EPIPE || rc == -ECONNRESET)
		answer = ctl_control_receive(fd, &rc);
	if (answer)
		rc = verdict_of(answer);
	if (reply)
		*reply = steal_ptr(&answer);
	jsonl_report_free(answer);
	return rc;
}

/* Drops names, as many as certainly fit into a packet. */
static int drop_some(const struct ctl_vault *v, const char *verb, const char *path,
		     char *const *names, int count)
{
	struct jsonl_report *request = ctl_control_request(verb);
	struct jsonl_report *list = jsonl_report_array(), *reply = NULL;
	const struct jsonl_report *failed;
	int rc;

	for (int i = 0; i < count; i++)
		jsonl_report_add_string(list, NULL, names[i]);
	jsonl_report_add(request, "names", list);
	rc = ctl_control_ask(v, request, NULL, 0, &reply);
	failed = jsonl_report_get(reply, "failed");
	for (size_t i = 0; i < jsonl_report_length(failed); i++)
		ctl_error("%s: %s",
			  jsonl_report_get_string(jsonl_report_at(failed, i), "name"),
			  jsonl_report_get_string(jsonl_report_at(failed, i), "text"));
	count = (int)jsonl_report_length(failed);
	jsonl_report_free(reply);
	if (rc == 0)
		return count ? CTL_FAILURE : 0;
	if (rc == -EPERM)
		ctl_error("%s: %s is for root and for the owner of the mount: try as one "
			  "of them",
			  path, verb);
	else if (rc != -ENOENT)
		ctl_error("%s: %s", path,
			  ctl_control_explain(rc) ? ctl_control_explain(rc)
						  : jsonl_error_text(rc));
	return rc == -ENOENT ? rc : CTL_FAILURE;
}

int ctl_control_drop(const struct ctl_vault *v, const char *verb, const char *path,
		     char *const *names, int count)
{
	int code = 0;

	for (int i = 0; i < count && code >= 0; i += DROP_AT_ONCE) {
		int n = count - i < DROP_AT_ONCE ? count - i : DROP_AT_ONCE;
		int rc = drop_some(v, verb, path, names + i, n);

		code = rc < 0 ? rc : code | rc;
	}
	return code;
}

const char *ctl_control_explain(int rc)
{
	switch (rc) {
	case -ENOTCONN:
		return "the mount is dead: mount it again by the same command, which "
		       "clears it, then try again";
	case -ECONNRESET:
		return "the daemon ended while it was at it: look at the file, then try "
		       "again";
	case -EOPNOTSUPP:
		return "the daemon of this mount has no control socket that can be "
		       "reached from here: its log says why (no-control-socket); in a "
		       "chroot /proc is needed, and root";
	case -ENXIO:
		return "the daemon sees no such file there: nothing was changed";
	case -ECANCELED:
		return "the mount is ending: nothing was changed; try again when it is "
		       "there, or not there";
	case -EUSERS:
		return "the daemon talks to too many at once: try again in a moment";
	case -ENOSYS:
		return "the daemon is older than this program: mount again";
	default:
		return NULL;
	}
}
