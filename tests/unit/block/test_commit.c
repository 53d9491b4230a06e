/* SPDX-License-Identifier: MIT */
/* Group commit with many threads: nobody is told that something is durable which is not,
 * nobody waits for ever, everybody is told of a failure, and syncs are shared. With
 * `slowly` threads sleep where a machine under load may leave them; with `blocks` some of
 * them append as transactions, which sync by themselves. Built a second time with
 * ThreadSanitizer. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "block/commit.h"
#include "file/file_internal.h"

#define THREADS 24
#define ROUNDS	60

/* A disk that takes its time, and fails sometimes. */
struct disk {
	struct jsonl_io io; /* first: cast back */
	pthread_mutex_t lock;
	off_t durable; /* of the file, by syncs that worked */
	unsigned long begun, ended, failed;
	unsigned every; /* one sync in so many fails; 0: none */
	int fd;		/* of the file */
	unsigned now;	/* syncs of it that are under way */
	bool together;	/* there were two */
};

static struct disk disk;
static struct jsonl_file *file;
static bool slowly;

static void sleep_if_slow(void)
{
	static _Atomic uint32_t n;

	if (slowly)
		usleep((++n * 2654435761u) >> 19); /* up to 8 ms */
}

static int slow_fdatasync(const struct jsonl_io *io, int fd)
{
	struct disk *d = (struct disk *)io;
	struct stat st;
	uint32_t scattered;
	bool fails;

	if (fd != d->fd)
		return 0; /* an intent */
	pthread_mutex_lock(&d->lock);
	/* A disk tells of a page that it lost once: only one sync may be there to hear.
	 */
	d->together |= d->now++;
	/* Scattered, so that two in a row happen, too. */
	scattered = ((uint32_t)++d->begun * 2654435761u) >> 24;
	fails = d->every && scattered < 256 / d->every;
	pthread_mutex_unlock(&d->lock);
	if (jsonl_io_system.fstat(io, fd, &st))
		return -EIO;
	/* Long enough for others to append meanwhile, on a busy machine, too. */
	usleep(2000);
	pthread_mutex_lock(&d->lock);
	d->now--;
	d->ended++;
	if (fails)
		d->failed++;
	else if (st.st_size > d->durable)
		d->durable = st.st_size;
	pthread_mutex_unlock(&d->lock);
	sleep_if_slow();
	return fails ? -EIO : 0;
}

static int cutting_ftruncate(const struct jsonl_io *io, int fd, off_t size)
{
	struct disk *d = (struct disk *)io;

	pthread_mutex_lock(&d->lock);
	if (fd == d->fd && size < d->durable)
		d->durable = size;
	pthread_mutex_unlock(&d->lock);
	return jsonl_io_system.ftruncate(io, fd, size);
}

static off_t durable_now(unsigned long *ended)
{
	off_t size;

	pthread_mutex_lock(&disk.lock);
	size = disk.durable;
	*ended = disk.ended;
	pthread_mutex_unlock(&disk.lock);
	return size;
}

static int set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
		     int niov, off_t at, uint64_t offset)
{
	return 0;
}

static void report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
}

static const struct jsonl_file_events events = {.set_aside = set_aside, .report = report};

/* ---- one program ---- */

struct waiting {
	struct jsonl_waiter waiter; /* first: cast back */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned answers;
	int rc;
};

static void waiting_done(struct jsonl_waiter *w, int rc)
{
	struct waiting *p = (struct waiting *)w;

	pthread_mutex_lock(&p->lock);
	p->answers++;
	p->rc = rc;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

/* As the file system does it: queue, lead when asked to, be answered by whoever leads. */
static int wait_forced(struct jsonl_file_user *user)
{
	struct waiting p = {.waiter.done = waiting_done,
			    .lock = PTHREAD_MUTEX_INITIALIZER,
			    .cond = PTHREAD_COND_INITIALIZER};
	enum jsonl_wait how = jsonl_file_wait(file, user, true, &p.waiter, &p.rc);

	if (how == JSONL_WAIT_DONE)
		return p.rc;
	if (how == JSONL_WAIT_LEAD)
		jsonl_file_lead(file);
	pthread_mutex_lock(&p.lock);
	while (!p.answers)
		pthread_cond_wait(&p.cond, &p.lock);
	pthread_mutex_unlock(&p.lock);
	return p.answers == 1 ? p.rc : -EPROTO;
}

struct program {
	pthread_t thread;
	int number;
	unsigned long wrong, told, skipped;
	struct jsonl_intent intent; /* without a descriptor it appends record by record */
	unsigned long blocks;
};

static void program_step(struct program *p, struct jsonl_file_user *user, int round)
{
	bool force = (p->number + round) % 3 == 0;
	unsigned long before = 0, after = 0;
	char line[64];
	struct iovec iov = {.iov_base = line};
	off_t end;
	int rc;

	iov.iov_len = (size_t)snprintf(line, sizeof(line), "{\"p\":%d,\"n\":%d}\n",
				       p->number, round);
	rc = jsonl_file_append(file, &iov, 1, user, &end);
	if (rc) {
		/* Poisoned, and the disk failed once more while it was looked at. */
		p->skipped++;
		p->wrong += rc != -EIO;
		return;
	}
	if (jsonl_file_wants_sync(file, false))
		jsonl_file_lead(file);
	rc = force ? wait_forced(user) : jsonl_file_sync(file, user);
	if (rc == -EIO) {
		p->told++;
		return;
	}
	sleep_if_slow();
	p->wrong += rc || durable_now(&before) < end;
	/* A sync for somebody else may have served the first fsync after an append; one
	 * with nothing of its own to wait for asks the disk. */
	if (!force)
		return;
	rc = wait_forced(user);
	if (rc == -EIO)
		p->told++;
	else
		p->wrong += rc || durable_now(&after) < end || after == before;
}

/* Both records of a transaction, or none. */
static void program_block(struct program *p, struct jsonl_file_user *user, int round)
{
	struct jsonl_transaction c = {.io = &disk.io,
				      .intent = &p->intent,
				      .path = "log.jsonl",
				      .durable = true,
				      .records = 2};
	struct jsonl_stage *stage;
	char line[128];
	struct iovec iov = {.iov_base = line};
	int rc;

	iov.iov_len = (size_t)snprintf(line, sizeof(line),
				       "{\"p\":%d,\"n\":%d}\n{\"p\":%d,\"n\":%d}\n",
				       p->number, 2 * round, p->number, 2 * round + 1);
	rc = jsonl_stage_new(&disk.io, -1, "stage", c.path, NULL, NULL, &stage);
	if (!rc)
		rc = jsonl_stage_add(stage, &iov, 1);
	if (!rc)
		rc = jsonl_commit_run(&c, file, stage, user);
	jsonl_stage_free(stage);
	p->blocks += !rc;
	p->told += rc == -EIO;
	p->wrong += rc && rc != -EIO;
}

static void *program_main(void *arg)
{
	struct program *p = arg;
	struct jsonl_file_user user = {0};

	for (int round = 0; round < ROUNDS; round++) {
		if (p->intent.fd >= 0) {
			program_block(p, &user, round);
			continue;
		}
		program_step(p, &user, round);
		/* A new handle now and then. */
		if (round % 10 == 9)
			user = (struct jsonl_file_user){0};
	}
	return NULL;
}

/* ---- all of them ---- */

static void check_lines(int fd, unsigned long expected)
{
	int next[THREADS] = {0};
	unsigned long lines = 0;
	FILE *f = fdopen(fd, "r");
	char line[128];
	int p, n;

	rewind(f);
	while (fgets(line, sizeof(line), f)) {
		if (!CHECK(sscanf(line, "{\"p\":%d,\"n\":%d}", &p, &n) == 2 && p >= 0 &&
			       p < THREADS && n >= next[p],
			   "%s", line))
			break;
		next[p] = n + 1;
		lines++;
	}
	CHECK(lines == expected, "%lu of %lu", lines, expected);
	fclose(f);
}

static int scratch_file(void)
{
	char path[] = "/tmp/jsonl-intent-XXXXXX";
	int fd = mkostemp(path, O_APPEND);

	CHECK(fd >= 0 && unlink(path) == 0);
	return fd;
}

static void run(unsigned every, bool blocks)
{
	struct jsonl_file_options opt = {
	    .maxrecord = 4096, .maxdepth = 8, .retain = true};
	struct program programs[THREADS] = {0};
	struct jsonl_file_state state;
	unsigned long ok = 0, were_told = 0, in_blocks = 0;
	uint64_t failures;
	char path[] = "/tmp/jsonl-commit-XXXXXX";
	int fd = mkostemp(path, O_APPEND), look = dup(fd);

	disk = (struct disk){.io = jsonl_io_system, .every = every, .fd = fd};
	disk.io.fdatasync = disk.io.fsync = slow_fdatasync;
	disk.io.ftruncate = cutting_ftruncate;
	pthread_mutex_init(&disk.lock, NULL);
	CHECK(fd >= 0 && look >= 0);
	CHECK(jsonl_file_new(&disk.io, open(path, O_RDONLY), &opt, &events, NULL,
			     &file) == 0);
	jsonl_file_set_append_fd(file, fd, true);
	unlink(path);
	for (int i = 0; i < THREADS; i++) {
		programs[i].number = i;
		programs[i].intent.fd = blocks && i % 4 == 0 ? scratch_file() : -1;
		CHECK(pthread_create(&programs[i].thread, NULL, program_main,
				     &programs[i]) == 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(programs[i].thread, NULL);
	for (int i = 0; i < THREADS; i++) {
		CHECK(programs[i].wrong == 0, "program %d: %lu answers were wrong", i,
		      programs[i].wrong);
		CHECK(programs[i].told <= disk.failed);
		were_told += programs[i].told;
		in_blocks += 2 * programs[i].blocks;
		if (programs[i].intent.fd >= 0)
			close(programs[i].intent.fd);
		else
			ok += ROUNDS - programs[i].skipped;
	}
	CHECK(!disk.together);
	jsonl_file_get_state(file, &state);
	failures = file->nfailures ? file->failures[file->nfailures - 1].number : 0;
	CHECK(failures <= disk.failed);
	/* At least the one who led is told of each failure in a round. */
	CHECK(were_told >= failures);
	CHECK(every ||
	      (were_told == 0 && state.durable == state.appended && !file->kept_len));
	CHECK(blocks ? in_blocks > 0 : state.syncs * 2 < ok, "%lu syncs for %lu appends",
	      (unsigned long)state.syncs, ok);
	printf("%lu appends, %lu records in blocks, %lu syncs, %lu failed, %lu told\n",
	       ok, in_blocks, (unsigned long)state.syncs, disk.failed, were_told);
	jsonl_file_free(file);
	check_lines(look, ok + in_blocks);
	pthread_mutex_destroy(&disk.lock);
}

/* ---- a block beside a sync that fails ---- */

static struct jsonl_file_user neighbour;
static unsigned neighbour_syncs;

static int first_fails(const struct jsonl_io *io, int fd)
{
	return fd == disk.fd && neighbour_syncs++ == 0 ? -EIO : 0;
}

/* When the block has been written, and before it is synced, the sync of another program's
 * record fails: it takes the pages of both along, and the next one has nothing to say. */
static ssize_t writes_and_loses(const struct jsonl_io *io, int fd,
				const struct iovec *iov, int n)
{
	ssize_t got = jsonl_io_system.writev(io, fd, iov, n);

	if (fd == disk.fd && neighbour.last && !neighbour_syncs)
		CHECK(jsonl_file_sync(file, &neighbour) == -EIO);
	return got;
}

static void test_block_beside_a_sync_that_fails(void)
{
	struct jsonl_file_options opt = {
	    .maxrecord = 4096, .maxdepth = 8, .retain = true};
	struct iovec iov = {.iov_base = "{\"n\":1}\n", .iov_len = 8};
	struct program p = {.intent.fd = scratch_file()};
	struct jsonl_file_user user = {0};
	char path[] = "/tmp/jsonl-commit-XXXXXX";
	int fd = mkostemp(path, O_APPEND);
	struct stat st;

	disk = (struct disk){.io = jsonl_io_system, .fd = fd};
	disk.io.fdatasync = disk.io.fsync = first_fails;
	disk.io.writev = writes_and_loses;
	CHECK(jsonl_file_new(&disk.io, open(path, O_RDONLY), &opt, &events, NULL,
			     &file) == 0);
	jsonl_file_set_append_fd(file, fd, true);
	unlink(path);
	CHECK(jsonl_file_append(file, &iov, 1, &neighbour, NULL) == 0);
	program_block(&p, &user, 0);
	CHECK(neighbour_syncs > 1 && p.told == 1 && !p.blocks && !p.wrong);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 8);
	program_block(&p, &user, 1);
	CHECK(p.told == 1 && p.blocks == 1 && !p.wrong);
	jsonl_file_free(file);
	close(p.intent.fd);
}

int main(void)
{
	alarm(100); /* a lost wake-up */
	test_block_beside_a_sync_that_fails();
	run(0, false);
	run(7, false);
	run(2, false);
	run(0, true);
	run(4, true);
	slowly = true;
	run(4, false);
	run(4, true);
	return check_done();
}
