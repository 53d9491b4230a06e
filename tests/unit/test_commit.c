/* Group commit with many threads: nobody is told that something is durable which is not,
 * nobody waits for ever, everybody is told of a failure, and syncs are shared. Built a
 * second time with ThreadSanitizer. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "file.h"

#define THREADS 24
#define ROUNDS	60

/* A disk that takes its time, and fails sometimes. */
struct disk {
	struct jsonl_io io; /* first: cast back */
	pthread_mutex_t lock;
	off_t durable; /* of the file, by syncs that worked */
	unsigned long begun, ended, failed;
	unsigned every; /* one sync in so many fails; 0: none */
};

static struct disk disk;
static struct jsonl_file *file;

static int slow_fdatasync(const struct jsonl_io *io, int fd)
{
	struct disk *d = (struct disk *)io;
	struct stat st;
	uint32_t scattered;
	bool fails;

	pthread_mutex_lock(&d->lock);
	/* Scattered, so that two in a row happen, too. */
	scattered = ((uint32_t)++d->begun * 2654435761u) >> 24;
	fails = d->every && scattered < 256 / d->every;
	pthread_mutex_unlock(&d->lock);
	if (jsonl_io_system.fstat(io, fd, &st))
		return -EIO;
	usleep(200);
	pthread_mutex_lock(&d->lock);
	d->ended++;
	if (fails)
		d->failed++;
	else if (st.st_size > d->durable)
		d->durable = st.st_size;
	pthread_mutex_unlock(&d->lock);
	return fails ? -EIO : 0;
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

static void *program_main(void *arg)
{
	struct program *p = arg;
	struct jsonl_file_user user = {0};

	for (int round = 0; round < ROUNDS; round++) {
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

static void run(unsigned every)
{
	struct jsonl_file_options opt = {
	    .maxrecord = 4096, .maxdepth = 8, .retain = true};
	struct program programs[THREADS] = {0};
	struct jsonl_file_state state;
	unsigned long ok = (unsigned long)THREADS * ROUNDS, were_told = 0;
	char path[] = "/tmp/jsonl-commit-XXXXXX";
	int fd = mkostemp(path, O_APPEND), look = dup(fd);

	disk = (struct disk){.io = jsonl_io_system, .every = every};
	disk.io.fdatasync = slow_fdatasync;
	pthread_mutex_init(&disk.lock, NULL);
	CHECK(fd >= 0 && look >= 0);
	CHECK(jsonl_file_new(&disk.io, open(path, O_RDONLY), &opt, &events, NULL,
			     &file) == 0);
	jsonl_file_set_append_fd(file, fd, true);
	unlink(path);
	for (int i = 0; i < THREADS; i++) {
		programs[i].number = i;
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
		ok -= programs[i].skipped;
	}
	jsonl_file_get_state(file, &state);
	CHECK(state.sync_failures <= disk.failed);
	/* At least the one who led is told of each failure in a round. */
	CHECK(were_told >= state.sync_failures);
	CHECK(every ||
	      (were_told == 0 && state.durable == state.appended && !state.retained));
	CHECK(state.syncs * 2 < ok, "%lu syncs for %lu appends",
	      (unsigned long)state.syncs, ok);
	printf("%lu appends, %lu syncs, %lu failed, %lu told, %lu asked to come again "
	       "later\n",
	       ok, (unsigned long)state.syncs, disk.failed, were_told,
	       (unsigned long)THREADS * ROUNDS - ok);
	jsonl_file_free(file);
	check_lines(look, ok);
	pthread_mutex_destroy(&disk.lock);
}

int main(void)
{
	alarm(100); /* a lost wake-up */
	run(0);
	run(7);
	run(2);
	return check_done();
}
