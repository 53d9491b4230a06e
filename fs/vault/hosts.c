/* SPDX-License-Identifier: MIT */
#include "vault/hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "base/io.h"
#include "base/syslog.h"
#include "report/report.h"
#include "rules/config.h"
#include "vault/hosts_list.h"
#include "vault/statedir.h"

#define LIST	  "hosts"
#define BELOW	  FS_STATE_NAME "/daemon/" LIST
#define LISTS	  8 /* own, the vault's, those of directories above */
#define LEVELS	  32
#define WAIT_MS	  10000 /* longest wait for the acknowledgement of others */
#define PAUSE_MS  20
#define ENDING_MS 2000 /* for one whose mount is gone */
#define SIGN_MS	  2000 /* between two signs of life */
#define LOOK_MS	  1000 /* between two looks, where newcomers are not announced */

static const struct timespec between_looks = {.tv_nsec = PAUSE_MS * 1000000L};

struct fs_hosts {
	char id[FS_HOST_ID];
	struct fs_host_list lists[LISTS];
	unsigned count;
	pthread_t thread;
	bool watched;
	int stop; /* an eventfd */
};

static bool each_other(const struct fs_hosts *h,
		       bool (*fn)(const struct fs_host_list *l, const char *other,
				  void *ctx),
		       void *ctx)
{
	bool found = false;

	for (unsigned n = 0; !found && n < h->count; n++)
		found = fs_host_list_each(&h->lists[n], h->id, fn, ctx);
	return found;
}

/* ---- the lists ---- */

static int make_id(char id[FS_HOST_ID])
{
	char host[HOST_NAME_MAX + 1] = "";
	unsigned long long number;

	(void)gethostname(host, sizeof(host) - 1);
	for (char *c = host; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
		      (*c >= '0' && *c <= '9')))
			*c = '-';
	if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
		return -errno;
	(void)snprintf(id, FS_HOST_ID, "%.60s-%012llx", *host ? host : "host",
		       number & 0xffffffffffffULL);
	return 0;
}

/* Returns what other daemons read about this one, to be freed. */
static char *introduction(const struct fs_vault *v)
{
	static const char *const modes[] = {"auto", "on", "off"};
	struct jsonl_report *r = jsonl_report_object();
	char host[HOST_NAME_MAX + 1] = "";
	char *text;

	(void)gethostname(host, sizeof(host) - 1);
	jsonl_report_add_string(r, "host", host);
	jsonl_report_add_int(r, "pid", getpid());
	jsonl_report_add_string(r, "mountpoint", v->mountpoint ? v->mountpoint : "");
	jsonl_report_add_string(r, "shared", modes[v->config.shared]);
	jsonl_report_add_string(r, "version", JSONLFS_VERSION);
	text = jsonl_report_text(r, false);
	jsonl_report_free(r);
	return text;
}

/* Enters the list of this path; `fd` is taken over. */
static int join_list(struct fs_vault *v, int fd, const char *says, int daemon)
{
	struct fs_host_list *l = &v->hosts->lists[v->hosts->count];
	int rc;

	*l = (struct fs_host_list){.fd = fd, .own = -1, .lock = -1};
	rc = fs_host_list_enter(l, v->hosts->id, says, daemon);
	if (rc)
		fs_host_list_leave(l, v->hosts->id);
	else
		v->hosts->count++;
	return rc;
}

static int open_list(int at, const char *path)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int make_list(int daemon)
{
	if (mkdirat(daemon, LIST, 0700) < 0 && errno != EEXIST)
		return -errno;
	return open_list(daemon, LIST);
}

static int join_own(struct fs_vault *v, const char *says)
{
	int fd = make_list(v->common_fd);
	int rc = fd < 0 ? fd : join_list(v, fd, says, v->common_fd);

	if (rc)
		return rc;
	v->daemon_fd = fcntl(v->hosts->lists[0].own, F_DUPFD_CLOEXEC, 3);
	return v->daemon_fd < 0 ? -errno : 0;
}

/* With state= enters the list of the vault, too, where those look who mount the
 * directory without it. Best effort: the disk may be read-only. */
static void join_vault(struct fs_vault *v, const char *says)
{
	cleanup_close int daemon = fs_statedir_daemon(v);
	int fd = daemon < 0 ? daemon : make_list(daemon);

	if (fd >= 0)
		(void)!join_list(v, fd, says, -1);
}

/* Opens the list of a directory above. -EPERM if somebody else could have made it: in a
 * directory that others write to anybody may make a .jsonlfs. */
static int open_above(int root, const char *dir)
{
	static const char *const names[] = {FS_STATE_NAME, "daemon", LIST};
	cleanup_close int at = openat(root, dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	for (unsigned n = 0; n < sizeof(names) / sizeof(*names); n++) {
		int fd = at < 0 ? -1 : open_list(at, names[n]);

		if (fd < 0)
			return -ENOENT;
		close(at);
		at = fd;
		/* The first directory belongs to whoever has the file system. */
		if (n > 0 && (fstat(at, &st) < 0 || st.st_mode & 022 ||
			      (st.st_uid != 0 && st.st_uid != geteuid())))
			return -EPERM;
	}
	return steal_fd(&at);
}

/* Enters the lists of directories above: a mount there has the same files. */
static void join_above(struct fs_vault *v, const char *says)
{
	char path[3 * LEVELS + 1] = "";
	struct stat before, st;
	size_t n = 0;

	if (fstat(v->root_fd, &before) < 0)
		return;
	for (int level = 0; level < LEVELS && v->hosts->count < LISTS; level++) {
		int fd;

		n = (size_t)(stpcpy(path + n, "../") - path);
		if (fstatat(v->root_fd, path, &st, 0) < 0 ||
		    (st.st_dev == before.st_dev && st.st_ino == before.st_ino))
			return;
		before = st;
		fd = open_above(v->root_fd, path);
		if (fd >= 0)
			(void)!join_list(v, fd, says, -1);
	}
}

/* ---- shared mode ---- */

static void acknowledge(struct fs_vault *v)
{
	if (!v->shared)
		FS_SYSLOG(LOG_NOTICE, (uid_t)-1, "shared", FS_STR("source", v->source),
			  FS_STR("reason", "another daemon has this directory, too"));
	v->shared = true;
	for (unsigned n = 0; n < v->hosts->count; n++)
		fs_host_list_acknowledge(&v->hosts->lists[n]);
}

static bool read_one(const struct fs_host_list *l, const char *other, void *ctx)
{
	time_t seen;

	if (ctx)
		fs_host_list_read(l, other, ctx, &seen);
	return true;
}

/* Puts the introduction of a daemon that has not acknowledged into `ctx`. */
static bool read_lacking(const struct fs_host_list *l, const char *other, void *ctx)
{
	return !fs_host_list_acknowledged(l, other) && read_one(l, other, ctx);
}

static int refuse(const struct fs_vault *v, const char *says, const char *why,
		  const char *remedy)
{
	struct jsonl_report *r = jsonl_report_parse(says);
	const char *host = jsonl_report_get_string(r, "host");
	const char *mountpoint = jsonl_report_get_string(r, "mountpoint");

	fprintf(stderr,
		"jsonlfs: %s: another daemon (host %s, pid %llu, mounted on %s) has this "
		"directory, %s: %s\n",
		v->source, host ? host : "?",
		(unsigned long long)jsonl_report_get_uint(r, "pid"),
		mountpoint ? mountpoint : "?", why, remedy);
	jsonl_report_free(r);
	return -EBUSY;
}

static int wait_for_others(struct fs_vault *v)
{
	const int64_t until = jsonl_now_ms() + WAIT_MS;
	char says[FS_HOST_SAYS];

	while (each_other(v->hosts, read_lacking, says)) {
		if (strstr(says, "\"off\"") || jsonl_now_ms() >= until)
			return refuse(v, says, "and does not share it",
				      "unmount it there, or mount it there without "
				      "shared=off");
		nanosleep(&between_looks, NULL);
	}
	return 0;
}

static bool read_ending(const struct fs_host_list *l, const char *other, void *ctx)
{
	(void)read_one(l, other, ctx);
	return fs_host_is_ending(ctx);
}

static int share(struct fs_vault *v)
{
	char says[FS_HOST_SAYS];
	bool others;

	/* After umount(8) a daemon may live for a moment, and shared mode would last as
	 * long as this mount. Its mount may be in another namespace: hence the bound. */
	for (int n = 0;
	     n < ENDING_MS / PAUSE_MS && each_other(v->hosts, read_ending, says); n++)
		nanosleep(&between_looks, NULL);
	others = each_other(v->hosts, read_one, says);
	if (others && v->config.shared == JSONL_SHARED_OFF)
		return refuse(v, says, "and shared=off was given", "leave that out");
	if (!others && !v->shared)
		return 0;
	acknowledge(v);
	return wait_for_others(v);
}

/* ---- those who come later ---- */

static int watch_lists(const struct fs_hosts *h)
{
	cleanup_close int notes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[32];

	for (unsigned n = 0; n < h->count; n++) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", h->lists[n].fd);
		if (notes < 0 || inotify_add_watch(notes, path, IN_MOVED_TO) < 0)
			return -1;
	}
	return steal_fd(&notes);
}

static void *watch(void *arg)
{
	struct fs_vault *v = arg;
	struct fs_hosts *h = v->hosts;
	cleanup_close int notes = watch_lists(h);
	struct pollfd fds[2] = {{.fd = h->stop, .events = POLLIN},
				{.fd = notes, .events = POLLIN}};
	char buf[4096];

	while (!fds[0].revents) {
		if (!v->shared && each_other(h, read_one, NULL))
			acknowledge(v);
		for (unsigned n = 0; v->shared && n < h->count; n++)
			(void)!futimens(h->lists[n].lock, NULL);
		if (poll(fds, 2, v->shared ? SIGN_MS : notes < 0 ? LOOK_MS : -1) < 0)
			fds[0].revents = 0;
		while (notes >= 0 && read(notes, buf, sizeof(buf)) > 0)
			continue;
	}
	return NULL;
}

static int start_watch(struct fs_vault *v)
{
	struct fs_hosts *h = v->hosts;

	if (v->config.shared == JSONL_SHARED_OFF)
		return 0;
	h->stop = eventfd(0, EFD_CLOEXEC);
	if (h->stop < 0)
		return -errno;
	h->watched = pthread_create(&h->thread, NULL, watch, v) == 0;
	return h->watched ? 0 : -EAGAIN;
}

/* ---- beginning and end ---- */

static int join_fail(const struct fs_vault *v, int rc)
{
	if (rc == -ENOLCK)
		fprintf(
		    stderr,
		    "jsonlfs: %s: flock(2) does not work in its state directory, so it "
		    "cannot be shared: mount the file system below with locks, or let "
		    "one host alone have it, with shared=off\n",
		    v->source);
	else if (rc != -EBUSY)
		fprintf(stderr, "jsonlfs: %s: the list of daemons in " BELOW ": %s\n",
			v->source, jsonl_error_text(rc));
	return rc;
}

static int join_lists(struct fs_vault *v)
{
	cleanup_free char *says = introduction(v);
	int rc = says ? make_id(v->hosts->id) : -ENOMEM;

	if (!rc)
		rc = join_own(v, says);
	if (rc)
		return rc;
	if (v->state || v->config.state)
		join_vault(v, says);
	join_above(v, says);
	return 0;
}

/* Another host would append at the same moment, and neither would notice. */
static int look_at_locks(const struct fs_vault *v)
{
	const bool alone = v->config.readonly || v->config.shared == JSONL_SHARED_OFF;

	if (!v->engine.local_locks || alone)
		return 0;
	fprintf(stderr,
		"jsonlfs: %s: is on %s, where no other host sees a lock: mount it in a "
		"way that "
		"has locks (HOSTS.md), or, if no other host writes there, use "
		"shared=off\n",
		v->source, v->engine.local_locks);
	return -EBUSY;
}

int fs_hosts_join(struct fs_vault *v)
{
	int rc = look_at_locks(v);

	if (rc)
		return rc;
	v->remote =
	    v->config.shared != JSONL_SHARED_OFF && jsonl_io_is_remote(v->root_fd);
	v->shared = v->remote || v->config.shared == JSONL_SHARED_ON;
	if (v->common_fd < 0 || v->config.readonly)
		return 0;
	v->hosts = calloc(1, sizeof(*v->hosts));
	if (!v->hosts)
		return -ENOMEM;
	v->hosts->stop = -1;
	rc = join_lists(v);
	/* Without locks daemons cannot find each other. */
	if (rc == -ENOLCK && !v->shared) {
		v->daemon_fd = fcntl(v->common_fd, F_DUPFD_CLOEXEC, 3);
		return v->daemon_fd < 0 ? -errno : 0;
	}
	if (!rc)
		rc = share(v);
	if (!rc)
		rc = start_watch(v);
	return rc ? join_fail(v, rc) : 0;
}

void fs_hosts_leave(struct fs_vault *v)
{
	struct fs_hosts *h = v->hosts;
	const uint64_t one = 1;

	if (!h)
		return;
	if (h->watched && write(h->stop, &one, sizeof(one)) == (ssize_t)sizeof(one))
		pthread_join(h->thread, NULL);
	if (h->stop >= 0)
		close(h->stop);
	for (unsigned n = 0; n < h->count; n++)
		fs_host_list_leave(&h->lists[n], h->id);
	free(steal_ptr(&v->hosts));
}

/* ---- who is there ---- */

struct telling {
	void (*each)(void *ctx, const struct fs_host *host);
	void *ctx;
};

static bool tell(const struct fs_host_list *l, const char *other, void *ctx)
{
	const struct telling *t = ctx;
	struct fs_host host = {.id = other};
	char says[FS_HOST_SAYS];

	fs_host_list_read(l, other, says, &host.seen);
	host.says = says;
	t->each(t->ctx, &host);
	return false;
}

void fs_hosts_each(struct fs_vault *v,
		   void (*each)(void *ctx, const struct fs_host *host), void *ctx)
{
	struct telling t = {each, ctx};

	if (v->hosts)
		(void)!each_other(v->hosts, tell, &t);
}
