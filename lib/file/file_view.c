/* SPDX-License-Identifier: MIT */
/* Finds what readers may see, and compares bytes with what is stored. */
#include "file/file_internal.h"

#include <string.h>

#include "base/stamp.h"
#include "file/tail.h"

/* Milliseconds after which no cache shows bytes of another host as NULs (GlusterFS: a
 * second). */
#define VIEW_OLD_MS 2000

/* Notes an end that was seen. The end found first counts as old. Under view_lock. */
static void ends_note(struct jsonl_file *f, off_t size)
{
	const int64_t now = jsonl_now_ms();

	if (!f->ends.known || now - f->ends.since >= VIEW_OLD_MS) {
		f->ends.old = f->ends.known ? f->ends.next : size;
		f->ends.next = size;
		f->ends.since = now;
		f->ends.known = true;
	}
	if (size < f->ends.old)
		f->ends.old = size;
}

/* Finds out anew what readers may see, if the size of the file has changed. 0 or -errno.
 * Under view_lock, with no append of ours under way. */
static int view_refresh(struct jsonl_file *f)
{
	const bool remote = jsonl_file_is_remote(f);
	struct jsonl_tail tail;
	struct stat st;
	int rc = 0;

	/* -ESTALE: another program cut the file while its end was read. */
	for (int tries = 0; tries < 16; tries++) {
		rc = f->io->fstat(f->io, f->fd, &st);
		if (!rc && remote)
			ends_note(f, st.st_size);
		if (rc || st.st_size == f->view_size)
			return rc;
		if (remote)
			f->io->drop_cache(f->io, f->fd, 0, 0);
		rc = jsonl_tail_inspect(f->io, f->fd, st.st_size, f->opt.maxrecord,
					f->opt.maxdepth, &tail);
		if (rc == -ESTALE)
			continue;
		if (rc)
			return rc;
		/* Another host's bytes may come later than their size: look again. */
		f->view_size = remote && tail.state != JSONL_TAIL_CLEAN ? -1 : st.st_size;
		f->visible = tail.visible;
		return 0;
	}
	if (!remote)
		return rc;
	if (f->visible > st.st_size)
		f->visible = 0;
	return 0;
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

/* Returns how many of the bytes are whole lines, or all there is, when pages of this
 * host may be older than the size. *all: nothing suggests so. `old`: NULs before it are
 * damage. */
static size_t sound_length(const char *bytes, size_t n, size_t want, off_t off,
			   off_t visible, off_t old, bool *all)
{
	const size_t from = off >= old			? 0
			    : (uint64_t)(old - off) < n ? (size_t)(old - off)
							: n;
	const char *nul = memchr(bytes + from, '\0', n - from), *newline;

	*all = !nul && n == want && (off + (off_t)n < visible || bytes[n - 1] == '\n');
	if (*all || (!nul && n == want))
		return n;
	if (nul)
		n = (size_t)(nul - bytes);
	newline = memrchr(bytes, '\n', n);
	return newline ? (size_t)(newline - bytes) + 1 : 0;
}

ssize_t jsonl_file_sound(struct jsonl_file *f, const char *bytes, size_t n, size_t want,
			 off_t off, off_t visible, bool last)
{
	bool all;
	off_t old;

	if (!jsonl_file_is_remote(f) || !want)
		return (ssize_t)n;
	pthread_mutex_lock(&f->view_lock);
	old = last ? f->ends.old : 0;
	pthread_mutex_unlock(&f->view_lock);
	n = sound_length(bytes, n, want, off, visible, old, &all);
	if (all || last)
		return (ssize_t)n;
	f->io->drop_cache(f->io, f->fd, off & ~(off_t)(FILE_PAGE - 1), 0);
	pthread_mutex_lock(&f->view_lock);
	if (!f->view_held)
		f->view_size = -1;
	pthread_mutex_unlock(&f->view_lock);
	return -EAGAIN;
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
	return jsonl_io_equals(f->io, f->fd, data, len, off);
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

void jsonl_file_end_look(struct jsonl_file *f)
{
	char last = '\n';

	f->end_open = f->end > 0 &&
		      jsonl_io_read_full(f->io, f->fd, &last, 1, f->end - 1) == 1 &&
		      last != '\n';
}
