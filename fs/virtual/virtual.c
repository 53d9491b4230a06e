/* SPDX-License-Identifier: MIT */
#include "virtual/virtual.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "virtual/status.h"
#include "virtual/writers.h"

/* ---- the virtual files ---- */

/* Describes an open virtual file: its text as of the open, or the reader that makes
 * it. */
struct state_handle {
	struct fs_handle handle;
	struct fs_mount *mount; /* for state_abandon, which has no request */
	/* Held while an answer is sent: the reader may have its bytes, and close, before
	 * the call that sends them has returned. */
	pthread_mutex_t busy;
	char *text;
	size_t len;
	struct fs_writers *writers; /* under busy */
};

static void writers_read(fuse_req_t req, struct state_handle *s, size_t size, off_t off)
{
	cleanup_free char *buf = malloc(size ? size : 1);
	ssize_t n = -ENOMEM;

	pthread_mutex_lock(&s->busy);
	if (buf)
		n = fs_writers_read(s->writers, (uint64_t)off, buf, size);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
	pthread_mutex_unlock(&s->busy);
}

static void state_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	struct state_handle *s = (struct state_handle *)h;
	size_t start = (uint64_t)off < s->len ? (size_t)off : s->len;

	if (s->writers) {
		writers_read(req, s, size, off);
		return;
	}
	if (size > s->len - start)
		size = s->len - start;
	pthread_mutex_lock(&s->busy);
	fuse_reply_buf(req, s->text + start, size);
	pthread_mutex_unlock(&s->busy);
}

static void state_write_buf(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			    off_t off, struct fuse_file_info *fi)
{
	fuse_reply_err(req, EROFS);
}

static void state_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static void state_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static void state_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			    off_t len, struct fuse_file_info *fi)
{
	fuse_reply_err(req, EROFS);
}

static void state_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
			struct fuse_file_info *fi)
{
	struct state_handle *s = (struct state_handle *)h;
	uint64_t len = s->len;

	if (s->writers) {
		pthread_mutex_lock(&s->busy);
		len = fs_writers_length(s->writers);
		pthread_mutex_unlock(&s->busy);
	}
	/* The text is one piece of data, then the hole at the end. */
	if (off < 0 || (uint64_t)off >= len)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_HOLE ? (off_t)len : off);
}

static int state_fd(struct fs_handle *h)
{
	return -1;
}

static void state_close(struct fs_mount *m, struct fs_handle *h)
{
	struct state_handle *s = (struct state_handle *)h;

	fs_handle_unlink(m, h);
	pthread_mutex_lock(&s->busy);
	pthread_mutex_unlock(&s->busy);
	pthread_mutex_destroy(&s->busy);
	fs_writers_free(s->writers);
	free(s->text);
	free(s);
}

static void state_release(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	state_close(fs_mount_of(req), h);
	fuse_reply_err(req, 0);
}

static void state_abandon(struct fs_handle *h)
{
	state_close(((struct state_handle *)h)->mount, h);
}

static const struct fs_handle_ops state_ops = {
    .read = state_read,
    .write_buf = state_write_buf,
    .flush = state_flush,
    .release = state_release,
    .fsync = state_fsync,
    .fallocate = state_fallocate,
    .lseek = state_lseek,
    .fd = state_fd,
    .abandon = state_abandon,
};

int fs_virtual_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	uid_t uid = fuse_req_ctx(req)->uid;
	struct state_handle *s;

	if ((fi->flags & O_ACCMODE) != O_RDONLY)
		return -EROFS;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	if (i->virtual == FS_VIRTUAL_STATUS)
		s->text = fs_status_text(m);
	else if (i->virtual == FS_VIRTUAL_WRITERS)
		s->writers = fs_writers_new(m, uid, uid == 0 || uid == m->vault.uid);
	if (!s->text && !s->writers) {
		free(s);
		return -ENOMEM;
	}
	s->len = s->text ? strlen(s->text) : 0;
	s->mount = m;
	pthread_mutex_init(&s->busy, NULL);
	s->handle.ops = &state_ops;
	s->handle.flags = fi->flags;
	fs_handle_link(m, &s->handle, i);
	fi->fh = (uint64_t)(uintptr_t)&s->handle;
	fi->direct_io = 1; /* st_size is 0, and each open has its own text */
	fi->noflush = 1;
	return 0;
}
