/* SPDX-License-Identifier: MIT */
/* Prepares the process that serves: it inherits nothing harmful, keeps no privilege that
 * it does not need, and lets the mount command return when the mount works. */
#include "start/privileges.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "control/reload.h"
#include "start/exit.h"
#include "start/mount.h"
#include "start/mountpoint.h"
#include "tree/mount.h"
#include "vault/archive.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PROCESS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PROCESS_SANITIZED 1
#endif
#endif

#define PROCESS_DRAIN_SECONDS 2 /* then requests that still wait get an error */

#define PROCESS_OOM_SCORE                                                                \
	"-900" /* killed late: every writer of the vault depends on us */

/* Interrupts the thread that runs the session. */
#define PROCESS_WAKE	    SIGUSR2
#define PROCESS_WAKE_MILLIS 50

static struct {
	pthread_t thread, main;
	pthread_mutex_t lock; /* while it is held the session exists */
	struct fs_mount *m;
	bool ended; /* under lock */
	_Atomic int signal;
} process_signals = {.lock = PTHREAD_MUTEX_INITIALIZER};

void fs_daemon_descriptors(void)
{
	/* Or whoever reads a pipe of the caller would wait for us. */
	close_range(3, ~0U, 0);
	for (int fd = 0; fd <= 2; fd++) {
		/* open() returns the lowest free number: the one found closed. */
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", O_RDWR) != fd)
			_exit(FS_EXIT_SYSTEM);
	}
}

/* Raises a limit to the hard limit, and as root beyond it. */
static void raise_limit(__rlimit_resource_t resource, rlim_t wanted)
{
	struct rlimit now, more;

	if (getrlimit(resource, &now))
		return;
	more.rlim_cur = more.rlim_max = wanted;
	if ((now.rlim_max == RLIM_INFINITY || now.rlim_max >= wanted) ||
	    setrlimit(resource, &more)) {
		now.rlim_cur = now.rlim_max;
		setrlimit(resource, &now);
	}
}

static void protect_from_oom(void)
{
	cleanup_close int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	/* An ordinary user may not lower it; then it stays. */
	if (fd >= 0 && write(fd, PROCESS_OOM_SCORE, strlen(PROCESS_OOM_SCORE)) < 0)
		return;
}

void fs_daemon_limits(void)
{
	raise_limit(RLIMIT_FSIZE, RLIM_INFINITY);
	raise_limit(RLIMIT_NOFILE, 65536);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	/* Sent when somebody opens a file on which we have a lease. */
	signal(SIGIO, SIG_IGN);
	umask(0);
	/* Loads the library of pthread_cancel(3), with which libfuse ends its threads.
	 * At the first call it would be loaded then, and abort the daemon if no
	 * descriptor is free. Never released. */
	(void)dlopen("libgcc_s.so.1", RTLD_NOW);
	if (geteuid() == 0)
		protect_from_oom();
}

/* Waits in the parent, until the child writes one byte because it serves, or dies. */
static void wait_and_exit(pid_t child, int fd, const char *mountpoint)
{
	char byte;
	int status, r;
	ssize_t n;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1) {
		if (waitpid(child, &status, 0) == child && WIFEXITED(status))
			_exit(WEXITSTATUS(status));
		fprintf(stderr, "jsonlfs: died before the mount was up\n");
		_exit(FS_EXIT_BUG);
	}
	r = fs_mountpoint_probe(mountpoint);
	if (r)
		fprintf(stderr, "jsonlfs: %s was mounted, but does not answer: %s\n",
			mountpoint, jsonl_error_text(r));
	_exit(r ? FS_EXIT_MOUNT : FS_EXIT_OK);
}

int fs_daemon_fork(const char *mountpoint, int *report)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) == 0) {
		fflush(NULL);
		pid = fork();
		if (pid > 0) {
			close(ends[1]);
			wait_and_exit(pid, ends[0], mountpoint);
		}
		close(ends[0]);
		if (pid == 0) {
			*report = ends[1];
			setsid();
			return 0;
		}
		close(ends[1]);
	}
	fprintf(stderr, "jsonlfs: cannot start a process: %s\n",
		jsonl_error_text(-errno));
	return FS_EXIT_SYSTEM;
}

void fs_daemon_ready(int *report)
{
	int null;

	/* Also in the foreground: the vault itself may be the current directory. */
	if (chdir("/"))
		return;
	if (*report < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	/* A failure means that the parent is gone: it misses nothing. */
	if (write(*report, "", 1) != 1)
		errno = 0;
	close(*report);
	*report = -1;
}

/* Why each is needed: SYS_ADMIN backing files of kernel passthrough, trusted.*, unmount;
 * DAC_*, FOWNER, CHOWN, FSETID, SETUID, SETGID, MKNOD, SETFCAP, LINUX_IMMUTABLE do for
 * the callers what the kernel has already allowed them; LEASE finds writers that do not
 * come through the mount; SYS_PTRACE reads /proc/PID/exe of others for the writers
 * report. */
static const unsigned capabilities[] = {
    CAP_SYS_ADMIN,	 CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_CHOWN,
    CAP_FSETID,		 CAP_SETUID,	   CAP_SETGID,		CAP_MKNOD,  CAP_SETFCAP,
    CAP_LINUX_IMMUTABLE, CAP_LEASE,	   CAP_SYS_PTRACE,
};

static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	uint64_t mask = 0;

	for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
		mask |= UINT64_C(1) << capabilities[i];
	for (unsigned cap = 0; cap <= 63 && prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
		if (!(mask & (UINT64_C(1) << cap)))
			prctl(PR_CAPBSET_DROP, cap);
	}
	if (syscall(SYS_capget, &head, data))
		return;
	for (int i = 0; i < 2; i++) {
		data[i].permitted &= (uint32_t)(mask >> (32 * i));
		data[i].effective &= data[i].permitted;
		data[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &head, data))
		fprintf(stderr, "jsonlfs: cannot drop capabilities: %s\n",
			jsonl_error_text(-errno));
}

void fs_daemon_privileges(const struct fs_mount *m)
{
	if (m->vault.uid == 0) {
		/* They would count for every caller of ours. */
		if (setgroups(0, NULL))
			fprintf(stderr, "jsonlfs: cannot drop groups: %s\n",
				jsonl_error_text(-errno));
		drop_capabilities();
		/* Not as an ordinary user, for whom fusermount3, which is setuid,
		 * unmounts. */
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	}
#ifndef PROCESS_SANITIZED
	/* Our memory holds records of all users, so it is not dumped. With debugging it
	 * is: leak checkers attach to us. */
	if (!m->debug)
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

static void wake(int signal)
{
	(void)signal; /* only there to interrupt the system call in which main waits */
}

/* Wakes the main thread. False when the session has ended. */
static bool interrupt(void)
{
	bool ended;

	pthread_mutex_lock(&process_signals.lock);
	ended = process_signals.ended;
	if (!ended) {
		fuse_session_exit(process_signals.m->tree.se);
		pthread_kill(process_signals.main, PROCESS_WAKE);
	}
	pthread_mutex_unlock(&process_signals.lock);
	return !ended;
}

bool fs_daemon_reloads(const struct fs_mount *m, int signal)
{
	return signal == SIGHUP && m->vault.config.path;
}

static void reload(void)
{
	cleanup_free char *kept = NULL;
	cleanup_free char *error = NULL;

	/* The thread that ends the session waits for it. */
	pthread_mutex_lock(&process_signals.lock);
	if (!process_signals.ended)
		(void)!fs_reload(process_signals.m, &kept,
				 &error); /* it logs its result */
	pthread_mutex_unlock(&process_signals.lock);
}

/* Does periodic work, in the thread of the signals, which is idle. */
static void hourly(void)
{
	pthread_mutex_lock(&process_signals.lock);
	if (!process_signals.ended)
		fs_archive_expire(&process_signals.m->vault);
	pthread_mutex_unlock(&process_signals.lock);
}

static void *signals_run(void *arg)
{
	static const struct timespec hour = {.tv_sec = 3600};
	static const struct timespec pause = {.tv_nsec = PROCESS_WAKE_MILLIS * 1000000L};
	const sigset_t *set = arg;
	siginfo_t info;

	for (;;) {
		int signal = sigtimedwait(set, &info, &hour);

		if (signal < 0) {
			if (errno == EAGAIN)
				hourly();
			continue;
		}
		/* SIGHUP from the kernel means that our terminal is gone. */
		if (fs_daemon_reloads(process_signals.m, signal) &&
		    info.si_code != SI_KERNEL) {
			reload();
			continue;
		}
		process_signals.signal = signal;
		/* Repeated, because one signal could arrive just before main starts to
		 * wait. */
		while (interrupt())
			nanosleep(&pause, NULL);
	}
	return NULL;
}

int fs_daemon_signals(struct fs_mount *m)
{
	static sigset_t set;
	struct sigaction action = {.sa_handler = wake}; /* no SA_RESTART */
	int r;

	sigemptyset(&action.sa_mask);
	sigaction(PROCESS_WAKE, &action, NULL);
	/* The caller may have blocked and ignored whatever it liked. */
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	process_signals.m = m;
	process_signals.main = pthread_self();
	r = pthread_create(&process_signals.thread, NULL, signals_run, &set);
	if (r)
		fprintf(stderr, "jsonlfs: cannot start a thread: %s\n",
			jsonl_error_text(-r));
	return r ? FS_EXIT_SYSTEM : 0;
}

int fs_daemon_signals_end(void)
{
	pthread_mutex_lock(&process_signals.lock);
	process_signals.ended = true;
	pthread_mutex_unlock(&process_signals.lock);
	signal(PROCESS_WAKE, SIG_IGN);
	return process_signals.signal;
}

bool fs_daemon_severed(struct fuse_session *se)
{
	struct pollfd pfd = {.fd = fuse_session_fd(se)};

	return poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLERR);
}

struct drain_watch {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done; /* under lock */
	struct fuse_session *se;
	const char *mountpoint, *device;
};

static void *drain_watch_run(void *arg)
{
	struct drain_watch *w = arg;
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PROCESS_DRAIN_SECONDS;
	pthread_mutex_lock(&w->lock);
	while (!w->done && r == 0)
		r = pthread_cond_timedwait(&w->cond, &w->lock, &until);
	/* Once it is unmounted the device number may be that of another mount. */
	if (!w->done && !fs_daemon_severed(w->se))
		fs_mountpoint_abort(w->mountpoint, w->device);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

void fs_daemon_drain(struct fs_mount *m, const char *device)
{
	struct drain_watch w = {.lock = PTHREAD_MUTEX_INITIALIZER,
				.cond = PTHREAD_COND_INITIALIZER,
				.se = m->tree.se,
				.mountpoint = m->vault.mountpoint,
				.device = device};
	pthread_t thread;
	bool watched = pthread_create(&thread, NULL, drain_watch_run, &w) == 0;

	fs_mount_drain(m);
	pthread_mutex_lock(&w.lock);
	w.done = true;
	pthread_cond_signal(&w.cond);
	pthread_mutex_unlock(&w.lock);
	if (watched)
		pthread_join(thread, NULL);
}
