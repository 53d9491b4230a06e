/* After a crash: what a commit that was cut off has left. */
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "commit_internal.h"
#include "hash.h"

#define COMMIT_SAVE (8u << 20) /* a part that is cut is set aside up to this size */

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

void jsonl_commit_intent_clear(const struct jsonl_io *io, int fd, bool durable)
{
	if (io->ftruncate(io, fd, 0) == 0 && durable && io->fdatasync(io, fd))
		errno = 0;
}

/* 1: there is one, 0: none, -errno. */
static int intent_read(const struct jsonl_io *io, int fd, struct intent *i)
{
	ssize_t got = jsonl_io_read_full(io, fd, i, sizeof(*i), 0);

	if (got < 0)
		return (int)got;
	return (size_t)got >= INTENT_FIXED && i->magic == COMMIT_MAGIC &&
	       i->path_len <= COMMIT_PATH && i->stage_len < JSONL_STAGE_NAME &&
	       i->head_len <= COMMIT_HEAD && (size_t)got >= jsonl_commit_intent_size(i) &&
	       i->check == jsonl_commit_intent_check(i);
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

	*rc = i ? intent_read(io, intent_fd, i) : -ENOMEM;
	if (*rc <= 0)
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

/* Are the first bytes there those of the block, or NULs? 1, 0 or -errno. */
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

/* Saves the part, then cuts it. */
static int part_cut(struct jsonl_file *f, const struct intent *i, uint64_t len)
{
	cleanup_free char *bytes = len <= COMMIT_SAVE ? malloc(len) : NULL;
	struct iovec iov = {.iov_base = bytes, .iov_len = len};
	struct stat st;
	ssize_t got;
	int rc = 0;

	if (bytes) {
		got = jsonl_io_read_full(f->io, f->fd, bytes, len, (off_t)i->before);
		if (got != (ssize_t)len)
			return got < 0 ? (int)got : -EAGAIN;
		rc = f->events->set_aside(f->ctx, "transaction", JSONL_INCOMPLETE, &iov,
					  1, (off_t)i->before, 0);
	}
	if (!rc)
		rc = f->io->fstat(f->io, f->append_fd, &st);
	if (!rc && (uint64_t)st.st_size != i->before + len)
		return -EAGAIN;
	if (!rc)
		rc = f->io->ftruncate(f->io, f->append_fd, (off_t)i->before);
	if (!rc)
		rc = f->io->fsync(f->io, f->append_fd);
	if (!rc)
		f->events->report(f->ctx, "transaction-cut", JSONL_INCOMPLETE,
				  (off_t)i->before, len);
	return rc;
}

static int recover(struct jsonl_file *f, const struct intent *i,
		   enum jsonl_recovered *what)
{
	uint64_t sum = 0, size, end;
	struct stat st;
	int rc;

	if (__builtin_add_overflow(i->before, i->length, &end))
		return 0;
	rc = f->io->fstat(f->io, f->append_fd, &st);
	size = (uint64_t)st.st_size;
	if (rc || size <= i->before)
		return rc;
	/* The cache may show what an earlier process failed to sync. */
	f->io->drop_cache(f->io, f->fd, (off_t)i->before & ~(off_t)(FILE_PAGE - 1), 0);
	if (size >= end) {
		rc = range_sum(f, i->before, i->length, &sum);
		if (rc)
			return rc;
	}
	if (size >= end && sum == i->sum) {
		*what = JSONL_RECOVERED_WHOLE;
		return f->io->fdatasync(f->io, f->append_fd);
	}
	rc = size > end ? 0 : head_is_ours(f, i, size - i->before);
	if (rc < 0)
		return rc;
	*what = rc ? JSONL_RECOVERED_CUT : JSONL_RECOVERED_UNSURE;
	if (rc)
		return part_cut(f, i, size - i->before);
	f->events->report(f->ctx, "transaction-unsure", -EBUSY, (off_t)i->before,
			  size - i->before);
	return 0;
}

/* A block that is whole needs no other copy. */
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
	int rc;

	*what = JSONL_RECOVERED_NONE;
	if (!i)
		return -ENOMEM;
	rc = intent_read(io, intent_fd, i);
	if (rc <= 0)
		return rc;
	pthread_mutex_lock(&f->lock);
	rc = f->io->trylock(f->io, f->append_fd);
	if (!rc) {
		rc = recover(f, i, what);
		f->end_known = false;
		jsonl_file_view_release(f);
		f->io->unlock(f->io, f->append_fd);
	}
	pthread_mutex_unlock(&f->lock);
	if (!rc && *what == JSONL_RECOVERED_WHOLE)
		rc = recover_stage(io, dir_fd, i);
	if (rc)
		return rc == -EWOULDBLOCK || rc == -EINTR || rc == -ESTALE ? -EAGAIN : rc;
	jsonl_commit_intent_clear(io, intent_fd, true);
	return 0;
}
