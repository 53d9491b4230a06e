/* SPDX-License-Identifier: MIT */
#include "base/lock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOCK_STEP_MS 10
#define TURN_SIGNAL  SIGURG /* a signal that is ignored where nobody handles it */
#define TURN_LOOK_MS 200

int fs_lock_wait(int fd, unsigned ms)
{
	const struct timespec pause = {.tv_nsec = LOCK_STEP_MS * 1000000L};

	for (unsigned waited = 0;; waited += LOCK_STEP_MS) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK || waited >= ms)
			return -errno;
		(void)nanosleep(&pause, NULL);
	}
}

static void turn_signal(int number)
{
	(void)number;
}

static void turn_init(void)
{
	struct sigaction action = {.sa_handler = turn_signal}; /* no SA_RESTART */

	sigemptyset(&action.sa_mask);
	(void)sigaction(TURN_SIGNAL, &action, NULL);
}

/* One wait. -EINTR: it is to be tried again. */
static int turn_once(int fd)
{
	const struct timespec pause = {.tv_nsec = LOCK_STEP_MS * 1000000L};

	if (flock(fd, LOCK_EX) == 0)
		return 0;
	/* A client of MooseFS may answer so at once, now and then. */
	if (errno != ECANCELED && errno != EAGAIN)
		return -errno;
	(void)nanosleep(&pause, NULL);
	return -EINTR;
}

/* Waits in flock(2), which only a signal can end. A timer sends it again and again,
 * since one could come just before the wait. */
int fs_lock_turn(int fd, bool (*stop)(void *ctx), void *ctx)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const struct itimerspec often = {{.tv_nsec = TURN_LOOK_MS * 1000000L},
					 {.tv_nsec = TURN_LOOK_MS * 1000000L}};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TURN_SIGNAL};
	timer_t timer;
	int rc;

	pthread_once(&once, turn_init);
	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
		return -errno;
	rc = timer_settime(timer, 0, &often, NULL) < 0 ? -errno : -EINTR;
	while (rc == -EINTR)
		rc = stop(ctx) ? -ECANCELED : turn_once(fd);
	(void)timer_delete(timer);
	return rc;
}
