/* SPDX-License-Identifier: MIT */
/* Runs the parent of the daemon. It waits for the daemon, checks twice a second whether
 * it was killed but cannot end, and starts another when it has died. The path of the
 * vault may then lead into the dead mount, so the parent keeps a descriptor of the
 * source, and the options. */
#include "start/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "base/error.h"
#include "base/syslog.h"
#include "start/exit.h"
#include "start/mountpoint.h"
#include "start/privileges.h"
#include "tree/mount.h"

#define SUPERVISE_NAME	    "jsonlfs-keeper"
#define SUPERVISE_DEATHS    5 /* within this time; then it waits */
#define SUPERVISE_WITHIN_MS INT64_C(60000)
/* Gives up after so many daemons in a row that never served. The delay after each: */
#define SUPERVISE_ATTEMPTS 10
#define SUPERVISE_RETRY_MS 200
#define SUPERVISE_LOOK_MS  500 /* between two checks of the daemon */

#define SUPERVISE_BURIED 16

/* The daemon's reports to its parent, in shared memory. */
struct supervise_page {
	_Atomic bool serving;
	char device[32]; /* of the mount, before serving is set */
	/* Device of a mount that is about to take the place of a dead one. */
	char next[32];
	/* Devices of dead mounts that lie below. */
	char buried[SUPERVISE_BURIED][32];
	_Atomic unsigned nburied;
};

static struct {
	bool on;
	int source;    /* O_PATH; -1 */
	char path[32]; /* leads to the source */
	char name[16]; /* of the daemon's process */
	char dead[32]; /* device of the mount that is to be replaced, or "" */
	struct supervise_page *page;
	int64_t
	    deaths[SUPERVISE_DEATHS]; /* times of the last deaths, milliseconds; a ring */
	unsigned count, failures;
	int messages; /* messages of a daemon that did not come to serve */
	bool stopping;
} supervise = {.source = -1, .messages = -1};

/* ---- the daemon's side ---- */

const char *fs_supervise_source(const struct fs_mount *m)
{
	return supervise.on ? supervise.path : m->vault.source;
}

bool fs_supervise_again(void)
{
	return supervise.dead[0] != 0;
}

unsigned fs_supervise_deaths(void)
{
	return supervise.count;
}

void fs_supervise_mounting(const char *device)
{
	(void)snprintf(supervise.page->next, sizeof(supervise.page->next), "%s", device);
}

bool fs_supervise_bury(void)
{
	struct supervise_page *p = supervise.page;

	if (p->nburied == SUPERVISE_BURIED) {
		p->nburied = 0;
		return false;
	}
	memcpy(p->buried[p->nburied], supervise.dead, sizeof(supervise.dead));
	p->nburied++;
	return true;
}

void fs_supervise_serving(const char *device)
{
	if (!supervise.on)
		return;
	(void)snprintf(supervise.page->device, sizeof(supervise.page->device), "%s",
		       device);
	supervise.page->serving = true;
	close(steal_fd(&supervise.source));
	if (supervise.messages >= 0)
		close(steal_fd(&supervise.messages));
}

/* ---- the parent's side ---- */

static sigset_t signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	return set;
}

/* Reaches a state directory below the source from the source: its path would lead the
 * next daemon into the dead mount. */
static void state_from_source(struct fs_mount *m)
{
	const char *state = m->vault.config.state;
	size_t n = strlen(m->vault.source);

	if (state && strncmp(state, m->vault.source, n) == 0 && state[n] == '/' &&
	    state[n + strspn(state + n, "/")])
		m->vault.state = state + n + strspn(state + n, "/");
}

static int supervise_init(struct fs_mount *m)
{
	sigset_t set = signals();

	supervise.page = mmap(NULL, sizeof(*supervise.page), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (supervise.page == MAP_FAILED)
		return -errno;
	supervise.source = open(m->vault.source, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (supervise.source < 0)
		return -errno;
	(void)snprintf(supervise.path, sizeof(supervise.path), "/proc/self/fd/%d",
		       supervise.source);
	prctl(PR_GET_NAME, supervise.name);
	state_from_source(m);
	/* The caller may have ignored these; then they would never come. */
	signal(SIGCHLD, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	supervise.on = true;
	return 0;
}

/* Closes what the first daemon has now: whoever waits for the end of these descriptors
 * must not wait for us. */
static void let_go(int *report, int *lock)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	if (*report >= 0)
		close(steal_fd(report));
	if (*lock >= 0)
		close(steal_fd(lock));
	if (chdir("/"))
		errno = 0; /* only a directory, which would keep its file system busy */
	prctl(PR_SET_NAME, SUPERVISE_NAME);
	fs_syslog_mounted();
}

/* Returns true when the first thread of the process is gone, although the process is
 * still there. */
static bool is_zombie(pid_t pid)
{
	char path[32], buf[256];
	cleanup_close int fd = -1;
	const char *state;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
	buf[n > 0 ? n : 0] = '\0';
	state = strrchr(buf, ')'); /* behind the name */
	return state && strncmp(state, ") Z", 3) == 0;
}

/* Aborts the connection of a killed daemon that does not end: a thread of it may wait in
 * the kernel for the lock of a directory, held by a thread that waits for the daemon's
 * answer, which will not come. */
static void free_held(const struct fs_mount *m, pid_t pid)
{
	cleanup_free char *there = NULL;

	if (!supervise.page->serving || !is_zombie(pid))
		return;
	/* If it was unmounted its number may be that of another mount. */
	there = fs_mountpoint_device(m->vault.mountpoint);
	if (there && strcmp(there, supervise.page->device) == 0)
		fs_mountpoint_abort(m->vault.mountpoint, there);
}

/* Waits until the daemon has ended, passing signals on to it. Returns its wait
 * status. */
static int watch(const struct fs_mount *m, pid_t pid)
{
	const struct timespec look = {.tv_nsec = SUPERVISE_LOOK_MS * 1000000L};
	sigset_t set = signals();
	int status = 0;

	for (;;) {
		int signal = sigtimedwait(&set, NULL, &look);

		if (signal == SIGCHLD) {
			if (waitpid(pid, &status, WNOHANG) == pid)
				return status;
		} else if (signal < 0) {
			free_held(m, pid);
		} else {
			if (!fs_daemon_reloads(m, signal))
				supervise.stopping = true;
			kill(pid, signal);
		}
	}
}

/* Waits. False: the mount has gone, and there is nothing to wait for. */
static bool pass(const struct fs_mount *m, int64_t until)
{
	sigset_t set = signals();

	for (int64_t left = until - jsonl_now_ms(); left > 0;
	     left = until - jsonl_now_ms()) {
		int64_t step = left < SUPERVISE_LOOK_MS ? left : SUPERVISE_LOOK_MS;
		const struct timespec wait = {.tv_sec = step / 1000,
					      .tv_nsec = step % 1000 * 1000000};
		int signal = sigtimedwait(&set, NULL, &wait);

		/* The next daemon reads the configuration file in any case. */
		if (signal > 0 && signal != SIGCHLD && !fs_daemon_reloads(m, signal))
			supervise.stopping = true;
		if (supervise.stopping ||
		    !fs_mountpoint_is_dead(m->vault.mountpoint, supervise.dead))
			return false;
	}
	return true;
}

/* Returns when the next daemon may start after one has died. */
static int64_t pace(void)
{
	int64_t now = jsonl_now_ms(), oldest;

	supervise.deaths[supervise.count++ % SUPERVISE_DEATHS] = now;
	oldest = supervise.deaths[supervise.count % SUPERVISE_DEATHS];
	if (supervise.count >= SUPERVISE_DEATHS && now - oldest < SUPERVISE_WITHIN_MS)
		return oldest + SUPERVISE_WITHIN_MS;
	return supervise.failures ? now + SUPERVISE_RETRY_MS : now;
}

/* Finds the first line printed by a daemon that failed to start. */
static void last_words(char *buf, size_t size)
{
	ssize_t n =
	    supervise.messages < 0 ? 0 : pread(supervise.messages, buf, size - 1, 0);

	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

static bool is_buried(const struct fs_mount *m)
{
	for (unsigned i = 0; i < supervise.page->nburied; i++) {
		if (fs_mountpoint_is_dead(m->vault.mountpoint, supervise.page->buried[i]))
			return true;
	}
	return false;
}

/* Unmounts what was below the mount, which is gone, and exits. */
static _Noreturn void leave(const struct fs_mount *m, int code)
{
	while (is_buried(m) && fs_mountpoint_clear(m->vault.mountpoint) == 0)
		continue;
	_exit(code);
}

static _Noreturn void give_up(const struct fs_mount *m, int code, const char *reason)
{
	if (supervise.stopping &&
	    fs_mountpoint_is_dead(m->vault.mountpoint, supervise.dead))
		fs_mountpoint_clear(m->vault.mountpoint);
	FS_SYSLOG(LOG_ERR, (uid_t)-1, "supervision-ended",
		  FS_STR("mountpoint", m->vault.mountpoint), FS_STR("reason", reason));
	/* A dead mount stays: an error is better than the bare directory. */
	if (fs_mountpoint_is_dead(m->vault.mountpoint, supervise.dead))
		_exit(code);
	leave(m, code);
}

/* Exits as the daemon did, which ended before there was a mount: that is the failure of
 * the mount command. */
static _Noreturn void pass_on(int status)
{
	if (WIFSIGNALED(status)) {
		sigset_t none;

		sigemptyset(&none);
		pthread_sigmask(SIG_SETMASK, &none, NULL);
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
	}
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : FS_EXIT_BUG);
}

/* Handles the end of a daemon. Returns when another is to be started. */
static void ended(const struct fs_mount *m, int status)
{
	bool served = supervise.page->serving;
	int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : FS_EXIT_SYSTEM;
	char said[256];
	int64_t next;

	if (served)
		memcpy(supervise.dead, supervise.page->device, sizeof(supervise.dead));
	else if (!supervise.dead[0])
		pass_on(status);
	else if (fs_mountpoint_is_dead(m->vault.mountpoint, supervise.page->next))
		memcpy(supervise.dead, supervise.page->next, sizeof(supervise.dead));
	/* A normal end: it has unmounted itself. */
	if (served && !signal &&
	    !fs_mountpoint_is_dead(m->vault.mountpoint, supervise.dead))
		leave(m, code);
	supervise.failures = served ? 0 : supervise.failures + 1;
	next = pace();
	last_words(said, sizeof(said));
	FS_SYSLOG(
	    LOG_ERR, (uid_t)-1, served ? "died" : "mount-failed",
	    FS_STR("mountpoint", m->vault.mountpoint), FS_INT("signal", signal),
	    FS_INT("status", signal ? 0 : code), FS_INT("deaths", supervise.count),
	    FS_STR("message", served ? "" : said),
	    FS_INT("again_in_ms", next > jsonl_now_ms() ? next - jsonl_now_ms() : 0));
	if (supervise.stopping)
		give_up(m, code, "it died while it was ending");
	if (supervise.failures >= SUPERVISE_ATTEMPTS)
		give_up(m, FS_EXIT_MOUNT, "too many attempts to mount again have failed");
	if (pass(m, next) && fs_mountpoint_is_dead(m->vault.mountpoint, supervise.dead))
		return;
	if (supervise.stopping)
		give_up(m, FS_EXIT_OK, "signal");
	give_up(m, signal ? FS_EXIT_SYSTEM : code,
		"the dead mount is no longer there, or something else lies on it");
}

/* Prepares a daemon that is started again: no command waits for it, and its messages
 * before it serves are kept for the log. */
static int begin_again(int *report)
{
	prctl(PR_SET_NAME, supervise.name);
	if (supervise.messages >= 0)
		dup2(supervise.messages, STDERR_FILENO);
	*report = open("/dev/null", O_WRONLY | O_CLOEXEC);
	return *report < 0 ? FS_EXIT_SYSTEM : 0;
}

static void prepare_messages(void)
{
	if (supervise.messages < 0)
		supervise.messages = memfd_create("messages", MFD_CLOEXEC);
	if (supervise.messages >= 0 && ftruncate(supervise.messages, 0) == 0)
		(void)lseek(supervise.messages, 0, SEEK_SET);
}

int fs_supervise(struct fs_mount *m, int *report, int *lock)
{
	bool again = false;
	int r = supervise_init(m);

	if (r) {
		fprintf(stderr, "jsonlfs: %s: %s\n", m->vault.source,
			jsonl_error_text(r));
		return FS_EXIT_SYSTEM;
	}
	for (;;) {
		pid_t pid;

		supervise.page->serving = false;
		if (again)
			prepare_messages();
		pid = fork();
		if (pid == 0) {
			setsid(); /* a signal to one's group does not reach the other */
			return again ? begin_again(report) : 0;
		}
		if (pid < 0 && !again) {
			fprintf(stderr, "jsonlfs: cannot start a process: %s\n",
				jsonl_error_text(-errno));
			return FS_EXIT_SYSTEM;
		}
		if (!again)
			let_go(report, lock);
		again = true;
		ended(m, pid < 0 ? FS_EXIT_SYSTEM << 8 : watch(m, pid));
	}
}
