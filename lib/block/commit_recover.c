/* SPDX-License-Identifier: MIT */
/* Recovers a commit that a crash cut off. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/commit_internal.h"
#include "base/hash.h"

#define COMMIT_SAVE (8u << 20) /* largest part to be set aside before it is cut */

size_t jsonl_commit_intent_size(const struct intent *i)
{
	return INTENT_FIXED + i->path_len + i->stage_len + i->head_len;
}

uint64_t jsonl_commit_intent_check(const struct intent *i)
{
	struct intent copy = *i;

	copy.check = 0;
	return jsonl_hash(JSONL_HASH_START, &copy, jsonl_commit_intent_size(i));
}

bool jsonl_commit_intent_clear(const struct jsonl_io *io, int fd, off_t head,
			       bool durable)
{
	return io->ftruncate(io, fd, head) == 0 &&
	       (!durable || io->fdatasync(io, fd) == 0);
}

/* Reads what is at this offset as an intent. 1: there is one, 0: none, -errno. */
static int intent_read_at(const struct jsonl_io *io, int fd, off_t at, struct intent *i)
{
	ssize_t got = jsonl_io_read_full(io, fd, i, sizeof(*i), at);

	if (got < 0)
		return (int)got;
	return (size_t)got >= INTENT_FIXED && i->magic == COMMIT_MAGIC &&
	       i->path_len <= COMMIT_PATH && i->stage_len < JSONL_STAGE_NAME &&
	       i->head_len <= COMMIT_HEAD && (size_t)got >= jsonl_commit_intent_size(i) &&
	       i->check == jsonl_commit_intent_check(i);
}

/* Reads the intent. Without one *i has the path, if that much is there: *head is its
 * length then. */
static int intent_read(const struct jsonl_io *io, int fd, struct intent *i, off_t *head)
{
	cleanup_free struct intent *next = NULL;
	int rc = intent_read_at(io, fd, 0, i);

	*head = 0;
	if (rc <= 0 || i->length)
		return rc;
	*head = (off_t)jsonl_commit_intent_size(i);
	next = malloc(sizeof(*next));
	if (!next)
		return -ENOMEM;
	rc = intent_read_at(io, fd, *head, next);
	if (rc == 1)
		*i = *next;
	return rc;
}

static void stage_name(const struct intent *i, char name[JSONL_STAGE_NAME])
{
	memcpy(name, i->bytes + i->path_len, i->stage_len);
	name[i->stage_len] = '\0';
}

char *jsonl_commit_pending(const struct jsonl_io *io, int intent_fd,
			   char stage[JSONL_STAGE_NAME], int *rc)
{
	cleanup_free struct intent *i = malloc(sizeof(*i));
	char *path;
	off_t head;

	*rc = i ? intent_read(io, intent_fd, i, &head) : -ENOMEM;
	if (*rc < 0 || (!*rc && !head))
		return NULL;
	stage_name(i, stage);
	path = strndup(i->bytes, i->path_len);
	*rc = path ? 0 : -ENOMEM;
	return path;
}

static int range_sum(struct jsonl_file *f, uint64_t from, uint64_t len, uint64_t *sum)
{
	cleanup_free char *buf = malloc(COMMIT_CHUNK);

	if (!buf)
		return -ENOMEM;
	*sum = JSONL_HASH_START;
	while (len) {
		size_t want = len < COMMIT_CHUNK ? (size_t)len : COMMIT_CHUNK;
		ssize_t got = jsonl_io_read_full(f->io, f->fd, buf, want, (off_t)from);

		if (got < 0)
			return (int)got;
		if ((size_t)got < want)
			return -ESTALE;
		*sum = jsonl_hash(*sum, buf, want);
		from += want;
		len -= want;
	}
	return 0;
}

/* Compares the first bytes there with those of the block; a NUL matches any: 1 the same,
 * 0 not, -errno. */
static int head_is_ours(struct jsonl_file *f, const struct intent *i, uint64_t len)
{
	const char *head = i->bytes + i->path_len + i->stage_len;
	char there[COMMIT_HEAD];
	size_t want = len < i->head_len ? (size_t)len : i->head_len;
	ssize_t got = jsonl_io_read_full(f->io, f->fd, there, want, (off_t)i->before);

	if (got < 0)
		return (int)got;
	for (ssize_t n = 0; n < got; n++)
		if (there[n] != head[n] && there[n])
			return 0;
	return 1;
}

/* Sets the part aside, then cuts it off. */
static int part_cut(struct jsonl_file *f, off_t before, uint64_t len)
{
	cleanup_free char *bytes = len <= COMMIT_SAVE ? malloc(len) : NULL;
	struct iovec iov = {.iov_base = bytes, .iov_len = len};
	struct stat st;
	ssize_t got;
	int rc = 0;

	if (bytes) {
		got = jsonl_io_read_full(f->io, f->fd, bytes, len, before);
		if (got != (ssize_t)len)
			return got < 0 ? (int)got : -EAGAIN;
		rc = f->events->set_aside(f->ctx, "transaction", JSONL_INCOMPLETE, &iov,
					  1, before, 0);
	}
	if (!rc)
		rc = f->io->fstat(f->io, f->append_fd, &st);
	if (!rc && (uint64_t)st.st_size != (uint64_t)before + len)
		return -EAGAIN;
	if (!rc)
		rc = f->io->ftruncate(f->io, f->append_fd, before);
	if (!rc)
		rc = f->io->fsync(f->io, f->append_fd);
	if (!rc)
		f->events->report(f->ctx, "transaction-cut", JSONL_INCOMPLETE, before,
				  len);
	return rc;
}

/* Describes the block of an intent or a mark. */
struct block {
	uint64_t before, length, sum;
	const struct intent *intent;
	const struct mark *mark;
};

/* Judges the `len` bytes where the block begins, which are fewer than the block: *what.
 */
static int part_tell(struct jsonl_file *f, const struct block *b, uint64_t len,
		     enum jsonl_recovered *what)
{
	int rc;

	if (b->mark)
		return jsonl_commit_mark_tells(f, b->mark, len, what);
	rc = head_is_ours(f, b->intent, len);
	*what = rc == 1 ? JSONL_RECOVERED_CUT : JSONL_RECOVERED_UNSURE;
	return rc < 0 ? rc : 0;
}

static int recover(struct jsonl_file *f, const struct block *b,
		   enum jsonl_recovered *what)
{
	uint64_t sum = 0, size, end;
	struct stat st;
	int rc;

	if (__builtin_add_overflow(b->before, b->length, &end))
		return 0;
	rc = f->io->fstat(f->io, f->append_fd, &st);
	size = (uint64_t)st.st_size;
	if (rc || size <= b->before)
		return rc;
	/* The page cache may show bytes that an earlier process failed to sync. */
	f->io->drop_cache(f->io, f->fd, (off_t)b->before & ~(off_t)(FILE_PAGE - 1), 0);
	if (size >= end) {
		rc = range_sum(f, b->before, b->length, &sum);
		if (rc)
			return rc;
	}
	if (size >= end && sum == b->sum) {
		*what = JSONL_RECOVERED_WHOLE;
		return f->io->fdatasync(f->io, f->append_fd);
	}
	*what = JSONL_RECOVERED_UNSURE;
	rc = size > end ? 0 : part_tell(f, b, size - b->before, what);
	if (rc || *what == JSONL_RECOVERED_TORN)
		return rc;
	if (*what == JSONL_RECOVERED_CUT)
		return part_cut(f, (off_t)b->before, size - b->before);
	f->events->report(f->ctx, "transaction-unsure", -EBUSY, (off_t)b->before,
			  size - b->before);
	return 0;
}

/* Recovers by intent and mark, which may be of two blocks: the intent of the older one is
 * still there when its clearing did not reach the disk, and that block is whole. Under
 * the file's locks. */
static int recover_both(struct jsonl_file *f, const struct intent *i,
			enum jsonl_recovered *by_intent, enum jsonl_recovered *by_mark)
{
	struct block b = {0};
	struct mark m;
	int rc = 0, marked;

	if (i) {
		b = (struct block){i->before, i->length, i->sum, i, NULL};
		rc = recover(f, &b, by_intent);
	}
	marked = rc ? rc : jsonl_commit_mark_read(f, &m);
	if (marked <= 0)
		return marked;
	b = (struct block){m.before, m.length, m.sum, NULL, &m};
	rc = recover(f, &b, by_mark);
	return rc ? rc : f->io->unmark(f->io, f->append_fd);
}

/* Removes the stage of a block that is whole. */
static int recover_stage(const struct jsonl_io *io, int dir_fd, const struct intent *i)
{
	char name[JSONL_STAGE_NAME];

	if (!i->stage_len)
		return 0;
	stage_name(i, name);
	return jsonl_stage_remove(io, dir_fd, name);
}

int jsonl_commit_recover(const struct jsonl_io *io, int dir_fd, int intent_fd,
			 struct jsonl_file *f, enum jsonl_recovered *what)
{
	cleanup_free struct intent *i = malloc(sizeof(*i));
	enum jsonl_recovered by_mark = JSONL_RECOVERED_NONE;
	int rc, filled;
	off_t head;

	*what = JSONL_RECOVERED_NONE;
	if (!i)
		return -ENOMEM;
	filled = intent_read(io, intent_fd, i, &head);
	if (filled < 0 || (!filled && !head))
		return filled;
	pthread_mutex_lock(&f->lock);
	rc = f->io->trylock(f->io, f->append_fd);
	if (!rc) {
		rc = recover_both(f, filled ? i : NULL, what, &by_mark);
		f->end_known = false;
		jsonl_file_view_release(f);
		f->io->unlock(f->io, f->append_fd);
	}
	pthread_mutex_unlock(&f->lock);
	if (!rc && filled && *what == JSONL_RECOVERED_WHOLE)
		rc = recover_stage(io, dir_fd, i);
	/* The worse of the two results counts. */
	if (by_mark > *what)
		*what = by_mark;
	if (rc)
		return rc == -EWOULDBLOCK || rc == -EINTR || rc == -ESTALE ? -EAGAIN : rc;
	if (filled)
		(void)!jsonl_commit_intent_clear(io, intent_fd, head, true);
	return 0;
}
