/* SPDX-License-Identifier: MIT */
#include "quarantine/quarantine_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "report/report.h"

#define DIR_NAME     "quarantine"
#define SETTLE_TRIES 1000 /* each a millisecond */

/* Hashes path, uid and bytes; never 0, which stands for none. */
static uint64_t hash_item(const struct jsonl_quarantine_item *item)
{
	uint64_t hash = jsonl_hash(JSONL_HASH_START, item->path, strlen(item->path) + 1);

	hash = jsonl_hash(hash, &item->uid, sizeof(item->uid));
	for (int i = 0; i < item->niov; i++)
		hash = jsonl_hash(hash, item->iov[i].iov_base, item->iov[i].iov_len);
	return hash ? hash : 1;
}

int jsonl_quarantine_put(struct jsonl_quarantine *q,
			 const struct jsonl_quarantine_item *item,
			 char name[JSONL_QUARANTINE_NAME])
{
	char own[JSONL_QUARANTINE_NAME];
	uint64_t hash;
	int rc = 0;

	if (q->dir_fd < 0)
		return -EROFS;
	hash = hash_item(item);
	name = name ? name : own;
	pthread_mutex_lock(&q->lock);
	if (item->joinable || !jsonl_quarantine_known(q, hash, item, name))
		rc = item->gather && !item->joinable
			 ? jsonl_quarantine_gather(q, item, hash, name)
			 : jsonl_quarantine_store(q, item, hash, name);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/* ---- what people do with entries ---- */

int jsonl_quarantine_drop(struct jsonl_quarantine *q, const char *name)
{
	if (q->dir_fd < 0)
		return -EROFS;
	return jsonl_quarantine_is_entry(name) ? q->io->unlinkat(q->io, q->dir_fd, name)
					       : -EINVAL;
}

int jsonl_quarantine_settle(struct jsonl_quarantine *q)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	int rc;

	if (q->dir_fd < 0)
		return -EROFS;
	rc = q->io->fsync(q->io, q->dir_fd);
	/* Takes stock between two puts; if that fails, when room is needed. */
	for (int i = 0; rc == 0 && i < SETTLE_TRIES; i++) {
		bool idle;

		pthread_mutex_lock(&q->lock);
		idle = q->inflight == 0;
		if (idle)
			rc = jsonl_quarantine_recount(q, true);
		pthread_mutex_unlock(&q->lock);
		if (idle)
			break;
		(void)nanosleep(&pause, NULL);
	}
	return rc;
}

int jsonl_quarantine_restored(struct jsonl_quarantine *q, const char *name,
			      uint64_t records)
{
	int64_t stamp;

	if (q->dir_fd < 0)
		return -EROFS;
	if (!jsonl_quarantine_is_entry(name))
		return -EINVAL;
	pthread_mutex_lock(&q->lock);
	stamp = jsonl_quarantine_stamp(q);
	pthread_mutex_unlock(&q->lock);
	return jsonl_quarantine_index_add(
	    q, jsonl_quarantine_line_restored(stamp, name, records), 0);
}

void jsonl_quarantine_usage(struct jsonl_quarantine *q, uint64_t *bytes,
			    uint64_t *entries)
{
	pthread_mutex_lock(&q->lock);
	*bytes = q->table.shares.bytes;
	*entries = q->table.entries;
	pthread_mutex_unlock(&q->lock);
}

/* ---- beginning and end ---- */

static int open_directory(struct jsonl_quarantine *q)
{
	struct stat st;
	int fd;

	if (mkdirat(q->state_fd, DIR_NAME, 0711) == 0) {
		/* The umask may have cleared bits. */
		if (fchmodat(q->state_fd, DIR_NAME, 0711, 0) < 0)
			return -errno;
	} else if (errno != EEXIST && errno != EROFS) {
		return -errno;
	}
	fd = q->io->openat(q->io, q->state_fd, DIR_NAME,
			   O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	/* On a read-only disk put() will return the error. */
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	q->dir_fd = fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* The owner of the directory could put other bytes in the place of ours. */
	return st.st_uid == 0 || st.st_uid == geteuid() ? 0 : -EPERM;
}

int jsonl_quarantine_new(const struct jsonl_io *io, int state_fd, uint64_t max_bytes,
			 struct jsonl_quarantine **out)
{
	struct jsonl_quarantine *q = calloc(1, sizeof(*q));
	int rc;

	if (!q)
		return -ENOMEM;
	q->io = io;
	q->index_fd = q->dir_fd = -1;
	q->table.max = max_bytes;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->stored, NULL);
	q->state_fd = -1;
	if (state_fd < 0) {
		*out = q;
		return 0;
	}
	q->state_fd = fcntl(state_fd, F_DUPFD_CLOEXEC, 3);
	rc = q->state_fd < 0 ? -errno : open_directory(q);
	if (rc == 0 && q->dir_fd >= 0)
		rc = jsonl_quarantine_recount(q, false);
	if (rc < 0) {
		jsonl_quarantine_free(q);
		return rc;
	}
	*out = q;
	return 0;
}

void jsonl_quarantine_share(struct jsonl_quarantine *q)
{
	q->shared = true;
}

void jsonl_quarantine_bound(struct jsonl_quarantine *q, uint64_t max_bytes)
{
	pthread_mutex_lock(&q->lock);
	q->table.max = max_bytes;
	pthread_mutex_unlock(&q->lock);
}

void jsonl_quarantine_free(struct jsonl_quarantine *q)
{
	if (!q)
		return;
	if (q->index_fd >= 0)
		q->io->close(q->io, q->index_fd);
	if (q->dir_fd >= 0)
		q->io->close(q->io, q->dir_fd);
	if (q->state_fd >= 0)
		close(q->state_fd);
	jsonl_quarantine_table_clear(&q->table);
	pthread_cond_destroy(&q->stored);
	pthread_mutex_destroy(&q->lock);
	free(q);
}
