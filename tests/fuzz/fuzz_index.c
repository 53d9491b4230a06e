/* SPDX-License-Identifier: MIT */
/* The quarantine's index, of any bytes: it is lines that the daemon wrote, and whatever came of
 * them. What is asked of the quarantine is done or refused, entries stay until they are
 * dropped, and lines of entries that are there stay in the index. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "json/text.h"
#include "quarantine/quarantine.h"
#include "tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONTENT 2048
#define ENTRIES 3

static const char *const names[ENTRIES] = {
    "20261120T101112.123456789Z.5f0c8a1be2d94773-x.jsonl", "b", "c\xc3\xa9"};

/* Pieces of lines, so that chance makes whole ones. */
static const char *const pieces[] = {
    "{\"time\":\"2026-11-20T10:11:12Z\",\"event\":\"refused\",\"file\":\"b\",\"bytes\":3,\"uid\":7}\n",
    "{\"event\":\"joined\",\"file\":\"b\",\"bytes\":2,\"uid\":7}\n",
    "{\"event\":\"joined\",\"file\":\"c\xc3\xa9\",\"bytes\":99999999999,\"uid\":0}\n",
    "{\"event\":\"restored\",\"file\":\"b\",\"records\":1}\n",
    "{\"event\":\"refused\",\"file\":\"gone\",\"bytes\":3}\n",
    "{\"event\":\"refused\",\"file\":\"../b\",\"bytes\":3}\n",
    "{\"event\":\"refused\",\"file\":\"b\",\"bytes\":3,\"from\":1,\"hash\":\"00\"}\n",
    "{\"file\":",
    "\"b\"",
    ",\"event\":",
    "\"joined\"",
    ",\"bytes\":",
    "18446744073709551615",
    "-1",
    "}",
    "\n",
    "oops\n",
    "[1]\n",
    "{}\n",
};
#define PIECES (sizeof(pieces) / sizeof(*pieces))

static int top = -1;
static char top_path[] = "/dev/shm/fuzz-index-XXXXXX";

static void put_file(int dir, const char *name, const char *text, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	REQUIRE(fd >= 0 && write(fd, text, len) == (ssize_t)len);
	close(fd);
}

static void clear(int dir, const char *below)
{
	int fd = below ? openat(dir, below, O_RDONLY | O_DIRECTORY) : dup(dir);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!list)
		return;
	rewinddir(list);
	while ((e = readdir(list))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    unlinkat(dirfd(list), e->d_name, 0) < 0)
			clear(dirfd(list), e->d_name);
	}
	closedir(list);
	if (below)
		unlinkat(dir, below, AT_REMOVEDIR);
}

static void remove_top(void)
{
	clear(top, NULL);
	rmdir(top_path);
}

static void (*abort_before)(int number); /* libFuzzer's */

static void aborted(int number)
{
	remove_top();
	signal(number, abort_before);
	raise(number);
}

static void make_top(void)
{
	if (top >= 0)
		return;
	REQUIRE(mkdtemp(top_path));
	top = open(top_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(top >= 0);
	atexit(remove_top);
	abort_before = signal(SIGABRT, aborted);
}

static size_t read_index(char *text, size_t size)
{
	int fd = openat(top, "quarantine.jsonl", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size);

	REQUIRE(n >= 0);
	if (fd >= 0)
		close(fd);
	return (size_t)n;
}

static bool exists(const char *name)
{
	char path[300];

	(void)snprintf(path, sizeof(path), "quarantine/%s", name);
	return faccessat(top, path, F_OK, 0) == 0;
}

/* How often the text has this line. */
static unsigned count(const char *text, size_t len, const char *line)
{
	unsigned n = 0;
	const char *at = text;

	while ((at = memmem(at, len - (size_t)(at - text), line, strlen(line)))) {
		n += at == text || at[-1] == '\n';
		at += strlen(line);
	}
	return n;
}

static void use(struct jsonl_quarantine *q, struct input *in, bool *there)
{
	const struct iovec iov = {.iov_base = (void *)"bad", .iov_len = 3};
	struct jsonl_quarantine_item item = {.iov = &iov,
					     .niov = 1,
					     .event = "refused",
					     .path = "x.jsonl",
					     .at = -1,
					     .uid = input_byte(in),
					     .source_fd = -1};
	char name[JSONL_QUARANTINE_NAME];
	int n, rc;

	switch (input_byte(in) % 5) {
	case 0:
		item.reserved = true;
		__attribute__((fallthrough));
	case 1:
		rc = jsonl_quarantine_put(q, &item, name);
		REQUIRE(rc == 0 ? exists(name) : rc == -ENOSPC);
		break;
	case 2:
		n = input_byte(in) % ENTRIES;
		rc = jsonl_quarantine_drop(q, names[n]);
		REQUIRE(rc == (there[n] ? 0 : -ENOENT) && !exists(names[n]));
		there[n] = false;
		break;
	case 3:
		REQUIRE(jsonl_quarantine_settle(q) == 0);
		break;
	case 4:
		rc = jsonl_quarantine_join(q, "b", &iov, 1, false);
		REQUIRE(rc == 0 || rc == -ENOSPC || rc == -ENOENT);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char before[CONTENT], after[CONTENT * 4];
	struct input in = {.data = data, .left = size};
	struct jsonl_quarantine *q;
	bool there[ENTRIES];
	size_t len = 0, m;
	unsigned had;

	make_top();
	clear(top, NULL);
	REQUIRE(mkdirat(top, "quarantine", 0700) == 0);
	for (int n = 0, set = input_byte(&in); n < ENTRIES; n++) {
		char path[300];

		there[n] = set >> n & 1;
		(void)snprintf(path, sizeof(path), "quarantine/%s", names[n]);
		if (there[n])
			put_file(top, path, "old", 3);
	}
	for (int n = input_byte(&in) % 24; n > 0 && in.left; n--) {
		uint8_t byte = input_byte(&in);
		const char *piece = byte < 240 ? pieces[byte % PIECES] : (char *)&byte;
		size_t part = byte < 240 ? strlen(piece) : 1;

		if (len + part > sizeof(before))
			break;
		memcpy(before + len, piece, part);
		len += part;
	}
	put_file(top, "quarantine.jsonl", before, len);
	REQUIRE(jsonl_quarantine_new(&jsonl_io_system, top,
				     1U << (12 + input_byte(&in) % 12), &q) == 0);
	for (int n = 0; n < 6 && in.left; n++)
		use(q, &in, there);
	REQUIRE(jsonl_quarantine_settle(q) == 0);
	jsonl_quarantine_free(q);
	for (int n = 0; n < ENTRIES; n++)
		REQUIRE(exists(names[n]) == there[n]);
	m = read_index(after, sizeof(after));
	had = len && before[len - 1] == '\n' && there[1] ? count(before, len, pieces[0]) : 0;
	REQUIRE(count(after, m, pieces[0]) >= had || m == sizeof(after));
	return 0;
}
