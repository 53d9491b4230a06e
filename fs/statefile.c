#include "statefile.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "inode.h"
#include "ops.h"
#include "replace.h"
#include "seen.h"
#include "staging.h"
#include "text.h"

struct statefile {
	struct fs_handle base; /* first: cast back */
	struct fs_mount *m;
	const struct jsonl_settings *settings;
	int fd;			   /* the version that was opened, for reading */
	struct fs_version version; /* of it; constant but under staged.lock */
	_Atomic bool noted;	   /* its process counts as having seen it */
	/* Set once, under inode->lock. NULL: nothing has been written. */
	struct fs_staged *_Atomic staged;
	bool blind; /* the staged content began empty: nothing of the old is in it */
	/* Under inode->lock: what was to be changed when it could not be begun. */
	struct fs_staged_failure failed;
};

static struct statefile *statefile_of(struct fs_handle *h)
{
	return (struct statefile *)h;
}

int fs_statefile_check(struct fs_mount *m, const struct jsonl_limits *lim, int fd,
		       off_t *at)
{
	cleanup_free char *buf = NULL;
	struct jsonl_text text;
	struct stat st;
	ssize_t got;
	int rc;

	*at = 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size > lim->maxrecord)
		return JSONL_TOO_LONG;
	buf = malloc(st.st_size ? (size_t)st.st_size : 1);
	if (!buf)
		return -ENOMEM;
	got = jsonl_io_read_full(m->io, fd, buf, (size_t)st.st_size, 0);
	if (got < 0)
		return (int)got;
	rc = jsonl_text_check(buf, (size_t)got, lim->maxdepth, &text);
	*at = (off_t)text.offset;
	return rc;
}

/* ---- staging ---- */

/* For a change at `at`, or with `cut` a truncation to it. */
static int statefile_stage(struct statefile *s, const struct fuse_ctx *caller, off_t at,
			   bool cut)
{
	struct fs_staged *staged;
	off_t keep = cut && at < s->version.size ? at : s->version.size;
	int rc;

	if (s->staged)
		return 0;
	staged = calloc(1, sizeof(*staged));
	rc = staged ? fs_staged_init(s->m, staged, caller, s->fd, keep) : -ENOMEM;
	if (rc) {
		free(staged);
		pthread_mutex_lock(&s->base.inode->lock);
		fs_staged_failed(&s->failed, at, cut, rc);
		pthread_mutex_unlock(&s->base.inode->lock);
		return rc;
	}
	pthread_mutex_lock(&s->base.inode->lock);
	if (!s->staged) {
		staged->failed = s->failed;
		s->blind = !keep;
		s->staged = staged;
		staged = NULL;
	}
	pthread_mutex_unlock(&s->base.inode->lock);
	if (staged) {
		fs_staged_deinit(staged);
		free(staged);
	}
	return 0;
}

/* ---- the commit; under staged->lock ---- */

static int statefile_refuse(struct statefile *s, int code, off_t at, const char *event,
			    const char *next)
{
	struct fs_staged *staged = s->staged;
	struct fs_mount *m = s->m;
	char path[PATH_MAX], name[JSONL_QUARANTINE_NAME];

	fs_path_of(m, s->base.inode, path, sizeof(path));
	fs_staged_set_aside(m, staged, event, code, at, path, s->fd, false, name);
	fs_stats_writer(&m->stats, staged->program, staged->uid, path)
	    ->rewrites_refused++;
	m->stats.rewrites_refused++;
	FS_LOG(LOG_WARNING, staged->uid, event, FS_STR("path", path),
	       FS_INT("offset", at), FS_STR("reason", jsonl_error_text(code)),
	       FS_INT("pid", staged->writer), FS_INT("uid", staged->uid),
	       FS_STR("comm", staged->program), FS_STR("quarantine", name),
	       FS_STR("next", next));
	fs_staged_settled(staged);
	return code > 0 ? -jsonl_error_errno(code) : code;
}

/* Has somebody else written the file since this program read it? Of a program that has
 * read nothing, nobody knows. */
static bool update_is_lost(struct statefile *s, const char *path,
			   const struct fs_version *now)
{
	struct fs_version seen;

	if (!fs_seen_find(s->m, path, &s->staged->opener, &seen)) {
		if (s->blind)
			return false;
		seen = s->version;
	}
	return !fs_version_same(&seen, now);
}

struct place {
	char path[PATH_MAX];
	const char *name; /* in path */
	int dir_fd;
	struct fs_version now; /* of what has the name */
};

static int place_find(struct statefile *s, struct place *p)
{
	char dir[PATH_MAX];
	char *slash;
	int rc = fs_inode_path(s->m, s->base.inode, NULL, p->path, sizeof(p->path));

	if (rc)
		return rc;
	slash = strrchr(p->path, '/');
	p->name = slash ? slash + 1 : p->path;
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - p->path) : 0, p->path);
	if (jsonl_policy_classify(s->m->policy, p->path) != JSONL_CLASS_REPLACE)
		return -ESTALE;
	p->dir_fd = fs_open_beneath(s->m, dir, O_RDONLY | O_DIRECTORY);
	return p->dir_fd < 0 ? p->dir_fd : 0;
}

static int place_look(struct statefile *s, struct place *p)
{
	struct stat st;
	int rc = fs_version_of(p->dir_fd, p->name, &p->now, &st);

	if (rc)
		return rc == -ENOENT ? -ESTALE : rc;
	if (st.st_dev != s->base.inode->dev || st.st_ino != s->base.inode->ino)
		return -ESTALE;
	return st.st_nlink > 1 ? -EMLINK : 0;
}

/* The new file has its content and is beside the old one: the moment itself. */
static int statefile_rename(struct statefile *s, struct place *p, struct jsonl_replace *r)
{
	struct fs_inode *i = s->base.inode;
	struct fs_file_handle handle;
	cleanup_close int fd =
	    openat(p->dir_fd, r->temp, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int mine =
	    openat(p->dir_fd, r->temp, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct fs_version written;
	struct stat st;
	int rc = fd < 0 || mine < 0 ? -errno : fs_version_of(fd, "", &written, &st);

	if (!rc)
		rc = fs_inode_may_rebind(s->m, i, fd, &handle);
	if (rc)
		return rc;
	pthread_rwlock_wrlock(&s->m->tree_lock);
	rc = place_look(s, p);
	if (!rc)
		rc = jsonl_replace_rename(r, 0);
	if (!rc)
		fs_inode_rebind(s->m, i, &handle, st.st_ino, steal_fd(&fd));
	pthread_rwlock_unlock(&s->m->tree_lock);
	if (rc)
		return rc;
	/* The handle goes on with what it has written. */
	rc = s->m->io->refer(s->m->io, mine, s->fd);
	s->version = written;
	s->blind = false;
	fs_seen_note(s->m, p->path, &s->staged->opener, &s->version);
	return rc;
}

static int statefile_replace(struct statefile *s, struct place *p)
{
	const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	cleanup_close int old = fs_inode_open(s->m, s->base.inode, O_RDONLY);
	struct jsonl_replace r = {.fd = -1};
	struct stat st;
	int rc = old < 0 ? old : fstat(s->staged->fd, &st) < 0 ? -errno : 0;

	if (!rc)
		rc = jsonl_replace_begin(&r, s->m->io, p->dir_fd, p->name, old);
	if (!rc)
		rc = fs_copy_bytes(s->m, s->staged->fd, 0, st.st_size, r.fd);
	if (!rc)
		rc = jsonl_replace_prepare(&r);
	if (!rc && futimens(r.fd, now) < 0)
		rc = -errno;
	if (!rc)
		rc = statefile_rename(s, p, &r);
	if (!rc)
		rc = jsonl_replace_settle(&r);
	jsonl_replace_abort(&r);
	return rc;
}

static const char *refusal_advice(int rc)
{
	if (rc == -ESTALE)
		return "the file was renamed or removed meanwhile";
	if (rc == -EMLINK)
		return "the file has other names, which would keep the old content";
	return "mend what the reason says and write it again";
}

static int statefile_commit_placed(struct statefile *s, struct place *p)
{
	const struct fs_statefile_writer who = {.path = p->path,
						.program = s->staged->program,
						.pid = s->staged->writer,
						.uid = s->staged->uid};
	int rc = place_look(s, p);

	if (!rc && update_is_lost(s, p->path, &p->now))
		rc = fs_statefile_lost(s->m, s->settings, &who,
				       "another program has written it since this one "
				       "read it, and its change is overwritten");
	if (rc)
		return rc;
	rc = statefile_replace(s, p);
	if (rc)
		return rc;
	fs_staged_settled(s->staged);
	fs_statefile_keep(s->m, s->settings, p->path, s->fd);
	s->m->stats.rewrites++;
	fs_stats_writer(&s->m->stats, s->staged->program, s->staged->uid, p->path)
	    ->rewrites++;
	fs_attributes_changed(s->m, s->base.inode);
	return 0;
}

/* What close says. `try_only`: what is not a document yet may become one, and what fails
 * is tried again: a later sync or close must not say that it is there. */
static int statefile_commit(struct statefile *s, bool try_only)
{
	struct place p = {.dir_fd = -1};
	pthread_mutex_t *one;
	off_t at = 0;
	int rc = s->staged->failed.code;

	if (!rc)
		rc = fs_statefile_check(s->m, &s->settings->limits, s->staged->fd, &at);
	if (rc > 0)
		return try_only ? 0
				: statefile_refuse(s, rc, at, "rewrite-refused",
						   refusal_advice(rc));
	if (!rc)
		rc = place_find(s, &p);
	if (!rc) {
		one = fs_statefile_lock(s->base.inode);
		rc = statefile_commit_placed(s, &p);
		pthread_mutex_unlock(one);
	}
	if (p.dir_fd >= 0)
		close(p.dir_fd);
	if (try_only)
		return rc;
	if (rc == -EBUSY)
		return statefile_refuse(
		    s, rc, 0, "lost-update",
		    "another program has written it since this one read "
		    "it: read it anew");
	return rc ? statefile_refuse(s, rc, 0, "rewrite-failed", refusal_advice(rc)) : 0;
}

/* ---- operations ---- */

/* The process of this request knows the version that the handle has opened. */
static void statefile_seen(fuse_req_t req, struct statefile *s)
{
	char path[PATH_MAX];
	struct fs_process p;

	if (atomic_exchange(&s->noted, true) ||
	    !fs_process_identify(fuse_req_ctx(req)->pid, &p))
		return;
	fs_path_of(s->m, s->base.inode, path, sizeof(path));
	fs_seen_note(s->m, path, &p, &s->version);
}

static void statefile_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	struct statefile *s = statefile_of(h);

	if (s->staged) {
		fs_reply_read(req, s->staged->fd, size, off);
		return;
	}
	statefile_seen(req, s);
	fs_reply_read(req, s->fd, size, off);
}

static void statefile_write_buf(fuse_req_t req, struct fs_handle *h,
				struct fuse_bufvec *in, off_t off,
				struct fuse_file_info *fi)
{
	struct statefile *s = statefile_of(h);
	ssize_t n = statefile_stage(s, fuse_req_ctx(req), off, false);

	if (!n)
		n = fs_staged_write(req, s->staged, in, off, fi->flags & O_APPEND);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

static int statefile_truncate(fuse_req_t req, struct fs_handle *h, off_t size)
{
	struct statefile *s = statefile_of(h);
	int rc = 0;

	if (!s->staged && size == s->version.size)
		return 0;
	rc = statefile_stage(s, fuse_req_ctx(req), size, true);
	return rc ? rc : fs_staged_truncate(req, s->staged, size);
}

static bool statefile_size(struct fs_handle *h, off_t *size)
{
	struct statefile *s = statefile_of(h);

	*size = s->staged ? fs_staged_size(s->staged) : s->version.size;
	return true;
}

static void statefile_flush(fuse_req_t req, struct fs_handle *h,
			    struct fuse_file_info *fi)
{
	struct statefile *s = statefile_of(h);
	struct stat st = {.st_ino = h->inode->ino};
	int rc = 0;

	fs_stat_public(h->inode, &st);
	if (s->staged && fs_staged_closes(s->m, s->staged, fuse_req_ctx(req)->pid,
					  st.st_ino, h->flags)) {
		pthread_mutex_lock(&s->staged->lock);
		if (s->staged->dirty)
			rc = statefile_commit(s, false);
		pthread_mutex_unlock(&s->staged->lock);
	}
	fuse_reply_err(req, -rc);
}

static void statefile_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			    struct fuse_file_info *fi)
{
	struct statefile *s = statefile_of(h);
	int rc = 0;

	if (s->staged) {
		pthread_mutex_lock(&s->staged->lock);
		if (s->staged->dirty)
			rc = statefile_commit(s, true);
		pthread_mutex_unlock(&s->staged->lock);
	} else {
		rc = fsync(s->fd) < 0 ? -errno : 0;
	}
	fuse_reply_err(req, -rc);
}

static void statefile_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
				off_t len, struct fuse_file_info *fi)
{
	fuse_reply_err(req, EOPNOTSUPP);
}

static void statefile_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
			    struct fuse_file_info *fi)
{
	off_t size;

	statefile_size(h, &size);
	if (off < 0 || off >= size)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? off : size);
}

static void statefile_free(struct statefile *s)
{
	if (s->staged) {
		fs_staged_deinit(s->staged);
		free(s->staged);
	}
	if (s->base.inode)
		fs_handle_unlink(s->m, &s->base);
	close(s->fd);
	free(s);
}

static void statefile_end(struct statefile *s)
{
	if (s->staged) {
		pthread_mutex_lock(&s->staged->lock);
		/* A close that is not told of its failure has the log. */
		if (s->staged->dirty && s->staged->killed)
			(void)!statefile_refuse(s, -ECANCELED, 0, "rewrite-abandoned",
						"the file is as it was");
		else if (s->staged->dirty)
			(void)!statefile_commit(s, false);
		pthread_mutex_unlock(&s->staged->lock);
	}
	statefile_free(s);
}

static void statefile_release(fuse_req_t req, struct fs_handle *h,
			      struct fuse_file_info *fi)
{
	statefile_end(statefile_of(h));
	fuse_reply_err(req, 0);
}

static void statefile_abandon(struct fs_handle *h)
{
	struct statefile *s = statefile_of(h);

	if (s->staged)
		fs_staged_abandon(s->staged);
	statefile_end(s);
}

static int statefile_fd(struct fs_handle *h)
{
	return -1;
}

static const struct fs_handle_ops statefile_ops = {
    .read = statefile_read,
    .write_buf = statefile_write_buf,
    .flush = statefile_flush,
    .release = statefile_release,
    .fsync = statefile_fsync,
    .fallocate = statefile_fallocate,
    .lseek = statefile_lseek,
    .fd = statefile_fd,
    .truncate = statefile_truncate,
    .size = statefile_size,
    .abandon = statefile_abandon,
};

/* ---- open ---- */

int fs_statefile_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi,
		      bool created)
{
	struct fs_mount *m = fs_mount_of(req);
	const bool write = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct statefile *s;
	struct stat st;
	int rc = 0;

	if ((fi->flags & O_TRUNC) && !write)
		return -EPERM;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->m = m;
	s->base.ops = &statefile_ops;
	s->base.flags = fi->flags;
	s->settings = fs_settings_of(m, i);
	s->fd = fs_inode_open(m, i, O_RDONLY);
	if (s->fd < 0 || !s->settings) {
		rc = s->fd < 0 ? s->fd : -ENOMEM;
		if (s->fd >= 0)
			close(s->fd);
		free(s);
		return rc;
	}
	rc = fs_version_of(s->fd, "", &s->version, &st);
	if (!rc && !(fi->flags & O_TRUNC))
		rc = fs_statefile_broken(m, i, s->settings, s->fd, &st);
	if (!rc)
		fs_handle_link(m, &s->base, i);
	if (!rc && fi->flags & O_TRUNC && st.st_size)
		rc = statefile_stage(s, fuse_req_ctx(req), 0, true);
	if (rc) {
		statefile_free(s);
		return rc;
	}
	/* What it may have read under this name before is of no matter any more. */
	if (created)
		statefile_seen(req, s);
	fi->fh = (uintptr_t)&s->base;
	fi->direct_io = 1; /* each handle sees its own version */
	return 0;
}
