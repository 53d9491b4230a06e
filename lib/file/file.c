/* SPDX-License-Identifier: MIT */
#include "file/file.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "file/file_internal.h"
#include "json/text.h"

#define UNDO_LOOK (64u << 10) /* bytes behind a failed write that are examined */

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
	if (opt->remote)
		jsonl_io_direct(fd);
	f->append_fd = -1;
	f->next.fd = f->next.append_fd = -1;
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

/* Verifies bytes that a failed sync left unsure, and undoes a short write, before the
 * memory of them is freed; bytes that stay unsure are set aside. */
static void file_give_up(struct jsonl_file *f)
{
	struct iovec iov;
	off_t end;
	int rc;

	if (f->tenure.held)
		jsonl_file_tenure_end(f);
	if (f->append_fd < 0 || (f->undo_from < 0 && !jsonl_file_is_poisoned(f)))
		return;
	rc = jsonl_file_freeze_as_is(f, &end);
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
	if (f->next.fd >= 0) {
		f->io->close(f->io, f->next.fd);
		f->io->close(f->io, f->next.append_fd);
	}
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
	/* Without file->lock, which an append holds for as long as the disk takes. */
	return __atomic_load_n(&f->append_fd, __ATOMIC_ACQUIRE) >= 0;
}

void jsonl_file_set_append_fd(struct jsonl_file *f, int fd, bool quiet)
{
	struct stat st;

	pthread_mutex_lock(&f->lock);
	if (f->append_fd < 0) {
		/* By the time of the first append the file may have grown: then somebody
		 * writes to it. */
		f->quiet_size = quiet && !f->io->fstat(f->io, fd, &st) ? st.st_size : -1;
		/* Atomic: read without this lock. */
		__atomic_store_n(&f->append_fd, fd, __ATOMIC_RELEASE);
		fd = -1;
	}
	pthread_mutex_unlock(&f->lock);
	if (fd >= 0)
		f->io->close(f->io, fd);
}

/* ---- appending ---- */

/* Returns true when the `len` bytes behind the end are the beginning of these vectors. A
 * write that failed does not say how much it has written. */
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

static size_t line_length(const char *line, size_t left)
{
	return (size_t)((const char *)(memchr(line, '\n', left) ?: line + left) - line);
}

/* Returns true when all bytes behind the end, up to `size`, are whole records of other
 * programs: none of them is our first, and there is no half one of ours between or
 * behind them. */
static bool is_of_others(struct jsonl_file *f, const struct iovec *iov, int niov,
			 off_t size)
{
	const size_t len = (size_t)(size - f->end), ours = jsonl_iov_length(iov, niov);
	cleanup_free char *bytes =
	    len <= UNDO_LOOK && ours <= UNDO_LOOK ? malloc(len + ours) : NULL;
	struct jsonl_text text;
	size_t first, n;

	if (!bytes ||
	    jsonl_io_read_full(f->io, f->fd, bytes, len, f->end) != (ssize_t)len)
		return false;
	jsonl_iov_copy(bytes + len, iov, niov);
	first = line_length(bytes + len, ours);
	for (size_t at = 0; at < len; at += n + 1) {
		n = line_length(bytes + at, len - at);
		if (at + n == len ||
		    (n == first && memcmp(bytes + at, bytes + len, n) == 0) ||
		    jsonl_text_check(bytes + at, n, f->opt.maxdepth, &text))
			return false;
	}
	return true;
}

/* Cuts off what a failed write has written. */
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
	if (!rc && st.st_size > f->end && is_of_others(f, iov, niov, st.st_size)) {
		f->end_known = false;
		jsonl_file_view_release(f);
		return;
	}
	/* Readers keep the old length; the next append first tries again. */
	f->undo_from = f->end;
	f->undo_to = f->end + (off_t)written;
	f->events->report(f->ctx, "undo-delayed", rc, f->end, written);
}

static bool reserve_refused(int rc)
{
	return jsonl_file_is_full(rc) || rc == -EIO;
}

/* Appends behind an end that is a whole record; as jsonl_file_append_frozen. */
static int append_vectors(struct jsonl_file *f, const struct iovec *iov, int niov,
			  struct jsonl_file_user *user)
{
	size_t len = jsonl_iov_length(iov, niov);
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
	if (rc && jsonl_file_is_remote(f)) {
		/* The write may still arrive at the server by this descriptor. The next
		 * one judges what it finds as the end of a file that anybody has
		 * written. */
		f->tenure.broken = rc;
		f->end_known = false;
		jsonl_file_view_release(f);
		return rc;
	}
	if (rc) {
		append_undo(f, iov, niov, written);
		return rc;
	}
	pos = f->io->position(f->io, f->append_fd);
	if (pos < 0)
		pos = f->end + (off_t)len;
	if (pos != f->end + (off_t)len) {
		/* A program that does not take the lock has appended meanwhile. */
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

/* Callers have no more vectors where the end may lack its newline. */
#define APPEND_VECTORS 4

/* Returns true when the bytes begin with a newline, perhaps after white space. */
static bool begins_with_newline(const struct iovec *iov, int niov)
{
	for (int i = 0; i < niov; i++) {
		const char *p = iov[i].iov_base;

		for (size_t n = 0; n < iov[i].iov_len; n++)
			if (p[n] != ' ' && p[n] != '\t' && p[n] != '\r')
				return p[n] == '\n';
	}
	return false;
}

/* Appends behind the newline that the last line lacks, in one write. */
static int append_behind(struct jsonl_file *f, const struct iovec *iov, int niov,
			 struct jsonl_file_user *user)
{
	struct iovec all[APPEND_VECTORS + 1] = {{.iov_base = "\n", .iov_len = 1}};
	off_t at = f->end;
	int rc;

	if (niov > APPEND_VECTORS) {
		rc = jsonl_file_end_finish(f);
		return rc ? rc : append_vectors(f, iov, niov, user);
	}
	memcpy(all + 1, iov, (size_t)niov * sizeof(*iov));
	rc = append_vectors(f, all, niov + 1, user);
	if (!rc)
		f->events->report(f->ctx, "newline-added", 0, at, 1);
	return rc;
}

static int append_frozen(struct jsonl_file *f, const struct iovec *iov, int niov,
			 bool open, struct jsonl_file_user *user)
{
	int rc = f->end_open && !begins_with_newline(iov, niov)
		     ? append_behind(f, iov, niov, user)
		     : append_vectors(f, iov, niov, user);

	if (!rc)
		f->end_open = open;
	return rc;
}

int jsonl_file_append_frozen(struct jsonl_file *f, const struct iovec *iov, int niov,
			     struct jsonl_file_user *user)
{
	return append_frozen(f, iov, niov, false, user);
}

int jsonl_file_append_frozen_open(struct jsonl_file *f, const struct iovec *iov, int niov,
				  struct jsonl_file_user *user)
{
	return append_frozen(f, iov, niov, true, user);
}

int jsonl_file_empty(struct jsonl_file *f)
{
	int rc = f->io->ftruncate(f->io, f->append_fd, 0);

	if (rc)
		return rc;
	f->end = 0;
	f->end_open = false;
	jsonl_file_view_set(f, 0);
	jsonl_file_note_append(f, NULL, 0, 0, NULL);
	return 0;
}

static int file_append(struct jsonl_file *f, const struct iovec *iov, int niov, bool open,
		       struct jsonl_file_user *user, off_t *end)
{
	off_t at;
	int rc = jsonl_file_freeze_user(f, user, false, false, &at);

	if (rc)
		return rc;
	rc = append_frozen(f, iov, niov, open, user);
	if (end)
		*end = f->end;
	jsonl_file_unfreeze(f);
	return rc;
}

int jsonl_file_append(struct jsonl_file *f, const struct iovec *iov, int niov,
		      struct jsonl_file_user *user, off_t *end)
{
	return file_append(f, iov, niov, false, user, end);
}

int jsonl_file_append_open(struct jsonl_file *f, const struct iovec *iov, int niov,
			   struct jsonl_file_user *user, off_t *end)
{
	return file_append(f, iov, niov, true, user, end);
}
