/* SPDX-License-Identifier: MIT */
#include "log/extend.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/copy.h"
#include "file/file.h"
#include "log/content.h"
#include "log/handle.h"
#include "log/openlog.h"
#include "log/rewriter.h"
#include "record/writer.h"
#include "tree/mount.h"

/* Finds where in the staged content the part to append begins, while the log is frozen at
 * `end` bytes. Records that others have appended since follow what the program has seen;
 * if its content goes on with exactly those, it has seen them, too. Position or -errno.
 */
static off_t extend_from(struct fs_log_handle *g, off_t size, off_t end)
{
	struct fs_rewrite *w = g->rewrite;
	off_t base = fs_content_length(g->log->file, w->base, size);
	int rc;

	if (end < base)
		return -EPERM;
	if (size < end)
		return base;
	rc = fs_compare_bytes(g->m->vault.io, g->log->file, w->staged.fd, base, end);
	if (rc)
		return rc == -EPERM ? base : rc;
	rc = fs_content_goes_on(g->m, g->log->file, w->staged.fd, end, size);
	return rc ? rc : end;
}

/* Finds it when a part of the content is in the log already: behind that part. */
static off_t extend_again(const struct fs_rewrite *w, off_t size)
{
	char next;

	if (w->staged.low < w->done || size < w->done)
		return -EPERM;
	if (w->newline && size > w->done && pread(w->staged.fd, &next, 1, w->done) == 1 &&
	    next == '\n')
		return w->done + 1;
	return w->done;
}

static int extend_frozen(struct fs_log_handle *g, off_t size, bool unfinished, off_t end)
{
	struct fs_rewrite *w = g->rewrite;
	off_t from = w->done < 0 ? extend_from(g, size, end) : extend_again(w, size);
	int rc;

	if (from < 0)
		return (int)from;
	rc = fs_content_append(g->m, g->log->file, w->staged.fd, from, size, unfinished,
			       jsonl_writer_user(g->writer));
	if (!rc) {
		w->done = size;
		w->newline = unfinished && from < size;
	}
	return rc;
}

int fs_rewrite_extend(struct fs_log_handle *g, off_t *at)
{
	struct fs_rewrite *w = g->rewrite;
	struct jsonl_file *file = g->log->file;
	bool unfinished = false;
	struct stat st;
	off_t end, base;
	int rc = fstat(w->staged.fd, &st) < 0 ? -errno : 0;

	*at = 0;
	base = rc ? 0 : fs_content_length(file, w->base, st.st_size);
	/* First checked without the lock, up to the log's length at the beginning. */
	if (!rc && w->done < 0)
		rc = st.st_size < base
			 ? -EPERM
			 : fs_compare_bytes(g->m->vault.io, file, w->staged.fd, 0, base);
	if (!rc)
		rc = fs_content_validate(g->m, &g->settings->limits, w->staged.fd, 0,
					 st.st_size, at, &unfinished);
	if (!rc)
		rc = jsonl_file_freeze_as_is(file, &end);
	if (rc)
		return rc;
	rc = extend_frozen(g, st.st_size, unfinished, end);
	jsonl_file_unfreeze(file);
	return rc;
}

/* Returns true when the wrong byte at `at` is in a last line that has no newline yet. */
static bool in_last_line(int fd, off_t at)
{
	char buf[4096];
	ssize_t n;

	while ((n = pread(fd, buf, sizeof(buf), at)) > 0 && !memchr(buf, '\n', (size_t)n))
		at += n;
	return n == 0;
}

bool fs_rewrite_may_go_on(struct fs_log_handle *g, int code, off_t at, const char *why)
{
	const struct fs_rewrite *w = g->rewrite;
	struct stat st;

	if (code > 0)
		return in_last_line(w->staged.fd, at);
	return code == -EPERM && !why && w->done < 0 && !fstat(w->staged.fd, &st) &&
	       st.st_size < w->base &&
	       !fs_compare_bytes(g->m->vault.io, g->log->file, w->staged.fd, 0,
				 st.st_size);
}
