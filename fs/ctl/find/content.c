/* SPDX-License-Identifier: MIT */
#include "ctl/find/content.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/copy.h"
#include "base/io.h"
#include "base/memory.h"
#include "ctl/ctl.h"
#include "tools/check.h"

#define PIECE	   (256UL << 10)
#define READ_MAX   (256UL << 20)
#define READ_PIECE (64UL << 10)
#define TOLD_MAX   20
#define TEMPORARY  "/tmp"

int ctl_content_new(void)
{
	/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	const char *dir = getenv("TMPDIR");
	int fd = open(dir && dir[0] ? dir : TEMPORARY,
		      O_TMPFILE | O_RDWR | O_APPEND | O_EXCL | O_CLOEXEC, 0600);
	FILE *f;

	if (fd >= 0)
		return fd;
	/* Not every file system has files without a name. */
	f = tmpfile();
	fd = f ? fcntl(fileno(f), F_DUPFD_CLOEXEC, 3) : -1;
	if (fd < 0)
		fd = -errno;
	if (f)
		(void)fclose(f);
	return fd;
}

int ctl_content_add_bytes(int to, const void *data, size_t len)
{
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	size_t written;

	return jsonl_io_write_full(&jsonl_io_system, to, &iov, 1, &written);
}

int ctl_content_add(int to, int from)
{
	cleanup_free char *buf = malloc(PIECE);
	ssize_t n = 1;
	int rc = buf ? 0 : -ENOMEM;

	while (rc == 0 && n) {
		n = read(from, buf, PIECE);
		if (n > 0)
			rc = ctl_content_add_bytes(to, buf, (size_t)n);
		else if (n < 0 && errno != EINTR)
			rc = -errno;
	}
	return rc;
}

int ctl_content_add_range(int to, int from, off_t start, off_t end)
{
	return fs_copy_bytes(&jsonl_io_system, from, start, end - start, to);
}

char *ctl_content_read(int fd, size_t *len, int *rc)
{
	cleanup_free char *buf = NULL;
	size_t cap = 0;

	for (*len = 0;;) {
		ssize_t n;

		*rc = *len < READ_MAX ? jsonl_grow(&buf, &cap, *len + READ_PIECE, 1)
				      : -ENOMEM;
		if (*rc)
			return NULL;
		n = read(fd, buf + *len, cap - *len - 1);
		*rc = n < 0 ? -errno : 0;
		if (n == 0) {
			buf[*len] = '\0';
			return steal_ptr(&buf);
		}
		if (n < 0 && errno != EINTR)
			return NULL;
		*len += n > 0 ? (size_t)n : 0;
	}
}

/* ---- judging ---- */

struct judging {
	uint64_t bad;
};

static int judge_one(void *ctx, const struct jsonl_finding *f)
{
	struct judging *j = ctx;

	/* Such as a number at the end, which might go on: here nothing follows. */
	if (jsonl_finding_is_note(f->kind))
		return 0;
	if (j->bad++ < TOLD_MAX)
		ctl_error("line %llu: byte %llu of the file: %s",
			  (unsigned long long)f->line, (unsigned long long)f->offset,
			  f->verdict ? jsonl_error_text(f->verdict)
				     : jsonl_finding_text(f->kind));
	return 0;
}

static int end_with_newline(int fd)
{
	struct stat st;
	char last;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return 0;
	if (pread(fd, &last, 1, st.st_size - 1) != 1)
		return -EIO;
	return last == '\n' ? 0 : ctl_content_add_bytes(fd, "\n", 1);
}

int ctl_content_judge(int fd, const struct jsonl_limits *limits, uint64_t *records)
{
	struct jsonl_check_counts counts = {0};
	struct judging j = {0};
	const struct jsonl_check check = {.finding = judge_one, .ctx = &j};
	int rc = jsonl_check_fd(&jsonl_io_system, fd, limits, &check, &counts);

	*records = counts.records;
	if (rc)
		return rc;
	if (j.bad > TOLD_MAX)
		ctl_error("... and %llu more", (unsigned long long)(j.bad - TOLD_MAX));
	return j.bad ? JSONL_UNKNOWN_TAIL : end_with_newline(fd);
}

/* ---- looking ---- */

int ctl_content_equals(int a, int b, off_t len)
{
	return fs_same_bytes(&jsonl_io_system, a, b, 0, len);
}

int ctl_content_line(int fd, uint64_t number, off_t *start, off_t *end)
{
	cleanup_free char *buf = malloc(PIECE);
	uint64_t line = 1;
	off_t at = 0;

	if (!buf)
		return -ENOMEM;
	*start = 0;
	for (;;) {
		ssize_t n = jsonl_io_read_full(&jsonl_io_system, fd, buf, PIECE, at);

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		for (const char *p = buf; (p = memchr(p, '\n', (size_t)(buf + n - p)));
		     p++) {
			*end = at + (p - buf) + 1;
			if (line == number)
				return 0;
			line++;
			*start = *end;
		}
		at += n;
	}
	*end = at;
	return line == number && *start < at ? 0 : -ENOENT;
}
