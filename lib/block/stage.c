/* SPDX-License-Identifier: MIT */
#include "block/stage.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"

/* Followed by the length of the path, \n, path, \n. */
#define STAGE_HEAD  "jsonlfs stage "
#define STAGE_CHUNK (64u << 10) /* bytes read at once */

struct jsonl_stage {
	const struct jsonl_io *io;
	int dir_fd;
	char *name, *head;
	size_t name_len; /* without the number that further files get */
	unsigned files;	 /* files made so far */
	const struct jsonl_stage_events *events;
	void *ctx;
	char *memory; /* the content, as long as there is no file */
	size_t cap;
	size_t charged; /* bytes charged by events->charge */
	uint64_t len;
	int fd;	     /* -1: no file */
	bool left;   /* left by a crash: it is not dropped with the stage */
	bool broken; /* a failed write could not be cut off: nothing is added any more */
	bool named;  /* the directory entry is durable */
	uint64_t synced; /* bytes that are durable */
	bool unsure;	 /* a sync has failed: a later success proves nothing */
};

static const struct jsonl_stage_events no_events;

static struct jsonl_stage *stage_alloc(const struct jsonl_io *io, int dir_fd,
				       const char *name)
{
	struct jsonl_stage *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->io = io;
	s->events = &no_events;
	s->dir_fd = dir_fd;
	s->fd = -1;
	s->name = malloc(JSONL_STAGE_NAME);
	if (!s->name) {
		free(s);
		return NULL;
	}
	s->name_len = (size_t)snprintf(s->name, JSONL_STAGE_NAME, "%s", name);
	return s;
}

int jsonl_stage_new(const struct jsonl_io *io, int dir_fd, const char *name,
		    const char *path, const struct jsonl_stage_events *events, void *ctx,
		    struct jsonl_stage **stage)
{
	struct jsonl_stage *s = stage_alloc(io, dir_fd, name);

	if (!s)
		return -ENOMEM;
	s->events = events ? events : &no_events;
	s->ctx = ctx;
	if (asprintf(&s->head, STAGE_HEAD "%zu\n%s\n", strlen(path), path) < 0) {
		s->head = NULL;
		jsonl_stage_free(s);
		return -ENOMEM;
	}
	*stage = s;
	return 0;
}

static void stage_remove_file(struct jsonl_stage *s)
{
	if (s->fd < 0)
		return;
	(void)s->io->unlinkat(s->io, s->dir_fd, s->name);
	s->io->close(s->io, steal_fd(&s->fd));
}

static void memory_free(struct jsonl_stage *s)
{
	free(steal_ptr(&s->memory));
	s->cap = 0;
	if (s->charged && s->events->charge(s->ctx, -(int64_t)s->charged) == 0)
		s->charged = 0;
}

static void stage_reset(struct jsonl_stage *s)
{
	memory_free(s);
	s->len = s->synced = 0;
	s->named = s->broken = s->unsure = false;
}

void jsonl_stage_clear(struct jsonl_stage *s)
{
	stage_remove_file(s);
	stage_reset(s);
}

int jsonl_stage_discard(struct jsonl_stage *s)
{
	int rc = s->fd < 0 ? 0 : jsonl_stage_remove(s->io, s->dir_fd, s->name);

	/* If the file cannot be removed it is emptied, which makes it harmless. */
	if (rc && s->io->ftruncate(s->io, s->fd, 0) == 0)
		rc = s->io->fdatasync(s->io, s->fd);
	if (s->fd >= 0)
		s->io->close(s->io, steal_fd(&s->fd));
	stage_reset(s);
	return rc;
}

void jsonl_stage_leave(struct jsonl_stage *s)
{
	if (s->fd >= 0)
		s->io->close(s->io, steal_fd(&s->fd));
	stage_reset(s);
}

int jsonl_stage_remove(const struct jsonl_io *io, int dir_fd, const char *name)
{
	int rc = io->unlinkat(io, dir_fd, name);

	return rc && rc != -ENOENT ? rc : io->fsync(io, dir_fd);
}

void jsonl_stage_free(struct jsonl_stage *s)
{
	if (!s)
		return;
	if (s->left && s->fd >= 0)
		s->io->close(s->io, steal_fd(&s->fd));
	jsonl_stage_clear(s);
	free(s->name);
	free(s->head);
	free(s);
}

uint64_t jsonl_stage_length(const struct jsonl_stage *s)
{
	return s->len;
}

const char *jsonl_stage_file(const struct jsonl_stage *s)
{
	return s->fd < 0 ? NULL : s->name;
}

int jsonl_stage_place(struct jsonl_stage *s, off_t *at, const char **bytes)
{
	*at = s->head ? (off_t)strlen(s->head) : 0;
	*bytes = s->memory;
	return s->fd;
}

/* Adds to the file; cuts off what a failed write has written. */
static int file_add(struct jsonl_stage *s, const struct iovec *iov, int n)
{
	size_t len = jsonl_iov_length(iov, n), written;
	off_t end = (off_t)(strlen(s->head) + s->len);
	int rc = s->broken ? -EIO : jsonl_io_write_full(s->io, s->fd, iov, n, &written);

	if (!rc)
		s->len += len;
	else if (!s->broken && s->io->ftruncate(s->io, s->fd, end))
		s->broken = true;
	return rc;
}

/* Moves the content from the memory to a new file. */
static int file_make(struct jsonl_stage *s)
{
	struct iovec iov[2] = {{.iov_base = s->head, .iov_len = strlen(s->head)},
			       {.iov_base = s->memory, .iov_len = s->len}};
	size_t written;
	int fd, rc;

	if (s->dir_fd < 0)
		return -EROFS;
	/* Each file gets a new name: an intent may still name the one before. */
	if (s->files && s->name_len < JSONL_STAGE_NAME)
		(void)snprintf(s->name + s->name_len, JSONL_STAGE_NAME - s->name_len,
			       "-%x", s->files);
	fd = s->io->openat(s->io, s->dir_fd, s->name,
			   O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fd;
	s->files++;
	rc = s->events->made ? s->events->made(s->ctx, fd) : 0;
	if (!rc)
		rc = jsonl_io_write_full(s->io, fd, iov, 2, &written);
	if (rc) {
		(void)s->io->unlinkat(s->io, s->dir_fd, s->name);
		s->io->close(s->io, fd);
		return rc;
	}
	s->fd = fd;
	memory_free(s);
	return 0;
}

static int memory_add(struct jsonl_stage *s, const struct iovec *iov, int n, size_t len)
{
	int rc = 0;

	if (s->events->charge)
		rc = s->events->charge(s->ctx, (int64_t)len);
	if (rc)
		return rc;
	s->charged += s->events->charge ? len : 0;
	if (jsonl_grow(&s->memory, &s->cap, s->len + len, 1))
		return -ENOMEM;
	jsonl_iov_copy(s->memory + s->len, iov, n);
	s->len += len;
	return 0;
}

int jsonl_stage_add(struct jsonl_stage *s, const struct iovec *iov, int n)
{
	size_t len = jsonl_iov_length(iov, n);
	int rc;

	if (s->fd < 0 && s->len + len <= JSONL_STAGE_MEMORY)
		return memory_add(s, iov, n, len);
	rc = s->fd < 0 ? file_make(s) : 0;
	return rc ? rc : file_add(s, iov, n);
}

int jsonl_stage_sync(struct jsonl_stage *s)
{
	int rc = 0;

	if (!s->len)
		return 0;
	if (s->unsure)
		return -EIO;
	if (s->fd < 0)
		rc = file_make(s);
	if (rc)
		return rc;
	if (s->synced < s->len)
		rc = s->io->fdatasync(s->io, s->fd);
	if (!rc)
		s->synced = s->len;
	if (!rc && !s->named) {
		rc = s->io->fsync(s->io, s->dir_fd);
		s->named = !rc;
	}
	s->unsure = rc != 0;
	return rc;
}

ssize_t jsonl_stage_read(struct jsonl_stage *s, uint64_t off, char *buf, size_t len,
			 const char **bytes)
{
	ssize_t got;

	if (off >= s->len)
		return 0;
	if (len > s->len - off)
		len = (size_t)(s->len - off);
	if (s->fd < 0) {
		*bytes = s->memory + off;
		return (ssize_t)len;
	}
	got = jsonl_io_read_full(s->io, s->fd, buf, len, (off_t)(strlen(s->head) + off));
	*bytes = buf;
	return got < 0 ? got : got == (ssize_t)len ? got : -EIO;
}

/* ---- left by a crash ---- */

/* Reads head and path from the beginning of the file. *path stays NULL when they are not
 * there. */
static int left_head(struct jsonl_stage *s, char **path)
{
	cleanup_free char *buf = malloc(PATH_MAX + 64);
	char *end;
	size_t at, len;
	ssize_t got;

	if (!buf)
		return -ENOMEM;
	got = jsonl_io_read_full(s->io, s->fd, buf, PATH_MAX + 63, 0);
	if (got < 0)
		return (int)got;
	buf[got] = '\0';
	if (strncmp(buf, STAGE_HEAD, strlen(STAGE_HEAD)) != 0)
		return 0;
	len = strtoul(buf + strlen(STAGE_HEAD), &end, 10);
	at = (size_t)(end - buf) + 1;
	if (*end != '\n' || len >= PATH_MAX || at + len >= (size_t)got ||
	    strnlen(buf + at, len) < len || buf[at + len] != '\n')
		return 0;
	s->head = strndup(buf, at + len + 1);
	*path = s->head ? strndup(buf + at, len) : NULL;
	return *path ? 0 : -ENOMEM;
}

/* Finds the length of the whole records. */
static int left_measure(struct jsonl_stage *s)
{
	cleanup_free char *buf = malloc(STAGE_CHUNK);
	off_t head = (off_t)strlen(s->head);
	uint64_t off = 0;
	ssize_t got;

	if (!buf)
		return -ENOMEM;
	while ((got = jsonl_io_read_full(s->io, s->fd, buf, STAGE_CHUNK,
					 head + (off_t)off)) > 0) {
		size_t len = strnlen(buf, (size_t)got);
		const char *end = memrchr(buf, '\n', len);

		if (end)
			s->len = off + (uint64_t)(end + 1 - buf);
		if (len < (size_t)got)
			return 0;
		off += len;
	}
	return (int)got;
}

int jsonl_stage_open(const struct jsonl_io *io, int dir_fd, const char *name,
		     struct jsonl_stage **stage, char **path)
{
	struct jsonl_stage *s = stage_alloc(io, dir_fd, name);
	int rc;

	*path = NULL;
	if (!s)
		return -ENOMEM;
	s->left = true;
	s->fd =
	    io->openat(io, dir_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
	rc = s->fd < 0 ? s->fd : left_head(s, path);
	if (!rc && *path)
		rc = left_measure(s);
	if (rc) {
		free(steal_ptr(path));
		jsonl_stage_free(s);
		return rc;
	}
	*stage = s;
	return 0;
}

int jsonl_stage_take_all(struct jsonl_stage *s)
{
	cleanup_free char *buf = malloc(STAGE_CHUNK);
	off_t head = (off_t)strlen(s->head);
	uint64_t off = 0;
	ssize_t got;

	if (!buf)
		return -ENOMEM;
	while ((got = jsonl_io_read_full(s->io, s->fd, buf, STAGE_CHUNK,
					 head + (off_t)off)) > 0) {
		for (ssize_t n = 0; n < got; n++)
			if (buf[n])
				s->len = off + (uint64_t)n + 1;
		off += (uint64_t)got;
	}
	return (int)got;
}
