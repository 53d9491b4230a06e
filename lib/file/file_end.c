/* SPDX-License-Identifier: MIT */
/* Prepares the end of a file for an append: undoes a short write, verifies after a
 * failed sync, cuts or completes what a crash left. */
#include "file/file_internal.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "file/tail.h"

#define END_STILL_SECONDS 2

/* Returns true when the end has not changed for END_STILL_SECONDS, so that nobody can be
 * in the middle of a record: by the time stamp of the file or, when clocks disagree, by
 * watching it. In shared mode the time stamp may be of another host's clock. */
static bool tail_is_still(struct jsonl_file *f, const struct stat *st)
{
	struct timespec now, mono;
	double age;

	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_MONOTONIC, &mono);
	age = (double)(now.tv_sec - st->st_mtim.tv_sec) +
	      (double)(now.tv_nsec - st->st_mtim.tv_nsec) / 1e9;
	if (!jsonl_file_is_shared(f) && age >= END_STILL_SECONDS)
		return true;
	if (f->tail_seen.size != st->st_size ||
	    f->tail_seen.mtime.tv_sec != st->st_mtim.tv_sec ||
	    f->tail_seen.mtime.tv_nsec != st->st_mtim.tv_nsec) {
		f->tail_seen.size = st->st_size;
		f->tail_seen.mtime = st->st_mtim;
		f->tail_seen.since = mono;
		return false;
	}
	return (double)(mono.tv_sec - f->tail_seen.since.tv_sec) +
		   (double)(mono.tv_nsec - f->tail_seen.since.tv_nsec) / 1e9 >=
	       END_STILL_SECONDS;
}

/* Sets the torn tail aside, cuts it and syncs, in this order: a crash in between loses
 * nothing. */
static int tail_cut(struct jsonl_file *f, const struct jsonl_tail *tail)
{
	size_t len = (size_t)(tail->size - tail->start);
	cleanup_free char *bytes = malloc(len);
	struct iovec iov = {.iov_base = bytes, .iov_len = len};
	struct stat st;
	ssize_t got;
	int rc;

	if (!bytes)
		return -ENOMEM;
	got = jsonl_io_read_full(f->io, f->fd, bytes, len, tail->start);
	if (got < 0)
		return (int)got;
	if ((size_t)got < len)
		return -EAGAIN;
	rc = f->events->set_aside(f->ctx, "torn-tail", tail->verdict, &iov, 1,
				  tail->start, 0);
	if (rc)
		return rc;
	/* Programs that do not take the lock may have appended meanwhile. */
	rc = f->io->fstat(f->io, f->append_fd, &st);
	if (!rc && st.st_size != tail->size)
		return -EAGAIN;
	if (!rc)
		rc = f->io->ftruncate(f->io, f->append_fd, tail->start);
	if (rc)
		return rc;
	rc = jsonl_file_sync_frozen(f, true);
	if (rc)
		return rc;
	f->events->report(f->ctx, "repaired", tail->verdict, tail->start, len);
	return 0;
}

int jsonl_file_end_finish(struct jsonl_file *f)
{
	struct iovec newline = {.iov_base = "\n", .iov_len = 1};
	size_t written;
	int rc;

	if (!f->end_open)
		return 0;
	rc = jsonl_io_write_full(f->io, f->append_fd, &newline, 1, &written);
	if (rc)
		return rc;
	f->end_open = false;
	f->end++;
	/* After a failure the next append verifies the disk; a second sync proves
	 * nothing. */
	rc = jsonl_file_sync_frozen(f, false);
	if (rc)
		return rc;
	f->events->report(f->ctx, "newline-added", 0, f->end - 1, 1);
	return 0;
}

/* Undoes a short write of ours that could not be undone when it happened. Unlike the
 * tail of another program it need not have rested. `size`: of the file. */
static int undo_finish(struct jsonl_file *f, off_t size)
{
	int rc;

	if (size <= f->undo_from) {
		f->undo_from = -1;
		f->end_known = size == f->end;
		jsonl_file_view_release(f);
		return 0;
	}
	if (size != f->undo_to) {
		/* Another program has appended behind it: it is damage in the middle now.
		 */
		f->events->report(f->ctx, "undo-failed", -EBUSY, f->undo_from,
				  (uint64_t)(f->undo_to - f->undo_from));
		f->undo_from = -1;
		f->end_known = false;
		jsonl_file_view_release(f);
		return 0;
	}
	rc = f->io->ftruncate(f->io, f->append_fd, f->undo_from);
	if (rc)
		return rc;
	f->end = f->undo_from;
	f->undo_from = -1;
	f->end_known = true;
	jsonl_file_view_set(f, f->end);
	return 0;
}

int jsonl_file_end_prepare(struct jsonl_file *f)
{
	struct jsonl_tail tail;
	struct stat st;
	int rc;

	if (f->undo_from >= 0) {
		/* Done before the verification, which would write its bytes behind
		 * it. */
		rc = f->io->fstat(f->io, f->append_fd, &st);
		if (!rc)
			rc = undo_finish(f, st.st_size);
		if (rc)
			return rc;
	}
	if (jsonl_file_is_poisoned(f)) {
		rc = jsonl_file_verify(f);
		if (rc)
			return rc;
	}
	rc = f->io->fstat(f->io, f->append_fd, &st);
	if (rc || (f->end_known && st.st_size == f->end))
		return rc;
	/* Other hosts have written it, and what this host has cached may be old. */
	if (jsonl_file_is_remote(f))
		f->io->drop_cache(f->io, f->fd, 0, 0);
	/* The page cache may show bytes that an earlier process failed to sync. A record
	 * appended behind them would not begin a line on the disk. */
	else if (!f->end_known && st.st_size)
		f->io->drop_cache(f->io, f->fd,
				  (st.st_size - 1) & ~(off_t)(FILE_PAGE - 1), 0);
	rc = jsonl_tail_inspect(f->io, f->fd, st.st_size, f->opt.maxrecord,
				f->opt.maxdepth, &tail);
	if (rc)
		return rc == -ESTALE ? -EAGAIN : rc;
	if (tail.state == JSONL_TAIL_UNKNOWN)
		return JSONL_UNKNOWN_TAIL;
	if (tail.state != JSONL_TAIL_CLEAN && (st.st_size != f->quiet_size || jsonl_file_is_shared(f)) &&
	    !tail_is_still(f, &st))
		return -EAGAIN;
	if (tail.state == JSONL_TAIL_TORN)
		rc = tail_cut(f, &tail);
	if (rc)
		return rc;
	f->end = tail.state == JSONL_TAIL_TORN ? tail.start : tail.size;
	f->end_open = tail.state == JSONL_TAIL_VALID;
	f->end_known = true;
	f->quiet_size = -1;
	return 0;
}
