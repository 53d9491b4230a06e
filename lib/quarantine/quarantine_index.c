/* SPDX-License-Identifier: MIT */
#include "quarantine/quarantine_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "report/report.h"

#define INDEX_NAME	 "quarantine.jsonl"
#define INDEX_TRIES	 10
#define LOCK_PAUSE_MS	 2
#define LOCK_PATIENCE_MS 2000

/* Opens the index, or the new one if another process has replaced it. Fills st. */
static int index_open(struct jsonl_quarantine *q, struct stat *st)
{
	int flags = O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
	char last = '\n';
	int rc, fd, tries = 0;

	if (q->index_fd >= 0) {
		rc = q->io->fstat(q->io, q->index_fd, st);
		if (rc == 0 && st->st_nlink > 0)
			return 0;
		q->io->close(q->io, steal_fd(&q->index_fd));
	}
	do {
		fd = q->io->openat(q->io, q->state_fd, INDEX_NAME, flags, 0);
		if (fd == -ENOENT) {
			fd = q->io->openat(q->io, q->state_fd, INDEX_NAME,
					   flags | O_CREAT | O_EXCL, 0600);
			q->index_new = fd >= 0;
		}
	} while (fd == -EEXIST && tries++ < INDEX_TRIES); /* another process was first */
	if (fd < 0)
		return fd;
	rc = q->io->fstat(q->io, fd, st);
	if (rc == 0 && !S_ISREG(st->st_mode))
		rc = -EINVAL;
	if (rc == 0 && st->st_size > 0 &&
	    q->io->pread(q->io, fd, &last, 1, st->st_size - 1) != 1)
		rc = -EIO;
	if (rc < 0) {
		q->io->close(q->io, fd);
		return rc;
	}
	q->index_fd = fd;
	q->index_torn = last != '\n';
	return 0;
}

/* Returns true when another process has replaced the index to which we have just
 * appended: the line may not be in the new one. */
static bool index_replaced(struct jsonl_quarantine *q)
{
	struct stat st;

	return q->io->fstat(q->io, q->index_fd, &st) == 0 && st.st_nlink == 0;
}

/* Opens the index for a line; *locked: under its lock. Others have it for a moment, or
 * replace the index in that moment. Whoever has it for longer is in trouble, and the line
 * goes without it: it may be lost, the bytes that it notes are kept. */
static int index_begin(struct jsonl_quarantine *q, struct stat *st, bool *locked)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};
	int rc = index_open(q, st);

	*locked = false;
	for (int n = 0; q->shared && rc == 0 && n < LOCK_PATIENCE_MS / LOCK_PAUSE_MS; n++) {
		if (q->io->trylock(q->io, q->index_fd) == 0) {
			rc = q->io->fstat(q->io, q->index_fd, st);
			*locked = rc == 0 && st->st_nlink > 0;
			if (*locked)
				return 0;
			q->io->unlock(q->io, q->index_fd);
		}
		nanosleep(&pause, NULL);
		rc = index_open(q, st);
	}
	return rc;
}

/* Lets the next host append: behind this line only if the servers have it. */
static int index_end(struct jsonl_quarantine *q, bool locked)
{
	int rc = q->shared ? q->io->fdatasync(q->io, q->index_fd) : 0;

	if (locked)
		q->io->unlock(q->io, q->index_fd);
	return rc;
}

/* Cuts off what a failed write has written, unless another process has appended behind
 * it. */
static void index_undo(struct jsonl_quarantine *q, off_t from, size_t written)
{
	struct stat st;

	if (written && q->io->fstat(q->io, q->index_fd, &st) == 0 &&
	    st.st_size == from + (off_t)written)
		(void)!q->io->ftruncate(q->io, q->index_fd, from);
}

static int index_write(struct jsonl_quarantine *q, const char *line, size_t *written)
{
	struct iovec iov[2] = {{.iov_base = (char *)"\n"},
			       {.iov_base = (char *)line, .iov_len = strlen(line)}};
	struct stat st;
	bool locked;
	int rc = index_begin(q, &st, &locked);

	if (rc < 0)
		return rc;
	iov[0].iov_len = q->index_torn;
	rc = jsonl_io_write_full(q->io, q->index_fd, iov, 2, written);
	if (rc == 0)
		rc = index_end(q, locked);
	if (rc == 0) {
		q->index_torn = false;
		return 0;
	}
	index_undo(q, st.st_size, *written);
	/* The next line examines again how the index ends; this also ends the lock. */
	q->io->close(q->io, steal_fd(&q->index_fd));
	return rc;
}

static int index_append(struct jsonl_quarantine *q, const char *line, uid_t uid)
{
	size_t written = 0;
	int rc;

	do {
		rc = index_write(q, line, &written);
	} while (rc == 0 && index_replaced(q));
	if (rc < 0)
		return rc;
	q->index_bytes += written;
	return jsonl_quarantine_table_charge(&q->table, uid, written);
}

int jsonl_quarantine_index_add(struct jsonl_quarantine *q, char *line, uid_t uid)
{
	int rc = -ENOMEM;

	if (!line)
		return rc;
	pthread_mutex_lock(&q->lock);
	rc = index_append(q, line, uid);
	pthread_mutex_unlock(&q->lock);
	free(line);
	return rc;
}

int jsonl_quarantine_index_sync(struct jsonl_quarantine *q)
{
	struct stat st;
	int fd, rc;
	bool created;

	/* A duplicate of the descriptor: the index may be opened anew meanwhile. */
	pthread_mutex_lock(&q->lock);
	rc = index_open(q, &st);
	created = q->index_new;
	fd = rc < 0 ? -1 : fcntl(q->index_fd, F_DUPFD_CLOEXEC, 3);
	if (rc == 0 && fd < 0)
		rc = -errno;
	pthread_mutex_unlock(&q->lock);
	if (rc < 0)
		return rc;
	rc = q->io->fdatasync(q->io, fd);
	close(fd);
	if (rc == 0 && created)
		rc = q->io->fsync(q->io, q->state_fd);
	if (rc == 0 && created) {
		pthread_mutex_lock(&q->lock);
		q->index_new = false;
		pthread_mutex_unlock(&q->lock);
	}
	return rc;
}

FILE *jsonl_quarantine_index_read(struct jsonl_quarantine *q, int *rc)
{
	int fd = q->io->openat(q->io, q->state_fd, INDEX_NAME,
			       O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	struct stat st;
	FILE *f;

	*rc = fd == -ENOENT ? 0 : fd;
	if (fd < 0)
		return NULL;
	*rc = q->io->fstat(q->io, fd, &st);
	if (*rc == 0 && !S_ISREG(st.st_mode))
		*rc = -EINVAL;
	f = *rc ? NULL : fdopen(fd, "r");
	if (!f) {
		q->io->close(q->io, fd);
		*rc = *rc ? *rc : -ENOMEM;
	}
	return f;
}
