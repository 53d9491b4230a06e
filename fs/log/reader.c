/* SPDX-License-Identifier: MIT */
#include "log/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "base/fuse.h"
#include "base/reply.h"
#include "file/file.h"
#include "log/openlog.h"
#include "log/read_by.h"
#include "log/version.h"
#include "log/wait.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "tree/stale.h"
#include "vault/account.h"
#include "vault/denied.h"

/* Tries, on file systems whose page cache may be older than the length. */
#define READ_TRIES    4
#define READ_PAUSE_MS 1

struct reader {
	struct fs_handle base; /* first: cast back */
	struct fs_mount *m;
	struct fs_openlog *log;
	const struct jsonl_settings *settings; /* constant, as they were at open */
	struct fs_account *account;	       /* of whoever opened it */
	uid_t uid;
	struct jsonl_file_user user;
	struct fs_reading reading;
};

static struct reader *reader_of(struct fs_handle *h)
{
	return (struct reader *)h;
}

/* Reads the present log. Bytes, or -errno. */
static ssize_t read_now(struct jsonl_file *file, size_t size, off_t off, char **bytes,
			off_t *visible)
{
	ssize_t n;

	for (unsigned tries = 1;; tries++) {
		const struct timespec pause = {.tv_nsec =
						   (long)tries * READ_PAUSE_MS * 1000000};
		int rc = jsonl_file_visible(file, visible);
		size_t want;

		if (rc)
			return rc;
		want = fs_bytes_there(*visible, size, off);
		n = want ? fs_reply_fetch(jsonl_file_fd(file), want, off, bytes) : 0;
		if (n < 0)
			return n;
		n = jsonl_file_sound(file, *bytes, (size_t)n, want, off, *visible,
				     tries == READ_TRIES);
		if (n != -EAGAIN) {
			if ((size_t)n < want)
				*visible = off + n;
			return n;
		}
		(void)nanosleep(&pause, NULL);
	}
}

static void read_version(fuse_req_t req, const struct fs_log_version *v, size_t size,
			 off_t off)
{
	if (fs_version_fd(v) < 0)
		fuse_reply_err(req, ESTALE);
	else
		fs_reply_read(req, fs_version_fd(v),
			      fs_bytes_there(fs_version_end(v), size, off), off);
}

void fs_log_read(fuse_req_t req, struct fs_openlog *log,
		 const struct jsonl_settings *settings, struct fs_reading *reading,
		 size_t size, off_t off)
{
	struct fs_log_version *v;
	char *bytes = NULL;
	unsigned before;
	off_t visible;
	ssize_t n;

	do {
		v = fs_reading_hold(reading);
		if (v) {
			read_version(req, v, size, off);
			fs_version_put(v);
			return;
		}
		before = fs_openlog_switches(log);
		n = read_now(fs_openlog_file(log), size, off, &bytes, &visible);
		/* Else another file has taken the log's place during the read. */
	} while (reading->version || fs_openlog_switches(log) != before);
	if (n >= 0 && off + (off_t)size >= visible &&
	    settings->rewrite != JSONL_REWRITE_DENY)
		fs_rewrite_seen(&reading->end, log, fuse_req_ctx(req), visible);
	fs_reply_bytes(req, bytes, n);
}

void fs_log_seek(fuse_req_t req, off_t visible, off_t off, int whence)
{
	if (off < 0 || off >= visible)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? off : visible);
}

void fs_log_lseek(fuse_req_t req, struct fs_openlog *log, struct fs_reading *reading,
		  off_t off, int whence)
{
	struct fs_log_version *v = fs_reading_hold(reading);
	off_t visible = v ? fs_version_end(v) : 0;
	int rc = v ? 0 : jsonl_file_visible(fs_openlog_file(log), &visible);

	fs_version_put(v);
	if (rc)
		fuse_reply_err(req, -rc);
	else
		fs_log_seek(req, visible, off, whence);
}

static void reader_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
			struct fuse_file_info *fi)
{
	struct reader *r = reader_of(h);

	fs_log_read(req, r->log, r->settings, &r->reading, size, off);
}

static void reader_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
			 struct fuse_file_info *fi)
{
	struct reader *r = reader_of(h);

	fs_log_lseek(req, r->log, &r->reading, off, whence);
}

static bool reader_stay(struct fs_handle *h, void *version)
{
	struct reader *r = reader_of(h);

	return fs_reading_stay(&r->reading, version, &r->m->vault, r->uid);
}

static bool reader_join(struct fs_handle *h, struct fs_handle *other)
{
	return fs_reading_join(&reader_of(h)->reading, other);
}

static bool reader_stat(struct fs_handle *h, struct stat *st)
{
	return fs_reading_stat(&reader_of(h)->reading, st);
}

static void reader_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			 struct fuse_file_info *fi)
{
	struct reader *r = reader_of(h);

	fs_answer_durable(req, r->m, r->log, &r->user, true, 0, 0);
}

static void reader_close(struct reader *r)
{
	struct fs_mount *m = r->m;

	fs_handle_unlink(m, &r->base);
	fs_reading_go_over(&r->reading);
	fs_openlog_put(m, r->log);
	fs_account_close(&m->vault, r->account);
	free(r);
}

static void reader_release(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
	reader_close(reader_of(h));
}

static void reader_abandon(struct fs_handle *h)
{
	reader_close(reader_of(h));
}

static const struct fs_handle_ops reader_ops = {
    .read = reader_read,
    .release = reader_release,
    .fsync = reader_fsync,
    .lseek = reader_lseek,
    .stay = reader_stay,
    .join = reader_join,
    .stat = reader_stat,
    .abandon = reader_abandon,
};

int fs_log_allowed(fuse_req_t req, const struct jsonl_settings *settings,
		   const char *path, int flags, off_t visible)
{
	if ((flags & O_TRUNC) && visible > 0 &&
	    ((flags & O_ACCMODE) == O_RDONLY ||
	     settings->rewrite == JSONL_REWRITE_DENY)) {
		fs_denied(
		    req, "open with O_TRUNC", path,
		    "it would throw recorded lines away; append (>>), or rotate the "
		    "file by renaming it");
		return -EPERM;
	}
	if (settings->append == JSONL_APPEND_STRICT && (flags & O_ACCMODE) != O_RDONLY &&
	    !(flags & O_APPEND)) {
		fs_denied(req, "open without O_APPEND", path, "append=strict");
		return -EPERM;
	}
	return 0;
}

int fs_log_link(struct fs_mount *m, struct fs_handle *h, struct fs_inode *i, bool created)
{
	bool refused;

	pthread_rwlock_rdlock(&m->tree.lock);
	refused = !created && fs_inode_refuses(i, h->flags);
	if (!refused)
		fs_handle_link(m, h, i);
	pthread_rwlock_unlock(&m->tree.lock);
	return refused ? -ESTALE : 0;
}

static int reader_begin(fuse_req_t req, struct fs_inode *i, struct reader *r,
			const char *path, bool created)
{
	struct fs_mount *m = r->m;
	off_t visible;
	int rc;

	rc = fs_account_open(&m->vault, fuse_req_ctx(req)->uid, &r->account);
	if (!rc)
		rc = fs_openlog_get(m, i, false, &r->log);
	if (!rc)
		rc = fs_account_file(&m->vault, r->account, &r->log->payer);
	if (!rc)
		rc = jsonl_file_visible(fs_openlog_file(r->log), &visible);
	if (!rc)
		rc = fs_log_allowed(req, r->settings, path, r->base.flags, visible);
	return rc ? rc : fs_log_link(m, &r->base, i, created);
}

int fs_reader_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi,
		   const char *path, const struct jsonl_settings *settings, bool created)
{
	struct reader *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return -ENOMEM;
	r->m = fs_mount_of(req);
	r->uid = fuse_req_ctx(req)->uid;
	r->base.ops = &reader_ops;
	r->base.flags = fi->flags;
	r->settings = settings;
	rc = reader_begin(req, i, r, path, created);
	if (rc) {
		if (r->log)
			fs_openlog_put(r->m, r->log);
		fs_account_close(&r->m->vault, r->account);
		free(r);
		return rc;
	}
	fi->fh = (uintptr_t)&r->base;
	/* Beside a direct writer, cached readers see NULs and half records. */
	fi->direct_io = 1;
	return 0;
}
