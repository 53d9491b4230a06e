/* SPDX-License-Identifier: MIT */
/* Judges the backing files of a directory by the ledger of its writers (writers.c).
 *
 *   judge LEDGER DIR [-p] [-d] [-q QUARANTINE] [-s SNAPSHOT]
 *
 * Every line must be a record that its writer tried, byte for byte, once, in its order;
 * none that was refused; and every record must be there whose close or fsync returned 0.
 * What write alone acknowledged must be there, too, or in the quarantine. -d: the daemon
 * died, and with it what was not a record yet. -p: so did the power, and what was not
 * durable. Lines that begin with {"id": are from elsewhere. Prints counts as one JSON
 * object; the exit status is 1 when something is wrong. */
#include "ledger.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHOWN 5

static const struct ledger *ledger, *snapshot;
static uint8_t *seen;	/* of each record: 1 in its file, 2 in the quarantine */
static int64_t *latest; /* of each writer */
static char *expected;
static unsigned long lines, violations;
static bool died, power;
static char first[1024];

static void die(const char *what)
{
	fprintf(stderr, "judge: %s: %m\n", what);
	exit(2);
}

static const char *map(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p = NULL;

	if (fd < 0 || fstat(fd, &st))
		die(path);
	*size = (size_t)st.st_size;
	if (*size)
		p = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		die(path);
	close(fd);
	return p;
}

static void wrong(const char *what, const char *file, uint32_t writer, uint32_t record,
		  unsigned long line)
{
	size_t n = strlen(first);

	if (violations++ < SHOWN)
		snprintf(first + n, sizeof(first) - n,
			 "%s%s: %s, line %lu (writer %u, record %u)", n ? "; " : "", file,
			 what, line, writer, record);
}

/* ---- lines ---- */

/* {"w":100012,"n":1000000034, -> its numbers. */
static bool identify(const char *text, size_t len, uint32_t *writer, uint32_t *record)
{
	char head[LEDGER_HEAD + 1] = {0};

	if (len < LEDGER_HEAD)
		return false;
	memcpy(head, text, LEDGER_HEAD);
	if (sscanf(head, "{\"w\":%6u,\"n\":%10u,", writer, record) != 2)
		return false;
	*writer -= LEDGER_WRITER;
	*record -= LEDGER_RECORD;
	return *writer < ledger->writers && *record < ledger->records;
}

static size_t index_of(uint32_t writer, uint32_t record)
{
	return (size_t)writer * ledger->records + record;
}

static void judge_line(const char *file, unsigned number, const char *text, size_t len)
{
	uint32_t w = 0, n = 0;
	size_t at;

	lines++;
	if (len > 6 && !memcmp(text, "{\"id\":", 6))
		return;
	if (!identify(text, len, &w, &n)) {
		wrong("not a record", file, 0, 0, lines);
		return;
	}
	at = index_of(w, n);
	if (ledger_record(ledger, w, n, expected) != len || memcmp(expected, text, len))
		wrong("not as it was written", file, w, n, lines);
	else if (w % ledger->files != number)
		wrong("in another file", file, w, n, lines);
	else if (seen[at] & 1)
		wrong("twice", file, w, n, lines);
	else if ((int64_t)n <= latest[w])
		wrong("not in order", file, w, n, lines);
	else if (ledger->state[at] == LEDGER_UNTRIED)
		wrong("nobody wrote it", file, w, n, lines);
	else if (ledger->state[at] == LEDGER_REFUSED && !power)
		wrong("it was refused", file, w, n, lines);
	latest[w] = n;
	seen[at] |= 1;
}

static void judge_file(const char *dir, unsigned number)
{
	char path[4096], name[32];
	size_t size;
	const char *data, *p;

	snprintf(name, sizeof(name), "log%u.jsonl", number);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (access(path, F_OK))
		return;
	data = map(path, &size);
	lines = 0;
	for (p = data; p < data + size;) {
		const char *end = memchr(p, '\n', (size_t)(data + size - p));

		if (!end) {
			wrong("the end is no whole line", name, 0, 0, lines + 1);
			break;
		}
		judge_line(name, number, p, (size_t)(end + 1 - p));
		p = end + 1;
	}
	if (size)
		munmap((void *)data, size);
}

/* ---- what is not in its file ---- */

static void read_quarantine(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d && errno == ENOENT)
		return;
	if (!d)
		die(dir);
	while ((e = readdir(d))) {
		char path[4096];
		const char *data, *p;
		size_t size;
		uint32_t w, n;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		data = map(path, &size);
		for (p = data;
		     size && (p = memmem(p, (size_t)(data + size - p), "{\"w\":", 5));
		     p++)
			if (identify(p, (size_t)(data + size - p), &w, &n))
				seen[index_of(w, n)] |= 2;
		if (size)
			munmap((void *)data, size);
	}
	closedir(d);
}

static void judge_missing(void)
{
	for (uint32_t w = 0; w < ledger->writers; w++) {
		for (uint32_t n = 0; n < ledger->records; n++) {
			size_t at = index_of(w, n);
			uint8_t state = (snapshot ? snapshot : ledger)->state[at];

			if (state == LEDGER_DURABLE && !(seen[at] & 1))
				wrong("durable and gone", "ledger", w, n, 0);
			else if (state == LEDGER_WRITTEN && !seen[at] && !power)
				wrong("written, gone and not set aside", "ledger", w, n,
				      0);
			else if (state == LEDGER_PART && !seen[at] && !died && !power)
				wrong("a part of it was accepted and not set aside",
				      "ledger", w, n, 0);
		}
	}
}

static void print(void)
{
	static const char *const names[LEDGER_STATES] = {
	    "untried", "tried", "part", "written", "durable", "refused", "told"};
	unsigned long counts[LEDGER_STATES] = {0}, in_files = 0, aside = 0;

	for (size_t i = 0; i < (size_t)ledger->writers * ledger->records; i++) {
		counts[ledger->state[i]]++;
		in_files += seen[i] & 1;
		aside += seen[i] >> 1;
	}
	printf("{\"in_files\":%lu,\"set_aside\":%lu", in_files, aside);
	for (int s = LEDGER_TRIED; s < LEDGER_STATES; s++)
		printf(",\"%s\":%lu", names[s], counts[s]);
	for (char *p = first; *p; p++)
		if (*p == '"' || *p == '\\')
			*p = '\'';
	printf(",\"violations\":%lu,\"first\":\"%s\"}\n", violations, first);
}

int main(int argc, char **argv)
{
	const char *quarantine = NULL, *copy = NULL;
	size_t size, copied, all;

	for (int c; (c = getopt(argc, argv, "pdq:s:")) != -1;) {
		if (c == 'p')
			power = true;
		else if (c == 'd')
			died = true;
		else if (c == 'q')
			quarantine = optarg;
		else if (c == 's')
			copy = optarg;
		else
			return 2;
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: judge [OPTION...] LEDGER DIR\n");
		return 2;
	}
	ledger = (const void *)map(argv[optind], &size);
	all = size >= sizeof(*ledger) ? (size_t)ledger->writers * ledger->records : 0;
	if (!all || size != sizeof(*ledger) + all || !ledger->files) {
		errno = EINVAL;
		die(argv[optind]);
	}
	snapshot = copy ? (const void *)map(copy, &copied) : NULL;
	if (copy && copied != size) {
		errno = EINVAL;
		die(copy);
	}
	seen = calloc(all, 1);
	latest = calloc(ledger->writers, sizeof(*latest));
	expected = malloc(ledger_longest(ledger));
	if (!seen || !latest || !expected)
		die("memory");
	for (uint32_t w = 0; w < ledger->writers; w++)
		latest[w] = -1;
	for (unsigned f = 0; f < ledger->files; f++)
		judge_file(argv[optind + 1], f);
	if (quarantine)
		read_quarantine(quarantine);
	judge_missing();
	print();
	return violations != 0;
}
