/* SPDX-License-Identifier: MIT */
/* The pool of threads, without a mount. */
#include "vault/deferred.h"

#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include "base/stamp.h"
#include "check.h"
#include "vault/vault.h"

#define ROUNDS 20

static struct fs_vault vault;
static sem_t begun, go, rang, passed;

static bool wait_for(sem_t *s, int ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ms / 1000;
	return sem_timedwait(s, &until) == 0;
}

static int block(struct fs_job *job, bool last)
{
	(void)job;
	sem_post(&begun);
	if (!last)
		CHECK(wait_for(&go, 10000));
	return 0;
}

static int ring(struct fs_job *job, bool last)
{
	(void)job;
	(void)last;
	sem_post(&rang);
	return 0;
}

static int pass(struct fs_job *job, bool last)
{
	(void)job;
	(void)last;
	sem_post(&passed);
	return 0;
}

static int wait_long(struct fs_job *job, bool last)
{
	(void)job;
	return last ? 0 : -EAGAIN;
}

/* A job that takes long begins while another one is not due yet: somebody else looks at
 * the clock from then on, although there are threads that look for what is due much
 * later. */
static void test_a_due_job_does_not_wait_for_a_long_one(void)
{
	struct fs_job later = {.run = wait_long, .timeout_ms = UINT32_MAX};
	struct fs_job idle[3];
	unsigned late = 0;

	for (unsigned k = 0; k < 3; k++) {
		idle[k] =
		    (struct fs_job){.run = block, .uid = k, .timeout_ms = UINT32_MAX};
		CHECK(fs_defer(&vault, &idle[k]) == 0);
	}
	for (unsigned k = 0; k < 3; k++)
		CHECK(wait_for(&begun, 10000));
	for (unsigned k = 0; k < 3; k++)
		sem_post(&go);
	later.not_before = jsonl_now_ms() + 3600000;
	CHECK(fs_defer(&vault, &later) == 0);
	for (unsigned k = 0; k < ROUNDS; k++) {
		const struct timespec pause = {.tv_nsec = 5000000};
		struct fs_job bell = {.run = ring, .uid = 1, .timeout_ms = UINT32_MAX};
		struct fs_job lengthy = {
		    .run = block, .uid = 2, .timeout_ms = UINT32_MAX};

		bell.not_before = jsonl_now_ms() + 50;
		CHECK(fs_defer(&vault, &bell) == 0);
		nanosleep(&pause, NULL);
		/* So that each of the threads is once the one that is woken next. */
		for (unsigned n = 0; n < k % 4; n++) {
			struct fs_job shortly = {
			    .run = pass, .uid = 3, .timeout_ms = UINT32_MAX};

			CHECK(fs_defer(&vault, &shortly) == 0 && wait_for(&passed, 10000));
			nanosleep(&pause, NULL);
		}
		CHECK(fs_defer(&vault, &lengthy) == 0 && wait_for(&begun, 10000));
		late += !wait_for(&rang, 1000);
		sem_post(&go);
		if (late) {
			/* It is freed with the round. */
			CHECK(wait_for(&rang, 10000));
			break;
		}
		nanosleep(&pause, NULL);
	}
	CHECK(!late, "a job that was due had to wait for one that takes long");
	CHECK(fs_defer_stop(&vault));
}

int main(void)
{
	sem_init(&begun, 0, 0);
	sem_init(&go, 0, 0);
	sem_init(&rang, 0, 0);
	sem_init(&passed, 0, 0);
	test_a_due_job_does_not_wait_for_a_long_one();
	return check_done();
}
