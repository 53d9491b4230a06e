/* SPDX-License-Identifier: MIT */
/* Adds bytes to an entry: the rest of a record whose beginning is there, and the bad
 * lines of one program that come within a minute. */
#include "quarantine/quarantine_internal.h"
#include "base/memory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hash.h"

struct joining {
	const char *name;
	const struct jsonl_quarantine_item *item; /* gathered; NULL: joined */
	uint64_t hash;				  /* its */
	const struct iovec *iov;
	int niov;
	bool durable, reserved;
	bool newline; /* one goes before the bytes: the entry does not end in one */
	uid_t uid;
	int64_t at;	 /* result: where the bytes begin in the entry */
	uint64_t blocks; /* charged */
};

static size_t length(const struct joining *j)
{
	return jsonl_iov_length(j->iov, j->niov) + j->newline;
}

/* Charges the room that the bytes need behind `size` bytes to the uid. */
static int admit_more(struct jsonl_quarantine *q, struct joining *j, uint64_t size)
{
	struct jsonl_quarantine_recent *r;
	uint64_t wanted;
	int rc = 0;

	j->blocks = jsonl_quarantine_blocks(size + length(j)) -
		    jsonl_quarantine_blocks(size ? size : 1);
	wanted = j->blocks + JSONL_QUARANTINE_LINE;
	pthread_mutex_lock(&q->lock);
	r = jsonl_quarantine_table_by_name(&q->table, j->name);
	j->uid = r ? r->uid : j->uid;
	if (!jsonl_quarantine_table_fits(&q->table, j->uid, wanted, j->reserved))
		rc = -ENOSPC;
	if (rc == 0)
		rc = jsonl_quarantine_table_charge(&q->table, j->uid, j->blocks);
	if (rc == 0) {
		q->inflight++;
		if (r && !r->part)
			jsonl_quarantine_table_changed(&q->table, r);
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

static int append_bytes(struct jsonl_quarantine *q, int fd, off_t size,
			const struct joining *j)
{
	struct iovec newline = {.iov_base = (char *)"\n", .iov_len = j->newline};
	size_t before = 0, written = 0;
	int rc = 0;

	if (j->newline)
		rc = jsonl_io_write_full(q->io, fd, &newline, 1, &before);
	if (rc == 0)
		rc = jsonl_io_write_full(q->io, fd, j->iov, j->niov, &written);
	if (rc == 0 && j->durable)
		rc = q->io->fsync(q->io, fd);
	if (rc < 0 && before + written)
		(void)q->io->ftruncate(q->io, fd, size);
	return rc;
}

static char *line_of(const struct joining *j, int64_t stamp)
{
	char time[JSONL_QUARANTINE_TIME];

	if (j->item)
		return jsonl_quarantine_line_stored(j->item, stamp, j->hash, j->name,
						    j->at);
	jsonl_quarantine_line_time(stamp, time);
	return jsonl_quarantine_line_joined(time, j->name, j->uid, length(j));
}

static int join_open(struct jsonl_quarantine *q, int fd, struct joining *j)
{
	struct stat st;
	int64_t stamp;
	int rc;

	rc = q->io->fstat(q->io, fd, &st);
	if (rc == 0 && !S_ISREG(st.st_mode))
		rc = -EINVAL;
	if (rc < 0)
		return rc;
	j->uid = j->uid == (uid_t)-1 ? st.st_uid : j->uid;
	j->at = st.st_size + j->newline;
	rc = admit_more(q, j, (uint64_t)st.st_size);
	if (rc < 0)
		return rc;
	rc = append_bytes(q, fd, st.st_size, j);
	pthread_mutex_lock(&q->lock);
	q->inflight--;
	stamp = jsonl_quarantine_stamp(q);
	if (rc < 0)
		jsonl_quarantine_table_refund(&q->table, j->uid, j->blocks);
	pthread_mutex_unlock(&q->lock);
	if (rc < 0)
		return rc;
	/* The bytes are kept; this line only notes them, and nothing is lost without
	 * it. */
	rc = jsonl_quarantine_index_add(q, line_of(j, stamp), j->uid);
	if (rc == 0 && j->durable)
		(void)!jsonl_quarantine_index_sync(q);
	return 0;
}

static int join(struct jsonl_quarantine *q, struct joining *j)
{
	int fd, rc;

	fd = q->io->openat(q->io, q->dir_fd, j->name,
			   O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	rc = join_open(q, fd, j);
	q->io->close(q->io, fd);
	return rc;
}

int jsonl_quarantine_join(struct jsonl_quarantine *q, const char *name,
			  const struct iovec *iov, int niov, bool durable)
{
	struct joining j = {
	    .name = name, .iov = iov, .niov = niov, .durable = durable, .uid = (uid_t)-1};

	if (q->dir_fd < 0)
		return -EROFS;
	return jsonl_quarantine_is_entry(name) ? join(q, &j) : -EINVAL;
}

/* ---- gathering ---- */

static bool is_unfinished(const struct jsonl_quarantine_item *item)
{
	for (int i = item->niov; i--;)
		if (item->iov[i].iov_len) {
			const char *bytes = item->iov[i].iov_base;

			return bytes[item->iov[i].iov_len - 1] != '\n';
		}
	return false;
}

static uint64_t gather_key(const struct jsonl_quarantine_item *item)
{
	const char *program = item->program ? item->program : "";
	uint64_t key = jsonl_hash(JSONL_HASH_START, item->path, strlen(item->path) + 1);

	key = jsonl_hash(key, program, strlen(program) + 1);
	key = jsonl_hash(key, item->event, strlen(item->event) + 1);
	key = jsonl_hash(key, &item->uid, sizeof(item->uid));
	key = jsonl_quarantine_file_readers(key, item->source_fd);
	return key ? key : 1;
}

/* Adds bytes to the entry of `g`, which is busy. Without lock. -EFBIG: it is full. */
static int gather_more(struct jsonl_quarantine *q,
		       const struct jsonl_quarantine_item *item, uint64_t hash,
		       bool newline, const char *name, int64_t *at)
{
	struct joining j = {
	    .name = name,
	    .item = item,
	    .hash = hash,
	    .iov = item->iov,
	    .niov = item->niov,
	    .durable = item->durable,
	    .reserved = item->reserved,
	    .newline = newline,
	    .uid = item->uid,
	};
	struct stat st;
	int rc = fstatat(q->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;

	if (rc == 0 && (uint64_t)st.st_size + length(&j) > JSONL_QUARANTINE_GATHER_MAX)
		rc = -EFBIG;
	if (rc == 0)
		rc = join(q, &j);
	*at = j.at;
	return rc;
}

/* Remembers the bytes, so that they are found again. Under lock. */
static void remember_part(struct jsonl_quarantine *q,
			  const struct jsonl_quarantine_item *item, uint64_t hash,
			  const char *name, int64_t at)
{
	struct jsonl_quarantine_recent *r =
	    jsonl_quarantine_table_add(&q->table, hash, item->uid);

	if (!r)
		return;
	r->name = strdup(name);
	r->durable = item->durable;
	r->part = true;
	r->at = at;
	if (!r->name)
		jsonl_quarantine_table_forget(&q->table, r);
}

/* Makes an entry of its own, which others may add to. Under lock. */
static int gather_first(struct jsonl_quarantine *q,
			const struct jsonl_quarantine_item *item, uint64_t hash,
			uint64_t key, char name[JSONL_QUARANTINE_NAME])
{
	struct jsonl_quarantine_gather *g =
	    jsonl_quarantine_table_gather_new(&q->table, key, jsonl_quarantine_seconds());
	struct jsonl_quarantine_recent *r;
	int rc;

	if (g)
		g->busy = true;
	rc = jsonl_quarantine_store(q, item, hash, name);
	if (!g)
		return rc;
	g->busy = false;
	g->unfinished = is_unfinished(item);
	g->name = rc == 0 ? strdup(name) : NULL;
	if (!g->name)
		jsonl_quarantine_table_gather_end(g);
	r = rc == 0 ? jsonl_quarantine_table_find(&q->table, hash) : NULL;
	if (r && r->name && strcmp(r->name, name) == 0)
		r->part = true;
	pthread_cond_broadcast(&q->stored);
	return rc;
}

int jsonl_quarantine_gather(struct jsonl_quarantine *q,
			    const struct jsonl_quarantine_item *item, uint64_t hash,
			    char name[JSONL_QUARANTINE_NAME])
{
	uint64_t key = gather_key(item);
	struct jsonl_quarantine_gather *g;
	bool newline;
	int64_t at = 0;
	int rc;

	while ((g = jsonl_quarantine_table_gather(&q->table, key,
						  jsonl_quarantine_seconds() -
						      JSONL_QUARANTINE_GATHER_SECONDS)) &&
	       g->busy)
		pthread_cond_wait(&q->stored, &q->lock);
	if (!g)
		return gather_first(q, item, hash, key, name);
	g->busy = true;
	newline = g->unfinished;
	(void)snprintf(name, JSONL_QUARANTINE_NAME, "%s", g->name);
	pthread_mutex_unlock(&q->lock);
	rc = gather_more(q, item, hash, newline, name, &at);
	pthread_mutex_lock(&q->lock);
	g->busy = false;
	if (rc == 0) {
		g->unfinished = is_unfinished(item);
		remember_part(q, item, hash, name, at);
	} else if (rc != -ENOSPC) {
		/* Begins another when it is full, dropped, or cannot be written to. */
		jsonl_quarantine_table_gather_end(g);
	}
	pthread_cond_broadcast(&q->stored);
	return rc == 0 || rc == -ENOSPC ? rc : gather_first(q, item, hash, key, name);
}
