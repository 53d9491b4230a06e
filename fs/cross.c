/* unlink and link, and what every crossing between the classes needs. */
#include "cross.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "frame.h"
#include "reload.h"
#include "staging.h"

#define CROSS_CHUNK   (1u << 20)
#define CROSS_WAIT_MS 500

bool fs_cross_is_state(struct fs_mount *m, const struct fs_inode *parent,
		       const char *name)
{
	return parent->state || (parent == &m->root && strcmp(name, FS_STATE_NAME) == 0);
}

/* ---- content that becomes governed ---- */

/* One chunk through the frame. `at` is where the frame's fragment begins in the file. */
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

	*unfinished = f->len && rc == JSONL_OK;
	if (rc == JSONL_BLANK || !rc)
		return 0;
	*at += (off_t)offset;
	return rc;
}

int fs_cross_validate(struct fs_mount *m, const struct jsonl_limits *lim, int fd,
		      off_t from, off_t size, off_t *at, bool *unfinished)
{
	cleanup_free char *buf = malloc(CROSS_CHUNK);
	struct jsonl_frame frame = {0};
	off_t pos = from;
	int rc = 0;

	if (!buf)
		return -ENOMEM;
	*at = from;
	while (!rc && pos < size) {
		size_t want =
		    size - pos < CROSS_CHUNK ? (size_t)(size - pos) : CROSS_CHUNK;
		ssize_t got = jsonl_io_read_full(m->io, fd, buf, want, pos);

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

static void set_stale(struct fs_mount *m, struct fs_inode *i, bool stale, bool seized)
{
	pthread_rwlock_wrlock(&m->tree_lock);
	pthread_mutex_lock(&i->lock);
	i->stale = stale;
	i->seized = seized;
	pthread_mutex_unlock(&i->lock);
	pthread_rwlock_unlock(&m->tree_lock);
}

void fs_cross_unseize(struct fs_mount *m, struct fs_inode *i)
{
	set_stale(m, i, false, false);
}

void fs_cross_mark_stale(struct fs_mount *m, struct fs_inode *i)
{
	set_stale(m, i, true, false);
}

int fs_cross_seize(struct fs_mount *m, struct fs_inode *i)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	set_stale(m, i, true, true);
	for (int waited = 0; waited < CROSS_WAIT_MS; waited++) {
		unsigned writers;

		pthread_mutex_lock(&i->lock);
		writers = i->writers;
		pthread_mutex_unlock(&i->lock);
		if (!writers)
			return 0;
		nanosleep(&pause, NULL);
	}
	set_stale(m, i, false, false);
	return -ETXTBSY;
}

/* A bare number at the end would count as unfinished for ever after: it gets its newline.
 */
static int admit_newline(struct fs_mount *m, struct fs_inode *i)
{
	cleanup_close int fd = fs_inode_open(m, i, O_WRONLY | O_APPEND);
	struct iovec iov = {.iov_base = "\n", .iov_len = 1};
	size_t written;

	if (fd < 0)
		return fd;
	return jsonl_io_write_full(m->io, fd, &iov, 1, &written);
}

int fs_cross_admit(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
		   const char *newpath)
{
	const struct jsonl_settings *settings = jsonl_policy_settings(m->policy, newpath);
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
	rc = fs_cross_validate(m, &settings->limits, fd, 0, st.st_size, &at, &unfinished);
	if (rc > 0) {
		m->stats.denied++;
		FS_LOG(LOG_WARNING, ctx->uid, "refused", FS_STR("path", newpath),
		       FS_INT("offset", at), FS_STR("reason", jsonl_error_text(rc)),
		       FS_INT("pid", ctx->pid), FS_INT("uid", ctx->uid),
		       FS_STR("next", "nothing was moved; mend that line and try again"));
		return -jsonl_error_errno(rc);
	}
	if (!rc && unfinished)
		rc = admit_newline(m, i);
	return rc;
}

/* ---- unlink ---- */

/* 20261120T101112.123456789Z-dir%2Fname.jsonl */
void fs_cross_archive_name(const char *path, char *buf, size_t size)
{
	struct timespec now;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(buf, size, "%Y%m%dT%H%M%S", &tm);
	n += (size_t)snprintf(buf + n, size - n, ".%09ldZ-", now.tv_nsec);
	/* The end of a long path says more than its beginning. */
	if (strlen(path) > 120)
		path += strlen(path) - 120;
	for (; *path && n + 4 < size; path++) {
		if (*path == '/' || *path == '%')
			n += (size_t)snprintf(buf + n, size - n, "%%%02X",
					      (unsigned char)*path);
		else
			buf[n++] = *path;
	}
	buf[n] = '\0';
}

int fs_cross_archive_open(struct fs_mount *m, const char *to)
{
	int fd = openat(m->archive_fd, to,
			O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

int fs_cross_archive_finish(struct fs_mount *m, int in, int out)
{
	struct timespec times[2];
	struct stat st;

	if (fstat(in, &st) < 0)
		return -errno;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	if ((fchown(out, st.st_uid, st.st_gid) < 0 && m->uid == 0) ||
	    fchmod(out, st.st_mode & 07777) < 0 || futimens(out, times) < 0 ||
	    fsync(out) < 0 || fsync(m->archive_fd) < 0)
		return -errno;
	return 0;
}

/* state=DIR on another file system: copied, synced, then removed. */
static int archive_copy(struct fs_mount *m, int dir_fd, const char *name, const char *to)
{
	cleanup_close int in =
	    openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	cleanup_close int out = -1;
	struct stat st;
	int rc;

	if (in < 0 || fstat(in, &st) < 0)
		return -errno;
	out = fs_cross_archive_open(m, to);
	if (out < 0)
		return out;
	rc = fs_copy_bytes(m, in, 0, st.st_size, out);
	if (!rc)
		rc = fs_cross_archive_finish(m, in, out);
	if (!rc && unlinkat(dir_fd, name, 0) < 0)
		rc = -errno;
	if (rc)
		unlinkat(m->archive_fd, to, 0);
	return rc;
}

int fs_cross_archive_reserve(fuse_req_t req, struct fs_mount *m, const char *operation,
			     const char *path, uint64_t bytes)
{
	if (atomic_fetch_add(&m->archive_bytes, bytes) + bytes <=
	    atomic_load(&m->archive_max))
		return 0;
	atomic_fetch_sub(&m->archive_bytes, bytes);
	if (req)
		fs_denied(req, operation, path, FS_ARCHIVE_FULL);
	return -EPERM;
}

int fs_cross_archive(fuse_req_t req, struct fs_mount *m, int dir_fd, const char *name,
		     const char *path, off_t size)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	char to[NAME_MAX + 1], program[256];
	uint64_t bytes = (uint64_t)size;
	int rc;

	rc = fs_cross_archive_reserve(req, m, "unlink", path, bytes);
	if (rc)
		return rc;
	fs_cross_archive_name(path, to, sizeof(to));
	rc =
	    renameat2(dir_fd, name, m->archive_fd, to, RENAME_NOREPLACE) < 0 ? -errno : 0;
	if (rc == -EXDEV)
		rc = archive_copy(m, dir_fd, name, to);
	if (rc) {
		atomic_fetch_sub(&m->archive_bytes, bytes);
		return rc;
	}
	m->stats.archived++;
	fs_program_name(ctx->pid, program, sizeof(program));
	FS_LOG(LOG_NOTICE, ctx->uid, "archived", FS_STR("path", path),
	       FS_INT("length", bytes), FS_STR("archive", to), FS_INT("pid", ctx->pid),
	       FS_INT("uid", ctx->uid), FS_STR("comm", program));
	return 0;
}

static int unlink_governed(fuse_req_t req, struct fs_mount *m, struct fs_inode *dir,
			   int dir_fd, const char *name)
{
	const struct jsonl_settings *settings;
	char path[PATH_MAX];
	struct stat st;
	int rc;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	rc = fs_inode_path(m, dir, name, path, sizeof(path));
	if (rc)
		return rc;
	settings = jsonl_policy_settings(m->policy, path);
	if (!settings)
		return -ENOMEM;
	/* Another name keeps the records; no records, nothing to keep. */
	if (!S_ISREG(st.st_mode) || !st.st_size || st.st_nlink > 1 ||
	    settings->class != JSONL_CLASS_GOVERNED ||
	    settings->unlink == JSONL_UNLINK_ALLOW)
		return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
	if (settings->unlink == JSONL_UNLINK_DENY) {
		fs_denied(req, "unlink", path, "unlink=deny");
		return -EPERM;
	}
	return fs_cross_archive(req, m, dir_fd, name, path, st.st_size);
}

void fs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *dir = fs_inode_of(m, parent);
	int dir_fd, rc;

	if (fs_cross_is_state(m, dir, name)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	dir_fd = fs_inode_fd_get(m, dir);
	if (dir_fd < 0) {
		fuse_reply_err(req, -dir_fd);
		return;
	}
	if (jsonl_policy_may_govern(m->policy, name)) {
		/* Not while another file takes its place. */
		pthread_rwlock_rdlock(&m->tree_lock);
		rc = unlink_governed(req, m, dir, dir_fd, name);
		pthread_rwlock_unlock(&m->tree_lock);
		m->log_names++;
	} else {
		rc = unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
	}
	fs_inode_fd_put(m, dir, dir_fd);
	fuse_reply_err(req, -rc);
}

/* ---- link ---- */

/* May this inode get this name? For an O_TMPFILE, which has no name yet, its content is
 * judged; else both names must be of one class. */
static int link_allowed(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
			struct fs_inode *dir, const char *name)
{
	enum jsonl_class to = JSONL_CLASS_PLAIN;
	char path[PATH_MAX];
	struct stat st;
	int rc;

	if (!S_ISREG(i->type))
		return 0;
	if (i->class == JSONL_CLASS_PLAIN && !jsonl_policy_may_govern(m->policy, name))
		return 0;
	rc = fs_inode_path(m, dir, name, path, sizeof(path));
	if (rc)
		return rc;
	to = jsonl_policy_classify(m->policy, path);
	if (to == i->class)
		return 0;
	rc = fs_inode_stat(m, i, &st);
	if (rc)
		return rc;
	if (to == JSONL_CLASS_GOVERNED && st.st_nlink == 0) {
		/* Its own descriptor is still open: from here on that writes no more. */
		pthread_mutex_lock(&i->lock);
		i->sealed = true;
		pthread_mutex_unlock(&i->lock);
		rc = fs_cross_admit(req, m, i, path);
		if (rc) {
			pthread_mutex_lock(&i->lock);
			i->sealed = false;
			pthread_mutex_unlock(&i->lock);
		}
		return rc;
	}
	fs_denied(req, "link", path, "one file cannot be a log and a plain file");
	return -EPERM;
}

static int link_as_caller(fuse_req_t req, const char *from, int dir_fd, const char *name)
{
	const struct fs_ids ids = fs_caller_ids(req);
	struct fs_caller saved;
	int rc = fs_caller_pay(fs_mount_of(req), &ids, &saved);

	if (rc)
		return rc;
	if (linkat(AT_FDCWD, from, dir_fd, name, AT_SYMLINK_FOLLOW) < 0)
		rc = -errno;
	fs_caller_restore(&saved);
	return rc;
}

/* The call fails after all, and who makes it again must not find that the name is taken. */
static void link_take_back(struct fs_inode *i, int dir_fd, const char *name)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == i->dev &&
	    st.st_ino == i->ino && st.st_nlink > 1)
		unlinkat(dir_fd, name, 0);
}

static int link_backing(fuse_req_t req, struct fs_inode *i, struct fs_inode *dir,
			const char *name, struct fs_inode **found, struct stat *st)
{
	struct fs_mount *m = fs_mount_of(req);
	char from[32];
	int fd = fs_inode_fd_get(m, i);
	int dir_fd, rc;

	if (fd < 0)
		return fd;
	dir_fd = fs_inode_fd_get(m, dir);
	if (dir_fd < 0) {
		fs_inode_fd_put(m, i, fd);
		return dir_fd;
	}
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	rc = link_as_caller(req, from, dir_fd, name);
	if (!rc) {
		rc = fs_inode_lookup(m, dir, name, found, st);
		if (rc)
			link_take_back(i, dir_fd, name);
	}
	fs_inode_fd_put(m, dir, dir_fd);
	fs_inode_fd_put(m, i, fd);
	return rc;
}

void fs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	struct fs_inode *dir = fs_inode_of(m, newparent);
	struct fuse_entry_param e;
	struct fs_inode *found;
	struct stat st;
	int rc;

	rc = i->state || i->virtual || fs_cross_is_state(m, dir, newname) ? -EPERM : 0;
	if (!rc)
		rc = fs_reload_check(m, i);
	if (!rc)
		rc = link_allowed(req, m, i, dir, newname);
	if (!rc)
		rc = link_backing(req, i, dir, newname, &found, &st);
	if (rc) {
		fuse_reply_err(req, -rc);
		return;
	}
	fs_entry_fill(m, found, &st, &e);
	fs_inode_to_kernel(m, found);
	if (fuse_reply_entry(req, &e) == -ENOENT)
		fs_inode_forget(m, found, 1);
}
