/* SPDX-License-Identifier: MIT */
/* Many writers at once, each with a given number of records, and the judge of what they
 * left.
 *
 *   load_writers run DIR WRITERS FILES COUNT     nothing may fail
 *   load_writers check DIR WRITERS FILES COUNT   0 when every record is there, once and
 *                                                whole, in its writer's order, no more
 *
 * A record follows from its writer and its number alone: the judge compares each byte.
 * Writer w appends to file w % FILES, in one of the ways that programs have (ways). */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RECORD_MAX 8192
#define BLOCK	   4096 /* what stdio writes at once */

struct writer {
	const char *dir;
	int files;
	int number;
	uint32_t count;
	int fd;
	char buf[2 * RECORD_MAX];
	size_t used;
};

static void die(const char *what, const char *path)
{
	fprintf(stderr, "load_writers: %s %s: %s\n", what, path, strerror(errno));
	_exit(1);
}

/* From 36 to some 250 bytes, every thousandth longer than a pipe takes at once. */
static size_t record_build(char *buf, int w, uint32_t n)
{
	size_t len = (size_t)sprintf(buf, "{\"w\":%d,\"n\":%u,\"pad\":\"", w, n);
	size_t pad = (n * 2654435761u + (uint32_t)w * 40503u) >> 8;

	pad = n % 1000 == 999 ? 6000 : pad % 200;
	memset(buf + len, 'a' + (int)(n % 26), pad);
	len += pad;
	memcpy(buf + len, "\"}\n", 3);
	return len + 3;
}

static void file_name(char *buf, size_t size, const char *dir, int number)
{
	snprintf(buf, size, "%s/log%d.jsonl", dir, number);
}

/* ---- writing ---- */

static void writer_open(struct writer *w)
{
	char name[4096];

	file_name(name, sizeof(name), w->dir, w->number % w->files);
	w->fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (w->fd < 0)
		die("open", name);
}

static void writer_close(struct writer *w)
{
	if (close(w->fd))
		die("close", w->dir);
	w->fd = -1;
}

static void writer_put(struct writer *w, const char *data, size_t len)
{
	ssize_t n = write(w->fd, data, len);

	if (n >= 0 && n != (ssize_t)len)
		errno = EIO;
	if (n != (ssize_t)len)
		die("write", w->dir);
}

/* A handle of its own for each record, as `echo >> file` does. */
static void way_echo(struct writer *w, uint32_t n, size_t len)
{
	if (n)
		writer_open(w);
	writer_put(w, w->buf, len);
	if (n + 1 < w->count)
		writer_close(w);
}

/* A logger that keeps its file, and wants some of it safe. */
static void way_logger(struct writer *w, uint32_t n, size_t len)
{
	writer_put(w, w->buf, len);
	if (n % 32 == 31 && fsync(w->fd))
		die("fsync", w->dir);
}

/* In three writes, the last one only the newline. */
static void way_pieces(struct writer *w, uint32_t n, size_t len)
{
	writer_put(w, w->buf, 5);
	writer_put(w, w->buf + 5, len - 6);
	writer_put(w, w->buf + len - 1, 1);
	if (n % 32 == 31) {
		writer_close(w);
		writer_open(w);
	}
}

/* Blocks that end anywhere in a record. What is built stands behind what was left. */
static void way_stdio(struct writer *w, uint32_t n, size_t len)
{
	w->used += len;
	while (w->used >= BLOCK) {
		writer_put(w, w->buf, BLOCK);
		w->used -= BLOCK;
		memmove(w->buf, w->buf + BLOCK, w->used);
	}
	if (n + 1 == w->count && w->used)
		writer_put(w, w->buf, w->used);
}

/* One in ten opens and closes for each record. */
static void (*const ways[])(struct writer *w, uint32_t n, size_t len) = {
    way_echo,	way_logger, way_pieces, way_stdio,  way_logger,
    way_logger, way_stdio,  way_pieces, way_logger, way_stdio,
};

#define WAYS (int)(sizeof(ways) / sizeof(ways[0]))

static void writer_run(struct writer *w)
{
	writer_open(w);
	for (uint32_t n = 0; n < w->count; n++) {
		size_t len = record_build(w->buf + w->used, w->number, n);

		/* So that each file sees all ways, however many there are. */
		ways[(w->number / w->files + w->number) % WAYS](w, n, len);
	}
	writer_close(w);
}

static int run(struct writer *w, int writers)
{
	struct timespec begin, end;
	int status, failed = 0;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 0; i < writers; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork", "");
		if (pid == 0) {
			w->number = i;
			writer_run(w);
			_exit(0);
		}
	}
	while (wait(&status) > 0)
		failed |= status != 0;
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (!failed)
		printf("%.3f\n", (double)(end.tv_sec - begin.tv_sec) +
				     (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	return failed;
}

/* ---- judging ---- */

/* Which writer's next record a line is; -1: nobody's. */
static int line_owner(const char *line, size_t len, const uint32_t *next, int writers)
{
	static char expected[RECORD_MAX];
	int number;

	if (sscanf(line, "{\"w\":%d,", &number) != 1 || number < 0 || number >= writers)
		return -1;
	if (record_build(expected, number, next[number]) != len ||
	    memcmp(line, expected, len) != 0)
		return -1;
	return number;
}

static int check_file(const char *name, int file, int files, uint32_t *next, int writers)
{
	FILE *f = fopen(name, "r");
	unsigned long number = 0;
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int w = 0;

	if (!f)
		die("open", name);
	while (w >= 0 && (len = getline(&line, &size, f)) > 0) {
		number++;
		w = line_owner(line, (size_t)len, next, writers);
		if (w < 0 || w % files != file) {
			fprintf(stderr,
				"%s:%lu: not the next record of any writer: %.60s\n",
				name, number, line);
			w = -1;
		} else {
			next[w]++;
		}
	}
	free(line);
	fclose(f);
	return w < 0;
}

static int check(const char *dir, int writers, int files, uint32_t count)
{
	uint32_t *next = calloc((size_t)writers, sizeof(*next));
	char name[4096];
	int bad = 0;

	if (!next)
		die("memory", "");
	for (int i = 0; i < files && !bad; i++) {
		file_name(name, sizeof(name), dir, i);
		bad = check_file(name, i, files, next, writers);
	}
	for (int i = 0; i < writers && !bad; i++) {
		if (next[i] != count) {
			fprintf(stderr, "%s: writer %d has %u of %u records\n", dir, i,
				next[i], count);
			bad = 1;
		}
	}
	free(next);
	return bad;
}

int main(int argc, char **argv)
{
	static struct writer w;
	struct rlimit own;
	int writers;

	if (argc != 6)
		return 2;
	w.dir = argv[2];
	writers = atoi(argv[3]);
	w.files = atoi(argv[4]);
	w.count = (uint32_t)strtoul(argv[5], NULL, 10);
	if (writers < 1 || w.files < 1 || !w.count)
		return 2;
	if (strcmp(argv[1], "check") == 0)
		return check(w.dir, writers, w.files, w.count);
	if (getrlimit(RLIMIT_NPROC, &own) == 0) {
		own.rlim_cur = own.rlim_max;
		(void)setrlimit(RLIMIT_NPROC, &own);
	}
	return run(&w, writers);
}
