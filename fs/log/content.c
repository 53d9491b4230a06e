/* SPDX-License-Identifier: MIT */
#include "log/content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/io.h"
#include "base/stats.h"
#include "base/syslog.h"
#include "file/file.h"
#include "record/frame.h"
#include "rules/config.h"
#include "rules/limits.h"
#include "rules/policy.h"
#include "tree/descriptor.h"
#include "tree/inode.h"
#include "tree/mount.h"

/* A rename may append so much at once: it is read into memory first. */
#define RENAME_MAX_GROWTH (1LL << 30)

static bool ends_line(struct jsonl_file *file, off_t end)
{
	return !end || jsonl_file_equals(file, "\n", 1, end - 1) == 1;
}

off_t fs_content_length(struct jsonl_file *file, off_t end, off_t size)
{
	return size + 1 == end && ends_line(file, end) ? size : end;
}

int fs_content_goes_on(struct fs_mount *m, struct jsonl_file *file, int src, off_t end,
		       off_t size)
{
	char next[2] = "";
	ssize_t got;

	if (size <= end || ends_line(file, end))
		return 0;
	got = jsonl_io_read_full(m->vault.io, src, next, sizeof(next), end);
	if (got < 0)
		return (int)got;
	return next[0] == '\n' || (next[0] == '\r' && next[1] == '\n') ? 0 : -EPERM;
}

/* Returns where in the content the part to append begins, when the log's last record
 * lacked its newline at first and has got one from an append since. */
static off_t behind_newline(struct fs_mount *m, struct jsonl_file *file, int src,
			    off_t from, off_t size)
{
	char at[2] = "";
	off_t end;

	if (!from || from >= size || jsonl_file_visible(file, &end) ||
	    !ends_line(file, end) ||
	    jsonl_io_read_full(m->vault.io, src, at, sizeof(at), from - 1) != sizeof(at))
		return from;
	return at[0] != '\n' && at[1] == '\n' ? from + 1 : from;
}

int fs_content_append(struct fs_mount *m, struct jsonl_file *file, int src, off_t from,
		      off_t size, bool unfinished, struct jsonl_file_user *user)
{
	cleanup_free char *buf = NULL;
	struct iovec iov[2] = {{0}, {.iov_base = "\n", .iov_len = 1}};
	size_t len;
	ssize_t got;

	from = behind_newline(m, file, src, from, size);
	if (from >= size)
		return 0;
	len = (size_t)(size - from);
	if (len > RENAME_MAX_GROWTH)
		return -EFBIG;
	buf = malloc(len);
	if (!buf)
		return -ENOMEM;
	got = jsonl_io_read_full(m->vault.io, src, buf, len, from);
	if (got < 0)
		return (int)got;
	if ((size_t)got < len)
		return -ESTALE;
	iov[0] = (struct iovec){.iov_base = buf, .iov_len = len};
	if (!unfinished && buf[len - 1] != '\n')
		return jsonl_file_append_frozen_open(file, iov, 1, user);
	return jsonl_file_append_frozen(file, iov, unfinished ? 2 : 1, user);
}

#define CROSS_CHUNK (1u << 20)

/* Passes one chunk through the frame. `at`: where the frame's fragment begins in the
 * file. */
static int validate_chunk(struct jsonl_frame *f, const struct jsonl_limits *lim,
			  const char *data, size_t len, off_t *at)
{
	struct jsonl_cut cut;
	int rc = jsonl_frame_offer(f, lim, data, len, &cut);

	if (!rc && cut.nbad) {
		rc = cut.bad[0].verdict;
		*at += (off_t)(cut.bad[0].start + cut.bad[0].offset);
	} else if (!rc) {
		if (cut.used)
			*at += (off_t)(f->len + cut.used);
		jsonl_frame_take(f, &cut, data, len);
	}
	jsonl_cut_deinit(&cut);
	return rc;
}

static int validate_end(struct jsonl_frame *f, const struct jsonl_limits *lim, off_t *at,
			bool *unfinished)
{
	size_t offset;
	bool can_grow;
	int rc = jsonl_frame_judge(f, lim, &can_grow, &offset);

	*unfinished = f->len && (rc == JSONL_BLANK || (!rc && !jsonl_frame_may_stay(f)));
	if (rc == JSONL_BLANK || !rc)
		return 0;
	*at += (off_t)offset;
	return rc;
}

int fs_content_validate(struct fs_mount *m, const struct jsonl_limits *lim, int fd,
			off_t from, off_t size, off_t *at, bool *unfinished)
{
	cleanup_free char *buf = malloc(CROSS_CHUNK);
	struct jsonl_frame frame = {.strict = true, .first = from == 0};
	off_t pos = from;
	int rc = 0;

	if (!buf)
		return -ENOMEM;
	*at = from;
	while (!rc && pos < size) {
		size_t want =
		    size - pos < CROSS_CHUNK ? (size_t)(size - pos) : CROSS_CHUNK;
		ssize_t got = jsonl_io_read_full(m->vault.io, fd, buf, want, pos);

		if (got <= 0)
			rc = got ? (int)got : -ESTALE;
		else
			rc = validate_chunk(&frame, lim, buf, (size_t)got, at);
		pos += got;
	}
	if (!rc)
		rc = validate_end(&frame, lim, at, unfinished);
	jsonl_frame_deinit(&frame);
	return rc;
}

/* Adds the newline after a bare number at the end, which would count as unfinished for
 * ever. */
static int admit_newline(struct fs_mount *m, struct fs_inode *i, const struct stat *before)
{
	cleanup_close int fd = fs_inode_open(m, i, O_WRONLY | O_APPEND);
	const struct timespec times[2] = {before->st_atim, before->st_mtim};
	struct iovec iov = {.iov_base = "\n", .iov_len = 1};
	size_t written;
	int rc;

	if (fd < 0)
		return fd;
	rc = jsonl_io_write_full(m->vault.io, fd, &iov, 1, &written);
	/* The program that made the file may have set its times. */
	if (!rc)
		(void)!futimens(fd, times);
	return rc;
}

void fs_content_note_end(struct fs_mount *m, const char *program, const char *path,
			 uid_t uid, int fd)
{
	struct stat st;
	char last;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size &&
	    jsonl_io_read_full(m->vault.io, fd, &last, 1, st.st_size - 1) == 1 &&
	    last != '\n')
		fs_stats_writer(&m->vault.stats, program, uid, path)
		    ->closes_without_newline++;
}

int fs_content_admit(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
		     const char *newpath)
{
	const struct jsonl_settings *settings =
	    jsonl_policy_settings(m->vault.policy, newpath);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	cleanup_close int fd = fs_inode_open(m, i, O_RDONLY);
	bool unfinished = false;
	struct stat st;
	off_t at = 0;
	int rc;

	if (fd < 0)
		return fd;
	if (!settings)
		return -ENOMEM;
	if (fstat(fd, &st) < 0)
		return -errno;
	rc = fs_content_validate(m, &settings->limits, fd, 0, st.st_size, &at,
				 &unfinished);
	if (rc > 0) {
		m->vault.stats.denied++;
		FS_SYSLOG(
		    LOG_WARNING, ctx->uid, "refused", FS_STR("path", newpath),
		    FS_INT("offset", at), FS_STR("reason", jsonl_error_text(rc)),
		    FS_INT("pid", ctx->pid), FS_INT("uid", ctx->uid),
		    FS_STR("next", "nothing was moved; correct that line and try again"));
		return -jsonl_error_errno(rc);
	}
	if (!rc && unfinished)
		rc = admit_newline(m, i, &st);
	return rc;
}

/* ---- the lock of a log ---- */

static int freeze(int (*try)(struct jsonl_file *file, off_t *end),
		  struct jsonl_file *file, unsigned ms, off_t *end)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	int rc = try(file, end);

	for (unsigned waited = 0; rc == -EAGAIN && waited < ms; waited += 2) {
		nanosleep(&pause, NULL);
		rc = try(file, end);
	}
	return rc;
}

int fs_freeze(struct jsonl_file *file, unsigned ms, off_t *end)
{
	return freeze(jsonl_file_freeze, file, ms, end);
}

int fs_freeze_as_is(struct jsonl_file *file, unsigned ms, off_t *end)
{
	return freeze(jsonl_file_freeze_as_is, file, ms, end);
}

int fs_freeze_any(struct jsonl_file *file, unsigned ms, off_t *end)
{
	return freeze(jsonl_file_freeze_any, file, ms, end);
}
