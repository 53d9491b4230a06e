/* SPDX-License-Identifier: MIT */
/* Appends whole records to the file or, with commit=close, to the stage. */
#include "record/writer_internal.h"

#include "base/memory.h"

int jsonl_writer_errno(int rc)
{
	return rc > 0 ? -jsonl_error_errno(rc) : rc;
}

bool jsonl_writer_is_copy(struct jsonl_writer *w)
{
	off_t visible;

	if (w->copy && (jsonl_file_visible(w->file, &visible) || visible != w->copied))
		w->copy = false;
	return w->copy;
}

bool jsonl_writer_copies(struct jsonl_writer *w)
{
	bool copy;

	pthread_mutex_lock(&w->lock);
	copy = jsonl_writer_is_copy(w);
	pthread_mutex_unlock(&w->lock);
	return copy;
}

static int file_append(struct jsonl_writer *w, const struct iovec *iov, int niov,
		       bool open)
{
	off_t end, len;
	int rc = open ? jsonl_file_append_open(w->file, iov, niov, &w->user, &end)
		      : jsonl_file_append(w->file, iov, niov, &w->user, &end);

	if (rc || !w->copy)
		return rc;
	len = (off_t)jsonl_iov_length(iov, niov);
	/* The newline of its last record may have been written first. */
	w->copy = end - len == w->copied || end - len == w->copied + 1;
	w->copied = end;
	return 0;
}

int jsonl_writer_append(struct jsonl_writer *w, const struct iovec *iov, int niov,
			uint64_t records, bool open)
{
	int rc;

	if (!w->opt.stage)
		return file_append(w, iov, niov, open);
	if (!w->staged) {
		rc = jsonl_file_visible(w->file, &w->begin);
		if (rc)
			return rc;
	}
	rc = jsonl_stage_add(w->opt.stage, iov, niov);
	if (!rc)
		w->staged += records;
	return rc;
}
