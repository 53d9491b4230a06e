/* SPDX-License-Identifier: MIT */
/* Processes that append records in the ways that programs do, and note in a ledger
 * (ledger.h) what they were told; with -k they are killed at random, each when it is
 * somewhere in the middle.
 *
 *   writers LEDGER DIR [-w WRITERS] [-p AT_ONCE] [-n RECORDS] [-f FILES] [-s BYTES]
 *           [-m MODES] [-t SECONDS] [-k KILLS] [-e] [-r SEED]
 *
 * Writer W appends its RECORDS to DIR/log(W % FILES).jsonl in the manner that the letter
 * of MODES at W says:
 *
 *   a  open, a record, close
 *   m  open, five at once, close
 *   p  open, a record in three, close
 *   n  open, a record without its newline, close
 *   f  a descriptor, fsync after each record
 *   h  a descriptor, close after 64 records
 *   b  a descriptor, blocks of 4,096 bytes, close after 64 records
 *
 * -e: a writer ends at its first error. When the mount is gone it always does. Prints one
 * line: how many writers, kills and errors. */
#include "ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE_MAX 1024
#define BATCH	    64 /* records to a descriptor that is held */
#define TOGETHER    5
#define BLOCK	    4096
#define KILL_US	    1200 /* between two kills, at most */

static struct ledger *ledger;
static const char *dir, *modes = "ampnfhb";
static bool first_error_ends;

static void die(const char *what)
{
	fprintf(stderr, "writers: %s: %m\n", what);
	exit(2);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- one writer ---- */

struct writer {
	uint32_t number, next, open; /* [open, next): told nothing durable about */
	int fd;
	char *buf;
};

static void mark(const struct writer *w, uint32_t from, uint32_t to, enum ledger_state s)
{
	for (uint32_t n = from; n < to; n++)
		ledger->state[(size_t)w->number * ledger->records + n] = s;
}

static bool gone(int e)
{
	return e == ENOTCONN || e == ECONNABORTED;
}

/* An error has been heard. */
static void heard(void)
{
	int e = errno;

	if (e > 0 && e < (int)(sizeof(ledger->errors) / sizeof(ledger->errors[0])))
		__atomic_fetch_add(&ledger->errors[e], 1, __ATOMIC_RELAXED);
	if (first_error_ends || gone(e) || e == EROFS)
		_exit(1);
	usleep(500);
}

static bool writer_open(struct writer *w)
{
	char path[4096];

	if (w->fd >= 0)
		return true;
	snprintf(path, sizeof(path), "%s/log%u.jsonl", dir, w->number % ledger->files);
	w->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (w->fd < 0)
		heard();
	w->open = w->next;
	return w->fd >= 0;
}

/* What is written so far is durable, or the error has been told. */
static void settle(struct writer *w, bool good)
{
	for (uint32_t n = w->open; n < w->next; n++) {
		_Atomic uint8_t *s =
		    &ledger->state[(size_t)w->number * ledger->records + n];

		if (*s == LEDGER_WRITTEN || *s == LEDGER_PART)
			*s = good ? LEDGER_DURABLE : LEDGER_TOLD;
	}
	w->open = w->next;
}

static void writer_close(struct writer *w)
{
	int rc;

	if (w->fd < 0)
		return;
	rc = close(w->fd);
	w->fd = -1;
	settle(w, rc == 0);
	if (rc)
		heard();
}

/* Records [next, next + count) have been tried with these bytes, which end with the last
 * of them or, when `part`, in its middle. */
static bool put(struct writer *w, uint32_t count, const char *data, size_t len, bool part)
{
	ssize_t n = write(w->fd, data, len);
	bool good = n == (ssize_t)len;

	if (!good) {
		/* Some of a request that came back short is there; who dies before it has
		 * answered may have done it. */
		if (n >= 0)
			errno = ENOSPC;
		mark(w, w->next, w->next + count,
		     n > 0 || gone(errno) ? LEDGER_TRIED : LEDGER_REFUSED);
		heard();
		return false;
	}
	mark(w, w->next, w->next + count, part ? LEDGER_PART : LEDGER_WRITTEN);
	return true;
}

static void one(struct writer *w)
{
	unsigned len = ledger_record(ledger, w->number, w->next, w->buf);

	mark(w, w->next, w->next + 1, LEDGER_TRIED);
	if (!writer_open(w)) {
		mark(w, w->next, w->next + 1, LEDGER_REFUSED);
		w->next++;
		return;
	}
	put(w, 1, w->buf, len, false);
	w->next++;
}

static void several(struct writer *w)
{
	size_t len = 0;
	uint32_t count = 0;

	for (; count < TOGETHER && w->next + count < ledger->records; count++)
		len += ledger_record(ledger, w->number, w->next + count, w->buf + len);
	mark(w, w->next, w->next + count, LEDGER_TRIED);
	if (writer_open(w))
		put(w, count, w->buf, len, false);
	else
		mark(w, w->next, w->next + count, LEDGER_REFUSED);
	w->next += count;
	writer_close(w);
}

static void pieces(struct writer *w)
{
	unsigned len = ledger_record(ledger, w->number, w->next, w->buf);
	unsigned second = LEDGER_HEAD + (len - LEDGER_HEAD) / 2;

	mark(w, w->next, w->next + 1, LEDGER_TRIED);
	if (writer_open(w)) {
		if (put(w, 1, w->buf, LEDGER_HEAD, true) &&
		    put(w, 1, w->buf + LEDGER_HEAD, second - LEDGER_HEAD, true))
			put(w, 1, w->buf + second, len - second, false);
	} else {
		mark(w, w->next, w->next + 1, LEDGER_REFUSED);
	}
	w->next++;
	writer_close(w);
}

static void no_newline(struct writer *w)
{
	unsigned len = ledger_record(ledger, w->number, w->next, w->buf);

	mark(w, w->next, w->next + 1, LEDGER_TRIED);
	if (writer_open(w))
		put(w, 1, w->buf, len - 1, true);
	else
		mark(w, w->next, w->next + 1, LEDGER_REFUSED);
	w->next++;
	writer_close(w);
}

static void synced(struct writer *w)
{
	one(w);
	if (w->fd < 0)
		return;
	if (fsync(w->fd)) {
		settle(w, false);
		heard();
	} else {
		settle(w, true);
	}
}

static void held(struct writer *w)
{
	one(w);
	if (w->next % BATCH == 0)
		writer_close(w);
}

/* As stdio does it: a block is cut where it is full. What begins in one block and ends in
 * the next was accepted in part. A block that fails is dropped: what began in it is then
 * never finished, so the rest of that record is left out, too. */
static void blocks(struct writer *w)
{
	uint32_t count = 0;
	size_t len = 0, sent = 0;

	if (!writer_open(w)) {
		mark(w, w->next, w->next + 1, LEDGER_REFUSED);
		w->next++;
		return;
	}
	for (; count < BATCH && w->next + count < ledger->records; count++)
		len += ledger_record(ledger, w->number, w->next + count, w->buf + len);
	mark(w, w->next, w->next + count, LEDGER_TRIED);
	while (sent < len) {
		size_t size = len - sent < BLOCK ? len - sent : BLOCK;
		uint32_t whole = 0;
		size_t at = sent + size;
		const char *end = memrchr(w->buf + sent, '\n', size);
		const char *next = end ? end + 1 : w->buf + sent;

		for (const char *p = w->buf + sent; end && p <= end; p++)
			whole += *p == '\n';
		if (write(w->fd, w->buf + sent, size) != (ssize_t)size) {
			int e = errno;

			writer_close(w); /* what was accepted in part stays so */
			w->next = ledger->records;
			errno = e;
			heard();
			return;
		}
		mark(w, w->next, w->next + whole, LEDGER_WRITTEN);
		w->next += whole;
		count -= whole;
		if (count && w->buf + at - next >= LEDGER_HEAD)
			mark(w, w->next, w->next + 1, LEDGER_PART);
		sent = at;
	}
	w->next += count;
	writer_close(w);
}

static void write_all(uint32_t number)
{
	struct writer w = {.number = number, .fd = -1};

	w.buf = malloc((size_t)ledger_longest(ledger) * BATCH + 64);
	if (!w.buf)
		die("memory");
	while (w.next < ledger->records && !ledger->stop) {
		switch (modes[number % strlen(modes)]) {
		case 'a':
			one(&w);
			writer_close(&w);
			break;
		case 'm':
			several(&w);
			break;
		case 'p':
			pieces(&w);
			break;
		case 'n':
			no_newline(&w);
			break;
		case 'f':
			synced(&w);
			break;
		case 'h':
			held(&w);
			break;
		case 'b':
			blocks(&w);
			break;
		default:
			die("no such mode");
		}
	}
	writer_close(&w);
	_exit(0);
}

/* ---- all of them ---- */

static pid_t start(uint32_t number)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	write_all(number);
	return 0;
}

struct run {
	uint32_t at_once, started, ended;
	uint32_t kills, killed, failed;
	double until;
	pid_t pids[AT_ONCE_MAX];
};

static void reap(struct run *r, bool wait)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, wait ? 0 : WNOHANG)) > 0) {
		for (uint32_t i = 0; i < r->at_once; i++)
			if (r->pids[i] == pid)
				r->pids[i] = 0;
		r->ended++;
		r->killed += WIFSIGNALED(status);
		r->failed += !WIFSIGNALED(status) && WEXITSTATUS(status) != 0;
		wait = false;
	}
}

static bool step(struct run *r)
{
	bool more = r->started < ledger->writers && (!r->kills || r->killed < r->kills) &&
		    !ledger->stop;

	for (uint32_t i = 0; more && i < r->at_once && r->started < ledger->writers; i++)
		if (!r->pids[i])
			r->pids[i] = start(r->started++);
	if (r->until > 0 && now() >= r->until)
		ledger->stop = 1;
	if (!r->kills) {
		reap(r, r->until == 0);
		if (r->until > 0)
			usleep(2000);
	} else {
		pid_t pid;

		usleep((unsigned)(random() % KILL_US));
		pid = r->pids[random() % r->at_once];
		if (pid > 0 && more)
			kill(pid, SIGKILL);
		if (!more)
			ledger->stop = 1;
		reap(r, !more);
	}
	return more || r->ended < r->started;
}

static void map(const char *path, const struct ledger *head)
{
	size_t size = sizeof(*head) + (size_t)head->writers * head->records;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || ftruncate(fd, (off_t)size))
		die(path);
	ledger = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ledger == MAP_FAILED)
		die(path);
	memcpy(ledger, head, sizeof(*head));
}

static uint32_t number_of(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || end == text || n > UINT32_MAX)
		die(text);
	return (uint32_t)n;
}

static void print(const struct run *r)
{
	printf("{\"writers\":%u,\"killed\":%u,\"failed\":%u,\"errors\":{", r->ended,
	       r->killed, r->failed);
	for (unsigned e = 0, any = 0;
	     e < sizeof(ledger->errors) / sizeof(ledger->errors[0]); e++)
		if (ledger->errors[e])
			printf("%s\"%s\":%u", any++ ? "," : "", strerrorname_np((int)e),
			       ledger->errors[e]);
	printf("}}\n");
}

int main(int argc, char **argv)
{
	struct ledger head = {.writers = 8, .records = 1000, .files = 1, .size = 100};
	struct run r = {.at_once = 8};
	double seconds = 0;
	unsigned seed = 1;

	for (int c; (c = getopt(argc, argv, "w:p:n:f:s:m:t:k:er:")) != -1;) {
		switch (c) {
		case 'w':
			head.writers = number_of(optarg);
			break;
		case 'p':
			r.at_once = number_of(optarg);
			break;
		case 'n':
			head.records = number_of(optarg);
			break;
		case 'f':
			head.files = number_of(optarg);
			break;
		case 's':
			head.size = number_of(optarg);
			break;
		case 'm':
			modes = optarg;
			break;
		case 't':
			seconds = strtod(optarg, NULL);
			break;
		case 'k':
			r.kills = number_of(optarg);
			break;
		case 'e':
			first_error_ends = true;
			break;
		case 'r':
			seed = number_of(optarg);
			break;
		default:
			return 2;
		}
	}
	if (argc - optind != 2 || !r.at_once || r.at_once > AT_ONCE_MAX || !*modes) {
		fprintf(stderr, "usage: writers [OPTION...] LEDGER DIR\n");
		return 2;
	}
	dir = argv[optind + 1];
	map(argv[optind], &head);
	srandom(seed);
	r.until = seconds > 0 ? now() + seconds : 0;
	while (step(&r))
		;
	print(&r);
	return 0;
}
