#include "file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "file_internal.h"
#include "tail.h"

/* While no descriptor is free. */
#define FILE_AGAIN    200
#define FILE_AGAIN_MS 10

int jsonl_file_new(const struct jsonl_io *io, int fd,
		   const struct jsonl_file_options *opt,
		   const struct jsonl_file_events *events, void *ctx,
		   struct jsonl_file **file)
{
	struct jsonl_file *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->io = io;
	f->events = events;
	f->ctx = ctx;
	f->opt = *opt;
	f->fd = fd;
	f->append_fd = -1;
	f->dir_fd = -1;
	f->undo_from = -1;
	f->view_size = -1;
	f->quiet_size = -1;
	f->tail_seen.size = -1;
	f->waiters_tail = &f->waiters;
	pthread_mutex_init(&f->lock, NULL);
	pthread_mutex_init(&f->view_lock, NULL);
	pthread_mutex_init(&f->sync_lock, NULL);
	pthread_cond_init(&f->sync_done, NULL);
	*file = f;
	return 0;
}

/* What a failed sync left unsure, and what is to be undone, goes with the memory that holds
 * it: look at the disk a last time, else save what can be saved. */
static void file_give_up(struct jsonl_file *f)
{
	struct iovec iov;
	off_t end;
	int rc;

	if (f->append_fd < 0 || (f->undo_from < 0 && !jsonl_file_is_poisoned(f)))
		return;
	rc = jsonl_file_freeze(f, &end);
	if (!rc)
		jsonl_file_unfreeze(f);
	if (f->undo_from >= 0)
		f->events->report(f->ctx, "undo-failed", rc, f->undo_from,
				  (uint64_t)(f->undo_to - f->undo_from));
	if (!jsonl_file_is_poisoned(f) || !f->kept_len)
		return;
	iov = (struct iovec){.iov_base = f->kept + f->kept_head, .iov_len = f->kept_len};
	if (f->events->set_aside(f->ctx, "sync-failed", -EIO, &iov, 1, f->seg[0].off, 0))
		f->events->report(f->ctx, "sync-lost", -EIO, f->seg[0].off, iov.iov_len);
}

void jsonl_file_free(struct jsonl_file *f)
{
	if (!f)
		return;
	file_give_up(f);
	f->io->close(f->io, f->fd);
	if (f->append_fd >= 0)
		f->io->close(f->io, f->append_fd);
	if (f->dir_fd >= 0)
		f->io->close(f->io, f->dir_fd);
	pthread_cond_destroy(&f->sync_done);
	pthread_mutex_destroy(&f->sync_lock);
	pthread_mutex_destroy(&f->view_lock);
	pthread_mutex_destroy(&f->lock);
	jsonl_file_kept_free(f);
	free(f->seg);
	free(f);
}

int jsonl_file_fd(const struct jsonl_file *f)
{
	return f->fd;
}

bool jsonl_file_can_append(struct jsonl_file *f)
{
	/* Set once; and an append may hold the lock for as long as a disk takes. */
	return __atomic_load_n(&f->append_fd, __ATOMIC_ACQUIRE) >= 0;
}

void jsonl_file_set_append_fd(struct jsonl_file *f, int fd, bool quiet)
{
	struct stat st;

	pthread_mutex_lock(&f->lock);
	if (f->append_fd < 0) {
		/* The first append may come much later, and others before it. */
		f->quiet_size = quiet && !f->io->fstat(f->io, fd, &st) ? st.st_size : -1;
		/* jsonl_file_lead reads it without this lock. */
		__atomic_store_n(&f->append_fd, fd, __ATOMIC_RELEASE);
		fd = -1;
	}
	pthread_mutex_unlock(&f->lock);
	if (fd >= 0)
		f->io->close(f->io, fd);
}

/* ---- what readers see ---- */

/* Under view_lock, with no append of ours under way. */
static int view_refresh(struct jsonl_file *f)
{
	struct jsonl_tail tail;
	struct stat st;
	int rc = 0;

	/* A writer outside may cut the file while we look at its end. */
	for (int tries = 0; tries < 16; tries++) {
		rc = f->io->fstat(f->io, f->fd, &st);
		if (rc || st.st_size == f->view_size)
			return rc;
		rc = jsonl_tail_inspect(f->io, f->fd, st.st_size, f->opt.maxrecord,
					f->opt.maxdepth, &tail);
		if (rc == -ESTALE)
			continue;
		if (rc)
			return rc;
		f->view_size = st.st_size;
		f->visible = tail.visible;
		return 0;
	}
	return rc;
}

int jsonl_file_visible(struct jsonl_file *f, off_t *visible)
{
	int rc = 0;

	pthread_mutex_lock(&f->view_lock);
	if (!f->view_held)
		rc = view_refresh(f);
	*visible = f->visible;
	pthread_mutex_unlock(&f->view_lock);
	return rc;
}

void jsonl_file_view_hold(struct jsonl_file *f, off_t visible)
{
	pthread_mutex_lock(&f->view_lock);
	f->view_held = true;
	f->visible = visible;
	pthread_mutex_unlock(&f->view_lock);
}

void jsonl_file_view_release(struct jsonl_file *f)
{
	pthread_mutex_lock(&f->view_lock);
	f->view_held = false;
	f->view_size = -1;
	pthread_mutex_unlock(&f->view_lock);
}

void jsonl_file_view_set(struct jsonl_file *f, off_t size)
{
	pthread_mutex_lock(&f->view_lock);
	f->view_held = false;
	f->view_size = size;
	f->visible = size;
	pthread_mutex_unlock(&f->view_lock);
}

int jsonl_file_equals(struct jsonl_file *f, const char *data, size_t len, off_t off)
{
	char buf[16384];
	size_t done = 0;

	while (done < len) {
		size_t n = len - done < sizeof(buf) ? len - done : sizeof(buf);
		ssize_t got = jsonl_io_read_full(f->io, f->fd, buf, n, off + (off_t)done);

		if (got < 0)
			return (int)got;
		if ((size_t)got < n || memcmp(buf, data + done, n) != 0)
			return 0;
		done += n;
	}
	return 1;
}

int jsonl_file_is_boundary(struct jsonl_file *f, off_t off)
{
	off_t visible;
	char before;
	ssize_t got;
	int rc = jsonl_file_visible(f, &visible);

	if (rc)
		return rc;
	if (off == 0 || off == visible)
		return 1;
	if (off > visible)
		return 0;
	got = jsonl_io_read_full(f->io, f->fd, &before, 1, off - 1);
	return got < 0 ? (int)got : got == 1 && before == '\n';
}

/* ---- the end of the file ---- */

/* Has the end been left alone for long enough that nobody can be in the middle of a
 * record? By the file's own time stamp, or, when clocks disagree, by watching it. */
static bool tail_is_still(struct jsonl_file *f, const struct stat *st)
{
	struct timespec now, mono;
	double age;

	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_MONOTONIC, &mono);
	age = (double)(now.tv_sec - st->st_mtim.tv_sec) +
	      (double)(now.tv_nsec - st->st_mtim.tv_nsec) / 1e9;
	if (age >= FILE_STILL_SECONDS)
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
	       FILE_STILL_SECONDS;
}

/* Saves the torn tail, then cuts it, then syncs: a crash in between loses nothing. */
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
	/* Saving takes a while, and not everybody outside takes the lock. */
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

static int tail_finish(struct jsonl_file *f, const struct jsonl_tail *tail)
{
	struct iovec newline = {.iov_base = "\n", .iov_len = 1};
	size_t written;
	int rc = jsonl_io_write_full(f->io, f->append_fd, &newline, 1, &written);

	if (rc)
		return rc;
	/* Trying again would prove nothing: the next append asks the disk. */
	rc = jsonl_file_sync_frozen(f, false);
	if (rc)
		return rc;
	f->events->report(f->ctx, "newline-added", 0, tail->size, 1);
	return 0;
}

/* A short write could not be cut back when it happened; it is ours, so it need not rest.
 */
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
		/* Somebody outside went on behind it: now it is damage in the middle. */
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

/* Under lock and flock: makes sure that the file ends with a whole record. */
static int end_prepare(struct jsonl_file *f)
{
	struct jsonl_tail tail;
	struct stat st;
	int rc;

	if (f->undo_from >= 0) {
		/* First, or what is to be undone would stand behind what is to be
		 * verified. */
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
	/* The cache may show what an earlier process failed to sync and told of; behind
	 * bytes that the disk does not hold a record would not stand on a line of its
	 * own. */
	if (!f->end_known && st.st_size)
		f->io->drop_cache(f->io, f->fd,
				  (st.st_size - 1) & ~(off_t)(FILE_PAGE - 1), 0);
	rc = jsonl_tail_inspect(f->io, f->fd, st.st_size, f->opt.maxrecord,
				f->opt.maxdepth, &tail);
	if (rc)
		return rc == -ESTALE ? -EAGAIN : rc;
	if (tail.state == JSONL_TAIL_UNKNOWN)
		return JSONL_UNKNOWN_TAIL;
	if (tail.state != JSONL_TAIL_CLEAN && st.st_size != f->quiet_size &&
	    !tail_is_still(f, &st))
		return -EAGAIN;
	if (tail.state == JSONL_TAIL_TORN)
		rc = tail_cut(f, &tail);
	else if (tail.state == JSONL_TAIL_VALID)
		rc = tail_finish(f, &tail);
	if (rc)
		return rc;
	f->end = tail.state == JSONL_TAIL_TORN	  ? tail.start
		 : tail.state == JSONL_TAIL_VALID ? tail.size + 1
						  : tail.size;
	f->end_known = true;
	f->quiet_size = -1;
	return 0;
}

/* ---- appending ---- */

/* Is what stands behind the end, `len` bytes, the beginning of these vectors? A write may
 * fail and yet have written, so its count alone does not tell. */
static bool is_ours(struct jsonl_file *f, const struct iovec *iov, int niov, size_t len)
{
	off_t at = f->end;

	for (int i = 0; i < niov && len; i++) {
		size_t n = iov[i].iov_len < len ? iov[i].iov_len : len;

		if (jsonl_file_equals(f, iov[i].iov_base, n, at) != 1)
			return false;
		at += (off_t)n;
		len -= n;
	}
	return !len;
}

/* Takes back what a failed write left behind. */
static void append_undo(struct jsonl_file *f, const struct iovec *iov, int niov,
			size_t written)
{
	struct stat st;
	int rc = f->io->fstat(f->io, f->append_fd, &st);

	if (!rc && st.st_size == f->end) {
		jsonl_file_view_set(f, f->end);
		return;
	}
	if (!rc && st.st_size > f->end &&
	    is_ours(f, iov, niov, (size_t)(st.st_size - f->end))) {
		written = (size_t)(st.st_size - f->end);
		rc = f->io->ftruncate(f->io, f->append_fd, f->end);
		if (!rc) {
			jsonl_file_view_set(f, f->end);
			return;
		}
	}
	/* Readers keep the old length; the next append tries again before anything else.
	 */
	f->undo_from = f->end;
	f->undo_to = f->end + (off_t)written;
	f->events->report(f->ctx, "undo-delayed", rc, f->end, written);
}

static size_t iov_length(const struct iovec *iov, int niov)
{
	size_t len = 0;

	for (int i = 0; i < niov; i++)
		len += iov[i].iov_len;
	return len;
}

static bool reserve_refused(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG || rc == -EIO;
}

int jsonl_file_append_frozen(struct jsonl_file *f, const struct iovec *iov, int niov,
			     struct jsonl_file_user *user)
{
	size_t len = iov_length(iov, niov);
	size_t written = 0;
	off_t pos;
	int rc;

	if (len >= FILE_RESERVE_FROM) {
		rc = f->io->reserve(f->io, f->append_fd, f->end, (off_t)len);
		if (reserve_refused(rc))
			return rc;
	}
	jsonl_file_view_hold(f, f->end);
	rc = jsonl_io_write_full(f->io, f->append_fd, iov, niov, &written);
	if (rc) {
		append_undo(f, iov, niov, written);
		return rc;
	}
	pos = f->io->position(f->io, f->append_fd);
	if (pos < 0)
		pos = f->end + (off_t)len;
	if (pos != f->end + (off_t)len) {
		/* Someone who does not take the lock came in between. */
		char before = '\n';
		ssize_t got =
		    jsonl_io_read_full(f->io, f->fd, &before, 1, pos - (off_t)len - 1);

		if (got == 1 && before != '\n')
			f->events->report(f->ctx, "fused-outside", JSONL_FUSED,
					  pos - (off_t)len, len);
	}
	f->end = pos;
	jsonl_file_note_append(f, iov, niov, pos - (off_t)len, user);
	jsonl_file_view_set(f, pos);
	return 0;
}

/* Opens it anew for appending, under its old number. `patient`: waits for a descriptor. */
static int append_again(struct jsonl_file *f, bool patient)
{
	const struct timespec pause = {.tv_nsec = FILE_AGAIN_MS * 1000000L};
	char path[32];
	int fd, rc;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	for (int tried = 0;; tried++) {
		fd = f->io->openat(f->io, AT_FDCWD, path, O_RDWR | O_APPEND, 0);
		if ((fd != -EMFILE && fd != -ENFILE) || !patient || tried == FILE_AGAIN)
			break;
		nanosleep(&pause, NULL);
	}
	if (fd < 0)
		return fd;
	rc = f->io->refer(f->io, fd, f->append_fd);
	f->io->close(f->io, fd);
	f->append_lost = rc != 0;
	return rc;
}

static int file_freeze(struct jsonl_file *f, bool any, off_t *end)
{
	struct stat st;
	int rc;

	jsonl_file_backpressure(f);
	pthread_mutex_lock(&f->lock);
	rc = f->append_fd < 0 ? -EBADF : f->append_lost ? append_again(f, false) : 0;
	if (!rc)
		rc = f->io->trylock(f->io, f->append_fd);
	if (rc) {
		pthread_mutex_unlock(&f->lock);
		return rc == -EWOULDBLOCK || rc == -EINTR ? -EAGAIN : rc;
	}
	rc = end_prepare(f);
	*end = f->end;
	if (any && rc == JSONL_UNKNOWN_TAIL) {
		int failed = f->io->fstat(f->io, f->append_fd, &st);

		if (!failed)
			*end = st.st_size;
		rc = failed ? failed : rc;
	}
	if (rc < 0 || (rc && !any))
		jsonl_file_unfreeze(f);
	return rc;
}

int jsonl_file_freeze(struct jsonl_file *f, off_t *end)
{
	return file_freeze(f, false, end);
}

int jsonl_file_freeze_any(struct jsonl_file *f, off_t *end)
{
	return file_freeze(f, true, end);
}

int jsonl_file_ask_writers(struct jsonl_file *f, int (*ask)(int fd))
{
	int rc, failed = 0;

	pthread_mutex_lock(&f->lock);
	if (f->append_fd < 0) {
		rc = ask(f->fd);
	} else {
		/* A sync that is under way does as well by the other. */
		rc = f->io->refer(f->io, f->fd, f->append_fd);
		if (!rc) {
			f->append_lost = true;
			rc = ask(f->fd);
			failed = append_again(f, true);
		}
	}
	pthread_mutex_unlock(&f->lock);
	return failed ? failed : rc;
}

void jsonl_file_unfreeze(struct jsonl_file *f)
{
	f->io->unlock(f->io, f->append_fd);
	pthread_mutex_unlock(&f->lock);
}

int jsonl_file_empty(struct jsonl_file *f)
{
	int rc = f->io->ftruncate(f->io, f->append_fd, 0);

	if (rc)
		return rc;
	f->end = 0;
	jsonl_file_view_set(f, 0);
	jsonl_file_note_append(f, NULL, 0, 0, NULL);
	return 0;
}

int jsonl_file_append(struct jsonl_file *f, const struct iovec *iov, int niov,
		      struct jsonl_file_user *user, off_t *end)
{
	off_t at;
	int rc = jsonl_file_freeze(f, &at);

	if (rc)
		return rc;
	rc = jsonl_file_append_frozen(f, iov, niov, user);
	if (end)
		*end = f->end;
	jsonl_file_unfreeze(f);
	return rc;
}
