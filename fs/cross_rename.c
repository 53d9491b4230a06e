/* rename: plain as the backing file system has it, and the rules for every crossing
 * between the classes. A rename onto a log with records is an append of what is new in
 * the source. */
#include "cross.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "file.h"
#include "inode.h"
#include "ops.h"
#include "rewrite.h"
#include "statefile.h"

#ifndef RENAME_WHITEOUT
#define RENAME_WHITEOUT (1 << 2)
#endif

#define RENAME_FREEZE_MS 500
/* What a rename may append at once is read into memory first. */
#define RENAME_MAX_GROWTH (1LL << 30)

struct renaming {
	fuse_req_t req;
	struct fs_mount *m;
	struct fs_inode *old_dir, *new_dir;
	const char *old_name, *new_name;
	unsigned flags;
	int old_fd, new_fd;
	char old_path[PATH_MAX], new_path[PATH_MAX];
	struct fs_inode *src, *dst; /* dst NULL: there is none */
	struct stat src_st, dst_st;
	const struct jsonl_settings *settings; /* of new_path */
	/* Onto a log: the rest of the source is in it, which nothing takes back. */
	bool appended;
	const char *why; /* it was refused; NULL: by what is recorded */
};

static int rename_as_caller(struct renaming *r)
{
	const struct fs_ids ids = fs_caller_ids(r->req);
	struct fs_caller saved;
	int rc = fs_caller_pay(r->m, &ids, &saved);

	if (rc)
		return rc;
	if (renameat2(r->old_fd, r->old_name, r->new_fd, r->new_name, r->flags) < 0)
		rc = -errno;
	fs_caller_restore(&saved);
	return rc;
}

static int rename_names(struct renaming *r)
{
	int rc = rename_as_caller(r);

	if (rc)
		return rc;
	if (r->src) {
		fs_inode_moved(r->m, r->src, r->new_dir, r->new_name);
		r->m->log_names++;
	}
	if (r->dst && (r->flags & RENAME_EXCHANGE))
		fs_inode_moved(r->m, r->dst, r->old_dir, r->old_name);
	return 0;
}

static int rename_plain(struct renaming *r)
{
	int rc;

	/* Not while another file takes the place of one of them. */
	pthread_rwlock_rdlock(&r->m->tree_lock);
	rc = rename_names(r);
	pthread_rwlock_unlock(&r->m->tree_lock);
	return rc;
}

static int rename_refuse(struct renaming *r, int code, const char *path, const char *why)
{
	fs_denied(r->req, "rename", path, why);
	return code;
}

/* ---- directories ---- */

/* Would a regular file below change its class if the prefix of its path did? 1, 0,
 * -errno. `from` and `to` are buffers of PATH_MAX with the paths of the directory `fd`,
 * which is taken over. */
static int subtree_crosses(struct fs_mount *m, int fd, char *from, char *to)
{
	size_t from_len = strlen(from), to_len = strlen(to);
	DIR *dir = fdopendir(fd);
	struct dirent *e;
	int rc = 0;

	if (!dir) {
		rc = -errno;
		close(fd);
		return rc;
	}
	while (!rc) {
		struct stat st;

		errno = 0;
		/* NOLINTNEXTLINE(concurrency-mt-unsafe): our own stream */
		e = readdir(dir);
		if (!e) {
			rc = -errno; /* 0: the end */
			break;
		}

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (from_len + strlen(e->d_name) + 2 > PATH_MAX ||
		    to_len + strlen(e->d_name) + 2 > PATH_MAX) {
			rc = -ENAMETOOLONG;
			break;
		}
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			rc = errno == ENOENT ? 0 : -errno; /* gone meanwhile */
			continue;
		}
		snprintf(from + from_len, PATH_MAX - from_len, "/%s", e->d_name);
		snprintf(to + to_len, PATH_MAX - to_len, "/%s", e->d_name);
		if (S_ISDIR(st.st_mode)) {
			int sub = openat(dirfd(dir), e->d_name,
					 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			rc = sub < 0 ? -errno : subtree_crosses(m, sub, from, to);
		} else if (S_ISREG(st.st_mode)) {
			rc = jsonl_policy_classify(m->policy, from) !=
			     jsonl_policy_classify(m->policy, to);
		}
	}
	from[from_len] = to[to_len] = '\0';
	closedir(dir);
	return rc;
}

static int directory_may_move(struct renaming *r, int dir_fd, const char *name,
			      const char *from, const char *to)
{
	char from_buf[PATH_MAX], to_buf[PATH_MAX];
	int fd, rc;

	if (!jsonl_policy_rename_may_cross(r->m->policy, from, to))
		return 0;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	snprintf(from_buf, sizeof(from_buf), "%s", from);
	snprintf(to_buf, sizeof(to_buf), "%s", to);
	rc = subtree_crosses(r->m, fd, from_buf, to_buf);
	/* Not a refusal: mv(1) copies instead, file by file, each under its own rules. */
	return rc > 0 ? -EXDEV : rc;
}

static int rename_directory(struct renaming *r)
{
	int rc = directory_may_move(r, r->old_fd, r->old_name, r->old_path, r->new_path);
	int fd;

	if (rc || !r->dst)
		return rc ? rc : rename_plain(r);
	/* As after rmdir: a process may still stand in the empty one that is replaced. */
	fd = fs_inode_fd_get(r->m, r->dst);
	rc = rename_plain(r);
	if (!rc)
		fs_descriptor_keep(r->m, r->dst);
	fs_inode_fd_put(r->m, r->dst, fd);
	return rc;
}

/* ---- exchange ---- */

/* May this side be exchanged? Not with a log, and a state file with another one only. */
static bool side_fixed(struct renaming *r, const struct fs_inode *i, const char *to)
{
	enum jsonl_class class = jsonl_policy_classify(r->m->policy, to);

	return S_ISREG(i->type) &&
	       (i->class == JSONL_CLASS_GOVERNED || i->class != class);
}

static int rename_exchange(struct renaming *r)
{
	int rc = 0;

	if (!r->dst)
		return -ENOENT;
	if (side_fixed(r, r->src, r->new_path) || side_fixed(r, r->dst, r->old_path))
		return rename_refuse(r, -EPERM, r->new_path,
				     "RENAME_EXCHANGE with a log on either side, or of a "
				     "state file with another file");
	if (S_ISDIR(r->src->type))
		rc = directory_may_move(r, r->old_fd, r->old_name, r->old_path,
					r->new_path);
	if (!rc && S_ISDIR(r->dst->type))
		rc = directory_may_move(r, r->new_fd, r->new_name, r->new_path,
					r->old_path);
	return rc ? rc : rename_plain(r);
}

/* ---- onto a log: the rest of the source is appended ---- */

int fs_cross_compare(struct fs_mount *m, struct jsonl_file *file, int src, off_t from,
		     off_t to)
{
	char buf[65536];

	while (from < to) {
		size_t want =
		    to - from < (off_t)sizeof(buf) ? (size_t)(to - from) : sizeof(buf);
		ssize_t got = jsonl_io_read_full(m->io, src, buf, want, from);
		int rc;

		if (got < 0)
			return (int)got;
		if ((size_t)got < want)
			return -EPERM;
		rc = jsonl_file_equals(file, buf, want, from);
		if (rc <= 0)
			return rc ? rc : -EPERM;
		from += got;
	}
	return 0;
}

int fs_cross_append_rest(struct fs_mount *m, struct jsonl_file *file, int src, off_t from,
			 off_t size, bool unfinished, struct jsonl_file_user *user)
{
	size_t len = (size_t)(size - from);
	cleanup_free char *buf = NULL;
	struct iovec iov[2] = {{.iov_len = len}, {.iov_base = "\n", .iov_len = 1}};
	ssize_t got;

	if (!len)
		return 0;
	if (len > RENAME_MAX_GROWTH)
		return -EFBIG;
	buf = malloc(len);
	if (!buf)
		return -ENOMEM;
	got = jsonl_io_read_full(m->io, src, buf, len, from);
	if (got < 0)
		return (int)got;
	if ((size_t)got < len)
		return -ESTALE;
	iov[0].iov_base = buf;
	return jsonl_file_append_frozen(file, iov, unfinished ? 2 : 1, user);
}

/* The log goes on as the inode that it is; its mode is that of the newcomer, before others
 * could read what is new by the old one. */
static int take_over_mode(struct renaming *r, int dst_fd, mode_t *before)
{
	mode_t mode = r->src_st.st_mode & 07777;
	struct stat st;

	if (fstat(dst_fd, &st) < 0)
		return -errno;
	*before = st.st_mode & 07777;
	if (*before == mode || fchmod(dst_fd, mode) == 0)
		return 0;
	r->why = "the log cannot be given the mode of the new file";
	return -errno;
}

/* And its times, if that can be: it is no reason to refuse what is in the log by now. */
static void take_over_times(struct renaming *r, int dst_fd)
{
	const struct timespec times[2] = {r->src_st.st_atim, r->src_st.st_mtim};

	(void)!futimens(dst_fd, times);
}

static int onto_frozen(struct renaming *r, struct jsonl_file *file, int src,
		       off_t compared, struct jsonl_file_user *user)
{
	bool unfinished = false;
	struct stat st;
	mode_t before = 0;
	off_t end, at;
	int rc = fs_freeze(file, RENAME_FREEZE_MS, &end);

	if (rc)
		return rc;
	rc = fstat(src, &st) < 0 ? -errno : st.st_size < end ? -EPERM : 0;
	if (!rc)
		rc = fs_cross_compare(r->m, file, src, compared, end);
	if (!rc)
		rc = fs_cross_validate(r->m, &r->settings->limits, src, end, st.st_size,
				       &at, &unfinished);
	if (!rc)
		rc = take_over_mode(r, jsonl_file_fd(file), &before);
	if (!rc) {
		rc = fs_cross_append_rest(r->m, file, src, end, st.st_size, unfinished,
					  user);
		r->appended = !rc;
		if (rc && before != (r->src_st.st_mode & 07777))
			(void)!fchmod(jsonl_file_fd(file), before);
	}
	jsonl_file_unfreeze(file);
	return rc;
}

static int onto_log(struct renaming *r, struct fs_shared *shared)
{
	struct jsonl_file *file = fs_shared_file(shared);
	struct jsonl_file_user user = {0};
	cleanup_close int src = fs_inode_open(r->m, r->src, O_RDONLY);
	off_t visible;
	int rc;

	if (src < 0)
		return src;
	rc = jsonl_file_visible(file, &visible);
	if (!rc)
		rc = fs_cross_compare(r->m, file, src, 0, visible);
	if (!rc)
		rc = onto_frozen(r, file, src, visible, &user);
	if (!rc)
		take_over_times(r, jsonl_file_fd(file));
	if (!rc && r->settings->sync != JSONL_SYNC_NONE)
		rc = jsonl_file_sync(file, &user);
	if (!rc && unlinkat(r->old_fd, r->old_name, 0) < 0)
		rc = -errno;
	return rc;
}

/* When the content of the source was begun: when it was made, or emptied last. False: it
 * is not known. */
static bool source_begun(struct renaming *r, struct timespec *begun)
{
	int64_t emptied = r->src->begun;
	struct statx sx = {0};
	int fd;

	if (emptied) {
		*begun = (struct timespec){emptied / 1000000000, emptied % 1000000000};
		return true;
	}
	fd = fs_inode_fd_get(r->m, r->src);
	if (fd < 0)
		return false;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &sx) < 0)
		sx.stx_mask = 0;
	fs_inode_fd_put(r->m, r->src, fd);
	*begun = (struct timespec){sx.stx_btime.tv_sec, sx.stx_btime.tv_nsec};
	return sx.stx_mask & STATX_BTIME;
}

/* Which part of the log does the source stand for? What its maker has seen: the process
 * that renames, if it has read the log. If another one has, nothing may have come since
 * the source was begun, which is taken to be before the log was read for it. */
static int replacement_base(struct renaming *r, struct fs_shared *shared, off_t visible,
			    off_t *base)
{
	struct timespec begun;
	struct stat st;
	int rc;

	rc = fs_rewrite_base(shared, fuse_req_ctx(r->req)->pid, visible, base);
	if (rc)
		return rc < 0 ? rc : 0;
	rc = fs_inode_stat(r->m, r->dst, &st);
	if (rc)
		return rc;
	if (source_begun(r, &begun) && !fs_later_time(st.st_mtim, begun))
		return 0;
	return rename_refuse(r, -EBUSY, r->new_path,
			     "records came since the new file was begun, and the program "
			     "that renames it has not read the log: make it anew");
}

/* rewrite=archive. The source is copied, so that its node need not become the log's. */
static int replace_log(struct renaming *r, struct fs_shared *shared)
{
	cleanup_close int src = fs_inode_open(r->m, r->src, O_RDONLY);
	struct fs_new_content c = {.fd = src, .attributes = src, .times = true};
	const char *why = NULL;
	struct fs_process who;
	off_t visible, at, end;
	int rc = src < 0 ? src : jsonl_file_visible(fs_shared_file(shared), &visible);

	c.ino = r->dst->ino;
	c.generation = fs_version_generation(jsonl_file_fd(fs_shared_file(shared)), "");
	c.size = r->src_st.st_size;
	if (!rc)
		rc = replacement_base(r, shared, visible, &c.base);
	if (rc == -EBUSY)
		return rc;
	if (!rc)
		rc = fs_cross_validate(r->m, &r->settings->limits, src, 0, c.size, &at,
				       &c.unfinished);
	if (!rc)
		rc = fs_rewrite_replace(r->m, r->dst, shared, &c, &end, NULL, &why);
	if (rc == -EPERM || rc == -ESTALE)
		return rename_refuse(r, rc, r->new_path,
				     why ? why
					 : "the log was renamed or replaced since this "
					   "program read it; read it anew");
	if (rc)
		return rc;
	r->m->stats.rewrites++;
	if (fs_process_identify(fuse_req_ctx(r->req)->pid, &who))
		fs_rewrite_written(shared, &who, end);
	return unlinkat(r->old_fd, r->old_name, 0) < 0 ? -errno : 0;
}

static int rename_onto_log(struct renaming *r)
{
	const bool archive = r->settings->rewrite == JSONL_REWRITE_ARCHIVE;
	struct fs_shared *shared;
	int rc = fs_cross_seize(r->m, r->src);

	if (rc)
		return rename_refuse(
		    r, rc, r->new_path,
		    "the source is still open for writing; close it first");
	rc = fs_shared_get(r->m, r->dst, true, &shared);
	if (!rc) {
		rc = onto_log(r, shared);
		if (rc == -EPERM && archive && !r->appended)
			rc = replace_log(r, shared);
		else if (!rc)
			r->m->stats.prefix_renames++;
		fs_shared_put(r->m, shared);
	}
	if (rc) {
		fs_cross_unseize(r->m, r->src);
		if (rc > 0)
			rc = rename_refuse(r, -jsonl_error_errno(rc), r->new_path,
					   jsonl_error_text(rc));
		else if (rc == -EPERM && !archive && !r->appended)
			rename_refuse(
			    r, rc, r->new_path,
			    r->why ? r->why
				   : "the new content does not begin with what is "
				     "recorded; append to the log, or rotate it first");
		return rc;
	}
	fs_cross_mark_stale(r->m, r->src);
	fs_attributes_changed(r->m, r->dst);
	/* The kernel has moved the source's entry there. */
	fs_invalidate_entry(r->m, r->new_dir, r->new_name);
	return 0;
}

/* ---- regular files ---- */

/* It stays a plain file after all, without the newline that fs_cross_admit has added. */
static void refuse_newline(struct renaming *r)
{
	const struct timespec times[2] = {r->src_st.st_atim, r->src_st.st_mtim};
	cleanup_close int fd = fs_inode_open(r->m, r->src, O_RDWR);
	const off_t before = r->src_st.st_size;
	struct stat st;
	char last;

	if (fd < 0 || fstat(fd, &st) || st.st_size != before + 1 ||
	    pread(fd, &last, 1, before) != 1 || last != '\n' || ftruncate(fd, before))
		return;
	(void)!futimens(fd, times);
}

static int rename_into_log(struct renaming *r)
{
	int rc;

	/* The other names would stay plain. */
	if (r->src_st.st_nlink > 1)
		return rename_refuse(
		    r, -EPERM, r->new_path,
		    "the source has other names; one file cannot be a log "
		    "and a plain file");
	rc = fs_cross_seize(r->m, r->src);
	if (rc)
		return rename_refuse(
		    r, rc, r->new_path,
		    "the source is still open for writing; close it first");
	rc = fs_cross_admit(r->req, r->m, r->src, r->new_path);
	if (!rc) {
		rc = rename_plain(r);
		if (rc)
			refuse_newline(r);
	}
	if (rc) {
		fs_cross_unseize(r->m, r->src);
	} else {
		fs_cross_mark_stale(r->m, r->src);
		fs_invalidate_entry(r->m, r->new_dir, r->new_name);
	}
	return rc;
}

/* Handles that are open keep their class; who opens it now finds the new one. */
static int rename_class(struct renaming *r)
{
	int rc = rename_plain(r);

	if (rc)
		return rc;
	fs_cross_mark_stale(r->m, r->src);
	fs_invalidate_entry(r->m, r->new_dir, r->new_name);
	/* An editor's way of saving, not worth a line. */
	if (r->settings->class == JSONL_CLASS_TEXT)
		return 0;
	FS_LOG(LOG_INFO, fuse_req_ctx(r->req)->uid, "rotated",
	       FS_STR("path", r->old_path), FS_STR("to", r->new_path),
	       FS_INT("pid", fuse_req_ctx(r->req)->pid),
	       FS_INT("uid", fuse_req_ctx(r->req)->uid));
	return 0;
}

static int rename_out_of_log(struct renaming *r)
{
	if (r->src_st.st_size && !jsonl_policy_is_generation(r->m->policy, r->new_path))
		return rename_refuse(
		    r, -EPERM, r->old_path,
		    "a log with records may be renamed to another log, or to a "
		    "generation such as FILE.1 or FILE-20261120");
	return rename_class(r);
}

/* Another content for a state file: does it take back what somebody else has changed? */
static int rename_onto_state(struct renaming *r, int fd)
{
	const struct fuse_ctx *caller = fuse_req_ctx(r->req);
	struct timespec begun;
	bool known = source_begun(r, &begun);
	pthread_mutex_t *locked;
	int rc;

	if (!r->dst || !S_ISREG(r->dst->type))
		return rename_plain(r);
	locked = fs_statefile_lock(r->dst);
	rc = fs_statefile_onto(r->m, r->settings, caller, r->new_path,
			       known ? &begun : NULL, r->new_fd, r->new_name);
	if (rc == -EBUSY)
		rename_refuse(r, rc, r->new_path,
			      "another program has changed it since it was read for this "
			      "new content: read it anew");
	if (!rc)
		rc = rename_plain(r);
	if (!rc)
		fs_statefile_put(r->m, caller, r->new_path, fd);
	pthread_mutex_unlock(locked);
	return rc;
}

/* From the name of one state file to that of another. */
static int rename_state(struct renaming *r)
{
	cleanup_close int fd = fs_inode_open(r->m, r->src, O_RDONLY);

	return fd < 0 ? fd : rename_onto_state(r, fd);
}

/* Onto a state file, or to the name of one: the content is judged first. */
static int rename_into_state(struct renaming *r)
{
	cleanup_close int fd = -1;
	off_t at;
	int rc = fs_cross_seize(r->m, r->src);

	if (rc)
		return rename_refuse(r, rc, r->new_path,
				     "the source is still open for writing; close it first");
	fd = fs_inode_open(r->m, r->src, O_RDONLY);
	rc = fd < 0 ? fd : 0;
	if (!rc && r->src_st.st_size)
		rc = fs_statefile_check(r->m, &r->settings->limits, fd, &at);
	if (rc > 0)
		rc = rename_refuse(r, -jsonl_error_errno(rc), r->new_path,
				   jsonl_error_text(rc));
	if (!rc)
		rc = rename_onto_state(r, fd);
	if (rc) {
		fs_cross_unseize(r->m, r->src);
	} else {
		fs_cross_mark_stale(r->m, r->src);
		fs_invalidate_entry(r->m, r->new_dir, r->new_name);
	}
	if (!rc && r->src_st.st_size)
		fs_statefile_keep(r->m, r->settings, r->new_path, fd);
	return rc;
}

static int rename_regular(struct renaming *r)
{
	enum jsonl_class from = r->src->class;
	enum jsonl_class to = (enum jsonl_class)r->settings->class;

	/* Two names of one file: rename(2) does nothing. */
	if (from == to && r->dst && r->src->dev == r->dst->dev &&
	    r->src->ino == r->dst->ino)
		return rename_plain(r);
	if (to == JSONL_CLASS_GOVERNED && r->dst && S_ISREG(r->dst->type))
		return rename_onto_log(r);
	if (from == to)
		return to == JSONL_CLASS_REPLACE ? rename_state(r) : rename_plain(r);
	if (to == JSONL_CLASS_GOVERNED)
		return rename_into_log(r);
	if (to == JSONL_CLASS_REPLACE && from == JSONL_CLASS_PLAIN)
		return rename_into_state(r);
	return from == JSONL_CLASS_GOVERNED ? rename_out_of_log(r) : rename_class(r);
}

static int rename_decided(struct renaming *r)
{
	if (r->flags & RENAME_EXCHANGE)
		return rename_exchange(r);
	if (r->dst && (r->flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (S_ISDIR(r->src->type))
		return rename_directory(r);
	if ((r->flags & RENAME_WHITEOUT) && r->src->class == JSONL_CLASS_GOVERNED)
		return -EINVAL;
	if (S_ISREG(r->src->type) && !(r->dst && S_ISDIR(r->dst->type)))
		return rename_regular(r);
	if (r->dst && r->dst->class == JSONL_CLASS_GOVERNED && r->dst_st.st_size)
		return rename_refuse(r, -EPERM, r->new_path,
				     "it would replace a log with records");
	return rename_plain(r);
}

/* ---- the request ---- */

/* Most renames have nothing to do with logs and need no look at either side. */
static bool rename_is_simple(struct renaming *r)
{
	struct stat st;

	return !(r->flags & RENAME_EXCHANGE) &&
	       !jsonl_policy_may_govern(r->m->policy, r->old_name) &&
	       !jsonl_policy_may_govern(r->m->policy, r->new_name) &&
	       fstatat(r->old_fd, r->old_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       !S_ISDIR(st.st_mode);
}

static int rename_look(struct renaming *r)
{
	int rc = fs_inode_path(r->m, r->old_dir, r->old_name, r->old_path,
			       sizeof(r->old_path));

	if (!rc)
		rc = fs_inode_path(r->m, r->new_dir, r->new_name, r->new_path,
				   sizeof(r->new_path));
	if (!rc)
		rc = fs_inode_lookup(r->m, r->old_dir, r->old_name, &r->src, &r->src_st);
	if (rc)
		return rc;
	r->settings = jsonl_policy_settings(r->m->policy, r->new_path);
	if (!r->settings)
		return -ENOMEM;
	rc = fs_inode_lookup(r->m, r->new_dir, r->new_name, &r->dst, &r->dst_st);
	if (rc == -ENOENT) {
		r->dst = NULL;
		rc = 0;
	}
	return rc;
}

static int rename_run(struct renaming *r)
{
	int rc;

	if (rename_is_simple(r))
		return rename_plain(r);
	rc = rename_look(r);
	if (!rc)
		rc = rename_decided(r);
	if (r->dst)
		fs_inode_unref(r->m, r->dst);
	if (r->src)
		fs_inode_unref(r->m, r->src);
	return rc;
}

void fs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		  fuse_ino_t newparent, const char *newname, unsigned flags)
{
	struct fs_mount *m = fs_mount_of(req);
	struct renaming r = {.req = req,
			     .m = m,
			     .old_dir = fs_inode_of(m, parent),
			     .new_dir = fs_inode_of(m, newparent),
			     .old_name = name,
			     .new_name = newname,
			     .flags = flags};
	struct fs_ids ids;
	int rc;

	if (fs_cross_is_state(m, r.old_dir, name) ||
	    fs_cross_is_state(m, r.new_dir, newname)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	r.old_fd = fs_inode_fd_get(m, r.old_dir);
	if (r.old_fd < 0) {
		fuse_reply_err(req, -r.old_fd);
		return;
	}
	r.new_fd = fs_inode_fd_get(m, r.new_dir);
	ids = fs_caller_ids(req);
	fs_payer_set(m, &ids);
	rc = r.new_fd < 0 ? r.new_fd : rename_run(&r);
	fs_payer_clear();
	if (r.new_fd >= 0)
		fs_inode_fd_put(m, r.new_dir, r.new_fd);
	fs_inode_fd_put(m, r.old_dir, r.old_fd);
	fuse_reply_err(req, -rc);
}
