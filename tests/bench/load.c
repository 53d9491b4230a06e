/* SPDX-License-Identifier: MIT */
/* The loads that the benchmarks put on a directory: some processes that do one small
 * thing over and over for a given time. Prints one JSON object: how many, how fast, and
 * how long one took in the middle, at the worst hundredth and at the worst.
 *
 *   load append DIR [-w WRITERS] [-f FILES] [-n HANDLES] [-s BYTES] [-m STEPS]
 *   load read|random FILE [-b BLOCK]
 *   load write FILE [-b BLOCK] [-s FILESIZE]
 *   load stat|open|listxattr|create DIR [-f FILES]
 * and for each -t SECONDS; or, of append, -c COUNT: so many appends of each writer, to
 * the files in turn.
 *
 * STEPS are letters: o open, l flock, w write a record, f fsync, u unlock, c close.
 * Without an o, HANDLES handles are opened beforehand and take turns. Nothing may fail:
 * the first error ends the program with status 1. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define WRITERS_MAX 1024
/* Durations in classes of less than one percent: so many for each power of two. */
#define CLASSES_PER_OCTAVE 128
#define OCTAVES		   40

struct worker {
	uint64_t ops, bytes;
	double seconds;
	uint32_t classes[OCTAVES * CLASSES_PER_OCTAVE];
};

struct shared {
	_Atomic int ready;
	struct worker workers[];
};

struct load {
	const char *mode, *path, *steps;
	int writers, files, handles;
	size_t size, block;
	double seconds;
	uint64_t most; /* appends of a writer; 0: for so many seconds */
	/* Of one worker: */
	int number;
	int start; /* a pipe that is at its end when all are ready */
	uint64_t count;
	int *fds;
	char *buf;
	off_t length, offset;
	uint64_t seed;
	int batch; /* operations between two looks at the clock */
};

static void die(const char *what, const char *path)
{
	fprintf(stderr, "load: %s %s: %m\n", what, path);
	_exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- appending ---- */

static void append_name(const struct load *l, char *buf, size_t size)
{
	uint64_t turn = l->most ? l->count * (uint64_t)l->writers : 0;

	snprintf(buf, size, "%s/log%d.jsonl", l->path,
		 (int)(((uint64_t)l->number + turn) % (uint64_t)l->files));
}

static int append_open(const struct load *l)
{
	char name[4096];
	int fd;

	append_name(l, name, sizeof(name));
	fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		die("open", name);
	return fd;
}

static void append_begin(struct load *l)
{
	if (l->size < 48)
		l->size = 48;
	l->buf = malloc(l->size + 1);
	l->fds = calloc((size_t)l->handles, sizeof(int));
	if (!l->buf || !l->fds)
		die("memory", "");
	memset(l->buf, 'x', l->size);
	l->batch = 1;
	if (strchr(l->steps, 'o'))
		return;
	for (int i = 0; i < l->handles; i++)
		l->fds[i] = append_open(l);
}

/* {"w":0003,"n":0000000012,"pad":"xxx...xxx"} */
static void append_record(struct load *l)
{
	int n = snprintf(l->buf, l->size, "{\"w\":%d,\"n\":%llu,\"pad\":\"",
			 1000 + l->number, 1000000000ULL + (unsigned long long)l->count);

	l->buf[n] = 'x';
	memcpy(l->buf + l->size - 3, "\"}\n", 3);
}

static size_t append_step(struct load *l)
{
	int *fd = &l->fds[l->count % (uint64_t)l->handles];
	int r = 0;

	append_record(l);
	for (const char *s = l->steps; *s && !r; s++) {
		switch (*s) {
		case 'o':
			*fd = append_open(l);
			break;
		case 'l':
			r = flock(*fd, LOCK_EX);
			break;
		case 'w':
			r = write(*fd, l->buf, l->size) == (ssize_t)l->size ? 0 : -1;
			break;
		case 'f':
			r = fsync(*fd);
			break;
		case 'u':
			r = flock(*fd, LOCK_UN);
			break;
		default:
			r = close(*fd);
			break;
		}
		if (r)
			die(s, l->path);
	}
	return l->size;
}

/* ---- reading and writing one file ---- */

static void file_begin(struct load *l)
{
	bool writing = strcmp(l->mode, "write") == 0;
	struct stat st;

	l->batch = l->block >= 65536 ? 1 : 64;
	l->buf = aligned_alloc(4096, (l->block + 4095) & ~(size_t)4095);
	l->fds = calloc(1, sizeof(int));
	if (!l->buf || !l->fds)
		die("memory", "");
	memset(l->buf, 'x', l->block);
	l->fds[0] =
	    open(l->path, writing ? O_WRONLY | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC,
		 0644);
	if (l->fds[0] < 0 || fstat(l->fds[0], &st))
		die("open", l->path);
	l->length = writing ? (off_t)l->size : st.st_size;
	if (l->length < (off_t)l->block) {
		errno = EINVAL;
		die("length", l->path);
	}
	l->seed = (uint64_t)l->number + 1;
}

static size_t read_step(struct load *l)
{
	ssize_t n = read(l->fds[0], l->buf, l->block);

	if (n < 0)
		die("read", l->path);
	if (n == 0 && lseek(l->fds[0], 0, SEEK_SET))
		die("lseek", l->path);
	return (size_t)n;
}

static size_t random_step(struct load *l)
{
	off_t blocks = l->length / (off_t)l->block;
	ssize_t n;

	l->seed = l->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	n = pread(l->fds[0], l->buf, l->block,
		  (off_t)((l->seed >> 33) % (uint64_t)blocks) * (off_t)l->block);
	if (n != (ssize_t)l->block)
		die("pread", l->path);
	return (size_t)n;
}

/* Over and over the same length, so that writing back does not become the measure. */
static size_t write_step(struct load *l)
{
	if (l->offset + (off_t)l->block > l->length) {
		l->offset = 0;
		if (lseek(l->fds[0], 0, SEEK_SET))
			die("lseek", l->path);
	}
	if (write(l->fds[0], l->buf, l->block) != (ssize_t)l->block)
		die("write", l->path);
	l->offset += (off_t)l->block;
	return l->block;
}

/* ---- names ---- */

static void names_begin(struct load *l)
{
	l->batch = 16;
}

static const char *name_of_step(struct load *l, char *buf, size_t size)
{
	snprintf(buf, size, "%s/f%d", l->path, (int)(l->count % (uint64_t)l->files));
	return buf;
}

static size_t stat_step(struct load *l)
{
	char name[4096];
	struct stat st;

	if (stat(name_of_step(l, name, sizeof(name)), &st))
		die("stat", name);
	return 0;
}

static size_t open_step(struct load *l)
{
	char name[4096];
	int fd = open(name_of_step(l, name, sizeof(name)), O_RDONLY | O_CLOEXEC);

	if (fd < 0 || close(fd))
		die("open", name);
	return 0;
}

/* As ls -l: does it have any? */
static size_t listxattr_step(struct load *l)
{
	char name[4096], list[256];

	if (listxattr(name_of_step(l, name, sizeof(name)), list, sizeof(list)) < 0)
		die("listxattr", name);
	return 0;
}

static size_t create_step(struct load *l)
{
	char name[4096];
	int fd;

	snprintf(name, sizeof(name), "%s/new%d.%d", l->path, l->number,
		 (int)(l->count % 64));
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, "0123456789\n", 11) != 11 || close(fd) || unlink(name))
		die("create", name);
	return 11;
}

static const struct mode {
	const char *name;
	void (*begin)(struct load *l);
	size_t (*step)(struct load *l);
} modes[] = {
    {"append", append_begin, append_step}, {"read", file_begin, read_step},
    {"random", file_begin, random_step},   {"write", file_begin, write_step},
    {"stat", names_begin, stat_step},	   {"open", names_begin, open_step},
    {"create", names_begin, create_step},  {"listxattr", names_begin, listxattr_step},
};

/* ---- running ---- */

static void class_add(struct worker *w, double seconds)
{
	uint64_t ns = (uint64_t)(seconds * 1e9), low;
	int octave = 0;

	while (ns >> (octave + 1) && octave < OCTAVES - 1)
		octave++;
	low = ns - (UINT64_C(1) << octave);
	w->classes[octave * CLASSES_PER_OCTAVE +
		   (int)(low * CLASSES_PER_OCTAVE >> octave)]++;
}

static void worker_run(struct load *l, const struct mode *mode, struct shared *shared)
{
	struct worker *w = &shared->workers[l->number];
	double start, end, last, at;

	mode->begin(l);
	/* What happens at a first write is not what is measured. */
	if (strcmp(l->mode, "append") == 0 && !strchr(l->steps, 'o')) {
		for (; l->count < (uint64_t)l->handles; l->count++, w->ops++)
			w->bytes += mode->step(l);
	}
	w->ops = w->bytes = 0;
	shared->ready++;
	/* Not by polling: a thousand would take the processors from those that begin. */
	if (read(l->start, &(char){0}, 1))
		die("start", "");
	start = last = now();
	end = start + l->seconds;
	do {
		for (int i = 0; i < l->batch; i++, l->count++)
			w->bytes += mode->step(l);
		w->ops += (uint64_t)l->batch;
		at = now();
		class_add(w, (at - last) / l->batch);
		last = at;
	} while (l->most ? l->count < l->most : at < end);
	w->seconds = at - start;
}

static double percentile(const struct worker *w, int writers, double part)
{
	uint64_t total = 0, seen = 0;

	for (int i = 0; i < writers; i++)
		for (int c = 0; c < OCTAVES * CLASSES_PER_OCTAVE; c++)
			total += w[i].classes[c];
	for (int c = 0; c < OCTAVES * CLASSES_PER_OCTAVE; c++) {
		double width = (double)(UINT64_C(1) << (c / CLASSES_PER_OCTAVE));

		for (int i = 0; i < writers; i++)
			seen += w[i].classes[c];
		if ((double)seen >= part * (double)total)
			return width *
			       (1 + (c % CLASSES_PER_OCTAVE + 0.5) / CLASSES_PER_OCTAVE);
	}
	return 0;
}

static void print_result(const struct load *l, const struct shared *shared)
{
	const struct worker *w = shared->workers;
	double ops = 0, rate = 0, bytes = 0;

	for (int i = 0; i < l->writers; i++) {
		ops += (double)w[i].ops;
		rate += (double)w[i].ops / w[i].seconds;
		bytes += (double)w[i].bytes / w[i].seconds;
	}
	/* written: what is in the file for it, the handles' first records counted. */
	printf("{\"ops\": %.0f, \"written\": %.0f, \"per_second\": %.1f, "
	       "\"bytes_per_second\": %.0f, "
	       "\"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f}\n",
	       ops, ops + (strchr(l->steps, 'o') ? 0.0 : (double)l->handles * l->writers),
	       rate, bytes, percentile(w, l->writers, 0.5) / 1e3,
	       percentile(w, l->writers, 0.99) / 1e3, percentile(w, l->writers, 1) / 1e3);
}

static int run(struct load *l, const struct mode *mode)
{
	size_t size = sizeof(struct shared) + (size_t)l->writers * sizeof(struct worker);
	struct shared *shared =
	    mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 0, failed = 0, ends[2];

	if (shared == MAP_FAILED || pipe2(ends, O_CLOEXEC))
		die("memory", "");
	l->start = ends[0];
	for (int i = 0; i < l->writers; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork", "");
		if (pid == 0) {
			close(ends[1]);
			l->number = i;
			worker_run(l, mode, shared);
			_exit(0);
		}
	}
	while (shared->ready < l->writers && !failed) {
		usleep(1000);
		failed = waitpid(-1, &status, WNOHANG) > 0;
	}
	close(ends[1]);
	while (wait(&status) > 0)
		failed |= status != 0;
	if (!failed)
		print_result(l, shared);
	return failed;
}

static int usage(void)
{
	fprintf(stderr, "usage: load append|read|random|write|stat|create PATH "
			"[-w WRITERS] [-f FILES] [-n HANDLES] [-s BYTES] [-b BLOCK] "
			"[-m STEPS] [-t SECONDS | -c COUNT]\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct load l = {.steps = "owc",
			 .writers = 1,
			 .files = 1,
			 .handles = 1,
			 .size = 300,
			 .block = 4096,
			 .seconds = 1};
	struct rlimit files;
	int c;

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
	while ((c = getopt(argc, argv, "w:f:n:s:b:m:t:c:")) != -1) {
		switch (c) {
		case 'w':
			l.writers = atoi(optarg);
			break;
		case 'f':
			l.files = atoi(optarg);
			break;
		case 'n':
			l.handles = atoi(optarg);
			break;
		case 's':
			l.size = strtoul(optarg, NULL, 10);
			break;
		case 'b':
			l.block = strtoul(optarg, NULL, 10);
			break;
		case 'm':
			l.steps = optarg;
			break;
		case 't':
			l.seconds = strtod(optarg, NULL);
			break;
		case 'c':
			l.most = strtoull(optarg, NULL, 10);
			break;
		default:
			return usage();
		}
	}
	if (argc - optind != 2 || l.writers < 1 || l.writers > WRITERS_MAX ||
	    l.files < 1 || l.handles < 1 || l.block < 1 ||
	    (l.most && !strchr(l.steps, 'o')) ||
	    strspn(l.steps, "olwfuc") != strlen(l.steps))
		return usage();
	l.mode = argv[optind];
	l.path = argv[optind + 1];
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(modes[i].name, l.mode) == 0)
			return run(&l, &modes[i]);
	return usage();
}
