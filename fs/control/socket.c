/* SPDX-License-Identifier: MIT */
#include "control/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/syslog.h"
#include "control/events.h"
#include "control/request.h"
#include "control/verbs.h"
#include "report/report.h"
#include "tree/mount.h"

#define CONTROL_SECONDS	  10 /* for a client to send its request, or to take an answer */
#define CONTROL_OF_OTHERS 24 /* all clients that are not root */
#define CONTROL_OF_ONE	  8  /* of one uid that is not root */
#define CONTROL_NAMES	  16 /* mounts of one source at the same time */

struct client {
	struct fs_mount *m;
	int fd; /* -1: this place is free */
	struct ucred peer;
};

struct fs_control {
	int fd;
	struct sockaddr_un address;
	ino_t ino; /* inode of the socket's name: no other is removed */
	pthread_t thread;
	pthread_mutex_t lock; /* a leaf; under it: */
	pthread_cond_t ended;
	struct client clients[FS_CONTROL_CLIENTS];
	unsigned count;
};

/* ---- where ---- */

/* Makes or checks a directory into which only its owner can put names. 0 or -errno. */
static int own_directory(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022)
		   ? 0
		   : -EPERM;
}

/* Makes the directory for the socket. /tmp is for users without a session of their own
 * (cron, su). */
static int make_directory(const struct fs_mount *m, char *path, size_t size)
{
	/* No other thread yet that could change it.
	 * NOLINTNEXTLINE(concurrency-mt-unsafe) */
	const char *runtime = m->vault.uid ? getenv("XDG_RUNTIME_DIR") : NULL;
	int rc = -ENOENT;

	if (m->vault.uid == 0) {
		(void)snprintf(path, size, "/run/jsonlfs");
		return own_directory(path, 0755);
	}
	if (runtime && runtime[0] == '/' && strlen(runtime) < 60) {
		(void)snprintf(path, size, "%s/jsonlfs", runtime);
		rc = own_directory(path, 0700);
	}
	if (rc < 0) {
		(void)snprintf(path, size, "/tmp/jsonlfs-%u", m->vault.uid);
		rc = own_directory(path, 0700);
	}
	return rc;
}

static bool is_answered(const struct sockaddr_un *address)
{
	cleanup_close int fd =
	    socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 &&
	       (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
		errno == EAGAIN);
}

/* Locks the directory, so that one daemon at a time chooses a name. -1: another has
 * stopped while it held the lock, which is then done without. */
static int names_lock(const char *dir)
{
	cleanup_close int fd = -1;
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/.lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd >= 0 && fs_lock_wait(fd, FS_LOCK_MS) == 0 ? steal_fd(&fd) : -1;
}

/* Takes the name of the vault, with a number if other mounts of the same source have it.
 * A name left by a daemon that died is replaced in one step. */
static int take_name(struct fs_control *c, const char *dir, const struct stat *root)
{
	struct sockaddr_un *a = &c->address, fresh = {.sun_family = AF_UNIX};
	cleanup_close int lock = names_lock(dir);
	struct stat st;

	(void)lock; /* held until the return */
	(void)snprintf(fresh.sun_path, sizeof(fresh.sun_path), "%s/.new-%d", dir,
		       (int)getpid());
	(void)unlink(fresh.sun_path);
	if (bind(c->fd, (struct sockaddr *)&fresh, sizeof(fresh)) < 0)
		return -errno;
	if (chmod(fresh.sun_path, 0666) < 0 || listen(c->fd, FS_CONTROL_CLIENTS) < 0 ||
	    lstat(fresh.sun_path, &st) < 0)
		return -errno;
	c->ino = st.st_ino;
	a->sun_family = AF_UNIX;
	for (unsigned n = 0; n < CONTROL_NAMES; n++) {
		char more[8] = "";

		if (n)
			(void)snprintf(more, sizeof(more), ".%u", n);
		(void)snprintf(a->sun_path, sizeof(a->sun_path), "%s/%u:%u-%llu%s", dir,
			       major(root->st_dev), minor(root->st_dev),
			       (unsigned long long)root->st_ino, more);
		if (is_answered(a))
			continue;
		return rename(fresh.sun_path, a->sun_path) < 0 ? -errno : 0;
	}
	(void)unlink(fresh.sun_path);
	return -EADDRINUSE;
}

static int make_socket(struct fs_mount *m, struct fs_control *c)
{
	char dir[80];
	struct stat root;
	int rc = make_directory(m, dir, sizeof(dir));

	if (rc < 0)
		return rc;
	if (fstat(m->vault.root_fd, &root) < 0)
		return -errno;
	c->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	return c->fd < 0 ? -errno : take_name(c, dir, &root);
}

/* ---- one client ---- */

static void send_report(int fd, struct jsonl_report *reply)
{
	cleanup_free char *text = jsonl_report_text(reply, false);
	size_t len = text ? strlen(text) : 0;

	if (len && len <= FS_CONTROL_PACKET)
		/* If the client does not take it that is its own loss. */
		(void)!send(fd, text, len, MSG_NOSIGNAL);
}

static void send_error(int fd, struct jsonl_report *reply, int rc)
{
	jsonl_report_add_int(reply, "error", rc ? jsonl_error_errno(rc) : 0);
	if (rc > 0)
		jsonl_report_add_int(reply, "verdict", rc);
	if (rc)
		jsonl_report_add_string(reply, "text", jsonl_error_text(rc));
	send_report(fd, reply);
}

/* Reads a request: text, to be freed; NULL after -errno in *rc. The packet stays in the
 * socket, with the descriptors that came with it: these may be of a file system whose
 * close(2) never ends. */
static char *receive(int fd, int *rc)
{
	cleanup_free char *buf = malloc(FS_CONTROL_PACKET + 1);
	struct iovec iov = {.iov_base = buf, .iov_len = FS_CONTROL_PACKET};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	*rc = -ENOMEM;
	if (!buf)
		return NULL;
	n = recvmsg(fd, &msg, MSG_PEEK);
	*rc = n < 0 ? -errno : msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : 0;
	if (*rc || n == 0)
		return NULL;
	buf[n] = '\0';
	return steal_ptr(&buf);
}

static void serve(struct client *c)
{
	struct fs_control_request r = {.m = c->m,
				       .pid = c->peer.pid,
				       .uid = c->peer.uid,
				       .gid = c->peer.gid,
				       .client = c->fd};
	struct jsonl_report *args = NULL;
	const char *verb = NULL;
	struct stat root;
	uint64_t cursor;
	char byte;
	int rc;
	cleanup_free char *text = receive(c->fd, &rc);

	r.owner = r.uid == 0 || r.uid == c->m->vault.uid;
	r.vault_owner =
	    r.owner || (fstat(c->m->vault.root_fd, &root) == 0 && root.st_uid == r.uid);
	args = text ? jsonl_report_parse(text) : NULL;
	verb = jsonl_report_get_string(args, "verb");
	r.args = args;
	r.reply = jsonl_report_object();
	if (verb && strcmp(verb, "watch") == 0) {
		cursor = fs_control_events_begin();
		send_error(c->fd, r.reply, 0);
		fs_control_events_follow(
		    c->fd, r.vault_owner ? FS_CONTROL_EVENTS_ALL : r.uid, cursor);
	} else if (text || rc) {
		if (!rc)
			rc = verb ? fs_control_run(&r, verb) : -EBADMSG;
		send_error(c->fd, r.reply, rc);
	}
	jsonl_report_free(r.reply);
	jsonl_report_free(args);
	/* Unread data would reset the connection before the client reads the answer. The
	 * kernel drops descriptors in the packet without the close(2) of a program. */
	(void)!recv(c->fd, &byte, sizeof(byte), MSG_DONTWAIT);
}

static void *client_main(void *arg)
{
	struct client *c = arg;
	struct fs_control *control = c->m->control;

	serve(c);
	pthread_mutex_lock(&control->lock);
	close(steal_fd(&c->fd));
	control->count--;
	/* Signalled under the lock: the thread that waits for it frees all this. */
	pthread_cond_signal(&control->ended);
	pthread_mutex_unlock(&control->lock);
	return NULL;
}

/* ---- letting them in ---- */

/* Finds a place for a client of this uid; NULL: there are too many. Under lock. */
static struct client *find_place(struct fs_control *c, uid_t uid)
{
	struct client *place = NULL;
	unsigned others = 0, same = 0;

	for (size_t i = 0; i < FS_CONTROL_CLIENTS; i++) {
		struct client *at = &c->clients[i];

		if (at->fd < 0) {
			place = at;
			continue;
		}
		others += at->peer.uid != 0;
		same += at->peer.uid == uid;
	}
	return uid && (others >= CONTROL_OF_OTHERS || same >= CONTROL_OF_ONE) ? NULL
									      : place;
}

static int start_client(struct fs_mount *m, struct fs_control *c, int fd)
{
	const struct timeval patience = {.tv_sec = CONTROL_SECONDS};
	struct ucred peer;
	socklen_t len = sizeof(peer);
	cleanup_unlock pthread_mutex_t *locked = &c->lock;
	struct client *place;
	pthread_attr_t detached;
	pthread_t thread;
	int rc;

	pthread_mutex_lock(locked);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		return -errno;
	place = find_place(c, peer.uid);
	if (!place)
		return -EUSERS;
	*place = (struct client){.m = m, .fd = fd, .peer = peer};
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&thread, &detached, client_main, place);
	pthread_attr_destroy(&detached);
	if (rc) {
		place->fd = -1;
		return -rc;
	}
	c->count++;
	return 0;
}

static void refuse(int fd, int rc)
{
	struct jsonl_report *reply = jsonl_report_object();

	send_error(fd, reply, rc);
	jsonl_report_free(reply);
	close(fd);
}

static void *control_main(void *arg)
{
	static const struct timespec pause = {.tv_nsec = 100000000};
	struct fs_mount *m = arg;
	struct fs_control *c = m->control;

	while (!m->vault.control_stopping) {
		int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC), rc;

		if (fd >= 0) {
			rc = start_client(m, c, fd);
			if (rc)
				refuse(fd, rc);
		} else if (!m->vault.control_stopping && errno != EINTR &&
			   errno != ECONNABORTED) {
			nanosleep(&pause, NULL); /* perhaps no descriptor is free */
		}
	}
	return NULL;
}

/* ---- coming and going ---- */

static void control_free(struct fs_control *c)
{
	if (c->fd >= 0)
		close(c->fd);
	pthread_cond_destroy(&c->ended);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void fs_control_start(struct fs_mount *m)
{
	struct fs_control *c = calloc(1, sizeof(*c));
	int rc = c ? 0 : -ENOMEM;

	if (c) {
		c->fd = -1;
		pthread_mutex_init(&c->lock, NULL);
		pthread_cond_init(&c->ended, NULL);
		for (size_t i = 0; i < FS_CONTROL_CLIENTS; i++)
			c->clients[i].fd = -1;
		rc = make_socket(m, c);
	}
	if (!rc) {
		fs_control_events_init();
		m->control = c;
		m->vault.control_path = c->address.sun_path;
		rc = -pthread_create(&c->thread, NULL, control_main, m);
	}
	if (!rc)
		return;
	m->control = NULL;
	m->vault.control_path = NULL;
	if (c)
		control_free(c);
	FS_SYSLOG(LOG_WARNING, (uid_t)-1, "no-control-socket",
		  FS_STR("reason", jsonl_error_text(rc)),
		  FS_STR("next",
			 "the mount works; jsonlfsctl cannot replace, repair, drop "
			 "or watch through it"));
}

void fs_control_stop(struct fs_mount *m)
{
	struct fs_control *c = m->control;
	struct stat st;

	if (!c)
		return;
	m->vault.control_stopping = true;
	(void)shutdown(c->fd, SHUT_RDWR);
	pthread_join(c->thread, NULL);
	if (lstat(c->address.sun_path, &st) == 0 && st.st_ino == c->ino)
		(void)unlink(c->address.sun_path);
	fs_control_events_end();
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < FS_CONTROL_CLIENTS; i++)
		if (c->clients[i].fd >= 0)
			(void)shutdown(c->clients[i].fd, SHUT_RD);
	while (c->count)
		pthread_cond_wait(&c->ended, &c->lock);
	pthread_mutex_unlock(&c->lock);
	m->control = NULL;
	m->vault.control_path = NULL;
	control_free(c);
}
