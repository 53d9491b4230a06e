/* SPDX-License-Identifier: MIT */
#include "block/commit.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/commit_internal.h"
#include "base/hash.h"

/* ---- the intent ---- */

static void intent_fill(struct intent *i, const char *path, const char *stage)
{
	i->magic = COMMIT_MAGIC;
	i->path_len = (uint32_t)strnlen(path, COMMIT_PATH);
	memcpy(i->bytes, path, i->path_len);
	if (stage) {
		i->stage_len = (uint32_t)strnlen(stage, JSONL_STAGE_NAME - 1);
		memcpy(i->bytes + i->path_len, stage, i->stage_len);
	}
}

/* Fills in length, sum and head of the block. `buf`: COMMIT_CHUNK bytes, if it is in a
 * file. */
static int intent_measure(struct intent *i, struct jsonl_stage *stage, char *buf)
{
	const char *bytes;
	ssize_t got;

	i->length = 0;
	i->sum = JSONL_HASH_START;
	while ((got = jsonl_stage_read(stage, i->length, buf, COMMIT_CHUNK, &bytes)) >
	       0) {
		if (!i->length) {
			i->head_len = got < COMMIT_HEAD ? (uint32_t)got : COMMIT_HEAD;
			memcpy(i->bytes + i->path_len + i->stage_len, bytes, i->head_len);
		}
		i->sum = jsonl_hash(i->sum, bytes, (size_t)got);
		i->length += (uint64_t)got;
	}
	return (int)got;
}

static int intent_write(const struct jsonl_transaction *c, struct intent *i)
{
	struct iovec iov = {.iov_base = i, .iov_len = jsonl_commit_intent_size(i)};
	size_t written;
	int rc;

	i->check = jsonl_commit_intent_check(i);
	/* An earlier intent is still there if it could not be cleared. */
	rc = c->io->ftruncate(c->io, c->intent->fd, c->intent->head);
	if (!rc)
		rc = jsonl_io_write_full(c->io, c->intent->fd, &iov, 1, &written);
	if (!rc && c->durable)
		rc = c->io->fdatasync(c->io, c->intent->fd);
	return rc;
}

/* Writes the beginning of the file, which tells the path, before there is any intent. */
static int head_write(const struct jsonl_transaction *c)
{
	uint64_t path = jsonl_hash(JSONL_HASH_START, c->path, strlen(c->path));
	cleanup_free struct intent *i = NULL;
	int rc;

	if (c->intent->head && c->intent->path == path)
		return 0;
	i = calloc(1, sizeof(*i));
	if (!i)
		return -ENOMEM;
	intent_fill(i, c->path, NULL);
	c->intent->head = 0;
	rc = intent_write(c, i);
	if (rc)
		return rc;
	c->intent->head = (off_t)jsonl_commit_intent_size(i);
	c->intent->path = path;
	return 0;
}

/* Clears mark and file if possible. An intent that stays changes nothing for a block
 * that is whole, nor for one of which nothing is there. */
static void intent_clear(const struct jsonl_transaction *c, struct jsonl_file *f,
			 bool durable)
{
	struct jsonl_intent *i = c->intent;
	int rc;

	if (i->marked) {
		rc = f->io->unmark(f->io, f->append_fd);
		i->marked = rc && rc != -ENODATA && rc != -EOPNOTSUPP;
	}
	if (i->filled)
		i->filled = !jsonl_commit_intent_clear(c->io, i->fd, i->head, durable);
}

/* Makes the intent a mark, for a block in memory on a file system that keeps the order.
 * False: it must go to the file. */
static bool intent_mark(const struct jsonl_transaction *c, struct jsonl_file *f,
			struct jsonl_stage *stage)
{
	const char *bytes;
	ssize_t got;
	int rc;

	/* An intent in the file that could not be cleared must be overwritten. */
	if (!c->ordered || c->intent->filled || jsonl_stage_file(stage))
		return false;
	got = jsonl_stage_read(stage, 0, NULL, SIZE_MAX, &bytes);
	rc = got > 0 ? jsonl_commit_mark_set(f, bytes, (size_t)got) : -EIO;
	c->intent->marked |= !rc || rc == -EIO;
	return !rc;
}

static int intent_fill_file(const struct jsonl_transaction *c, struct jsonl_file *f,
			    struct jsonl_stage *stage, char *buf)
{
	cleanup_free struct intent *i = calloc(1, sizeof(*i));
	int rc;

	if (!i)
		return -ENOMEM;
	i->before = (uint64_t)f->end;
	intent_fill(i, c->path, jsonl_stage_file(stage));
	rc = intent_measure(i, stage, buf);
	c->intent->filled = true;
	return rc ? rc : intent_write(c, i);
}

/* ---- the block; under the file's locks ---- */

static int block_write(struct jsonl_file *f, struct jsonl_stage *stage, char *buf)
{
	const char *bytes;
	uint64_t off = 0;
	ssize_t got;
	int rc = 0;

	while (!rc &&
	       (got = jsonl_stage_read(stage, off, buf, COMMIT_CHUNK, &bytes)) > 0) {
		struct iovec iov = {.iov_base = (void *)bytes, .iov_len = (size_t)got};
		size_t written;

		rc = jsonl_io_write_full(f->io, f->append_fd, &iov, 1, &written);
		off += (uint64_t)got;
	}
	return rc ? rc : (int)got;
}

/* Returns true when the `len` bytes behind the end are the beginning of the block. */
static bool block_is_ours(struct jsonl_file *f, struct jsonl_stage *stage, uint64_t len,
			  char *buf)
{
	const char *bytes;
	uint64_t off = 0;

	while (off < len) {
		size_t want =
		    len - off < COMMIT_CHUNK ? (size_t)(len - off) : COMMIT_CHUNK;
		ssize_t got = jsonl_stage_read(stage, off, buf, want, &bytes);

		if (got <= 0 ||
		    jsonl_file_equals(f, bytes, (size_t)got, f->end + (off_t)off) != 1)
			return false;
		off += (uint64_t)got;
	}
	return true;
}

/* Cuts a block off that was not written whole or is not durable. False: that failed, or a
 * power cut might bring it back, so the intent must stay. */
static bool block_undo(struct jsonl_file *f, struct jsonl_stage *stage, bool durable,
		       char *buf)
{
	struct stat st;
	int rc = f->io->fstat(f->io, f->append_fd, &st);

	if (!rc && st.st_size > f->end &&
	    block_is_ours(f, stage, (uint64_t)(st.st_size - f->end), buf)) {
		rc = f->io->ftruncate(f->io, f->append_fd, f->end);
		if (!rc)
			st.st_size = f->end;
	}
	if (!rc && st.st_size <= f->end) {
		jsonl_file_view_set(f, f->end);
		return !durable || jsonl_file_sync_frozen(f, false) == 0;
	}
	/* Readers keep the old length; the next append first tries again. */
	f->undo_from = f->end;
	f->undo_to = rc ? f->end + (off_t)jsonl_stage_length(stage) : st.st_size;
	f->events->report(f->ctx, "undo-delayed", rc, f->end,
			  (uint64_t)(f->undo_to - f->undo_from));
	return false;
}

/* Drops the stage of a block that is durable, then the intent. While the stage has a
 * file, the intent is needed: without it recovery would take those records for
 * uncommitted ones. */
static void block_done(const struct jsonl_transaction *c, struct jsonl_file *f,
		       struct jsonl_stage *stage)
{
	int rc = 0;

	if (c->durable)
		rc = jsonl_stage_discard(stage);
	else
		jsonl_stage_clear(stage);
	if (rc)
		f->events->report(f->ctx, "stage-stays", rc, f->end, 0);
	else
		intent_clear(c, f, false);
}

static int block_append(const struct jsonl_transaction *c, struct jsonl_file *f,
			struct jsonl_stage *stage, char *buf)
{
	off_t end = f->end + (off_t)jsonl_stage_length(stage), pos;
	bool undone;
	int rc;

	jsonl_file_view_hold(f, f->end);
	rc = block_write(f, stage, buf);
	/* If a sync for others has failed meanwhile the block may be lost, too. */
	if (!rc && c->durable &&
	    (jsonl_file_sync_frozen(f, false) || jsonl_file_is_poisoned(f)))
		rc = -EIO;
	if (rc) {
		undone = block_undo(f, stage, c->durable, buf);
		if (rc == -EIO)
			f->end_known = false;
		/* Others may append now: the intent must not apply to their bytes. */
		if (undone)
			intent_clear(c, f, c->durable);
		return rc;
	}
	pos = f->io->position(f->io, f->append_fd);
	if (pos >= 0 && pos != end) {
		/* A program that does not take the lock has appended meanwhile. */
		f->events->report(f->ctx, "fused-outside", JSONL_FUSED, f->end,
				  (uint64_t)(end - f->end));
		f->end_known = false;
	}
	f->end = end;
	jsonl_file_view_set(f, end);
	block_done(c, f, stage);
	return 0;
}

static int block_commit(const struct jsonl_transaction *c, struct jsonl_file *f,
			struct jsonl_stage *stage)
{
	uint64_t len = jsonl_stage_length(stage);
	cleanup_free char *buf = jsonl_stage_file(stage) ? malloc(COMMIT_CHUNK) : NULL;
	int rc = 0;

	if (!buf && jsonl_stage_file(stage))
		return -ENOMEM;
	/* A full disk shows here, before anything is written. */
	if (len >= FILE_RESERVE_FROM)
		rc = f->io->reserve(f->io, f->append_fd, f->end, (off_t)len);
	if (jsonl_file_is_full(rc) || rc == -EIO)
		return rc;
	rc = head_write(c);
	if (!rc && !intent_mark(c, f, stage))
		rc = intent_fill_file(c, f, stage, buf);
	if (rc) {
		intent_clear(c, f, c->durable);
		return rc;
	}
	return block_append(c, f, stage, buf);
}

/* Appends one record without an intent: it will be whole or torn, and a torn one is cut
 * as any torn tail. */
static int single_commit(struct jsonl_file *f, struct jsonl_stage *stage,
			 struct jsonl_file_user *user)
{
	size_t len = (size_t)jsonl_stage_length(stage);
	cleanup_free char *buf = malloc(len);
	struct iovec iov = {.iov_len = len};
	const char *bytes;
	ssize_t got;

	if (!buf)
		return -ENOMEM;
	got = jsonl_stage_read(stage, 0, buf, len, &bytes);
	if (got < 0)
		return (int)got;
	iov.iov_base = (void *)bytes;
	got = jsonl_file_append_frozen(f, &iov, 1, user);
	if (!got)
		jsonl_stage_clear(stage);
	return (int)got;
}

int jsonl_commit_run(const struct jsonl_transaction *c, struct jsonl_file *f,
		     struct jsonl_stage *stage, struct jsonl_file_user *user)
{
	bool needs = c->records != 1 || jsonl_stage_file(stage);
	off_t end;
	int rc;

	if (!jsonl_stage_length(stage))
		return 0;
	if (needs && __atomic_load_n(&c->intent->fd, __ATOMIC_ACQUIRE) < 0)
		return -EBADF;
	rc = jsonl_file_freeze_for(f, user, &end);
	if (rc)
		return rc;
	/* A block that begins like the one before, at the same place, would be taken for
	 * that one by an intent that is still there. */
	if (c->intent->marked || c->intent->filled) {
		intent_clear(c, f, c->durable);
		needs = needs || c->intent->marked || c->intent->filled;
	}
	rc = needs ? block_commit(c, f, stage) : single_commit(f, stage, user);
	jsonl_file_unfreeze(f);
	return rc;
}
