/* Looking names up, and what is known about a file apart from its content. */
#include "inode.h"
#include "ops.h"
#include "reload.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#define DEVICE_SHIFT 48
/* Two changes within one tick of the clock that files are stamped by look like one. */
#define TICK_NS 20000000LL
/* FAT, ext4 with small inodes and other file systems keep less: two seconds at worst, and
 * then the rest is a multiple of the finest that they keep. */
#define COARSE_TICK_NS 2000000000LL
#define COARSE_UNIT_NS 10000000L

void fs_stat_public(const struct fs_inode *i, struct stat *st)
{
	/* One st_dev covers all devices below the source: programs that tell files apart
	 * by (st_dev, st_ino) would take files of two of them for hard links. */
	if (!i->virtual)
		st->st_ino ^= (uint64_t)i->priv->device << DEVICE_SHIFT;
}

bool fs_same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool fs_later_time(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static int64_t nanoseconds(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

bool fs_stamp_is_old(const struct stat *st)
{
	int64_t m = nanoseconds(st->st_mtim), c = nanoseconds(st->st_ctim);
	int64_t tick = TICK_NS;
	struct timespec now;

	/* The time that nobody can set. */
	if (st->st_ctim.tv_nsec % COARSE_UNIT_NS == 0)
		tick += COARSE_TICK_NS;
	clock_gettime(CLOCK_REALTIME, &now);
	return nanoseconds(now) - (m > c ? m : c) > tick;
}

/* Files of the state directory are written by ourselves. A log that is being `written`, and
 * read, must not have its length kept, either: of two answers that cross on their way the
 * kernel keeps the one that it has first, though the other, which a program has seen, may be
 * longer, until the append that came between them is answered. (Plain files it writes by
 * itself, and takes no length meanwhile. And where nobody reads each OPEN would cost a
 * GETATTR for nothing.) Where a governed file grows without a WRITE, fs_attributes_changed
 * says so. */
static double attr_timeout(const struct fs_mount *m, const struct fs_inode *i, bool written)
{
	return i->state || written ? 0 : m->config.attr_timeout;
}

/* Corrects the length to what readers see. Is the file a log that is written and read? */
static bool fix_log(struct fs_mount *m, struct fs_inode *i, struct stat *st)
{
	bool written = false;

	if (i->class == JSONL_CLASS_GOVERNED)
		return fs_governed_fix_stat(m, i, st);
	if (i->class == JSONL_CLASS_TEXT) {
		pthread_mutex_lock(&i->lock);
		written = i->readers && i->writers;
		pthread_mutex_unlock(&i->lock);
	}
	return written;
}

void fs_attributes_changed(struct fs_mount *m, struct fs_inode *i)
{
	/* Attributes alone: takes no lock in the kernel that a request could hold. */
	fuse_lowlevel_notify_inval_inode(m->se, fs_inode_number(m, i), -1, 0);
}

void fs_attributes_changed_as(struct fs_mount *m, struct fs_inode *i,
			      enum jsonl_class class)
{
	fuse_ino_t number = fs_inode_number_as(m, i, class);

	if (number)
		fuse_lowlevel_notify_inval_inode(m->se, number, -1, 0);
}

void fs_entry_fill(struct fs_mount *m, struct fs_inode *i, const struct stat *st,
		   struct fuse_entry_param *e)
{
	bool written;

	memset(e, 0, sizeof(*e));
	e->ino = fs_inode_number(m, i);
	e->attr = *st;
	written = fix_log(m, i, &e->attr);
	fs_stat_public(i, &e->attr);
	e->attr_timeout = attr_timeout(m, i, written);
	e->entry_timeout = m->config.entry_timeout;
}

/* `written`: as fix_log says. */
static int inode_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st, bool *written)
{
	int fd, r = 0;

	*written = false;
	if (i->virtual) {
		fs_state_stat(m, i, st);
		return 0;
	}
	fd = fs_inode_fd_get(m, i);
	if (fd < 0)
		return fd;
	if (fstat(fd, st))
		r = -errno;
	fs_inode_fd_put(m, i, fd);
	if (!r)
		*written = fix_log(m, i, st);
	return r;
}

int fs_inode_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st)
{
	bool written;

	return inode_stat(m, i, st, &written);
}

/* What was renamed onto a log became an append to it, and its file is gone; until the
 * kernel has heard that the name leads to the log, it asks us about that file. */
static bool is_merged(struct fs_inode *i, const struct stat *st)
{
	bool merged;

	pthread_mutex_lock(&i->lock);
	merged = i->stale && st->st_nlink == 0 && !i->handles;
	pthread_mutex_unlock(&i->lock);
	return merged;
}

static void reply_attr(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
		       const struct fuse_file_info *fi)
{
	struct fs_handle *h = fi ? fs_handle_of(fi) : NULL;
	bool own, written;
	struct stat st;
	int r = inode_stat(m, i, &st, &written);

	if (!r && is_merged(i, &st))
		r = -ESTALE; /* then it looks the name up again */
	if (r) {
		fuse_reply_err(req, -r);
		return;
	}
	fs_stat_public(i, &st);
	/* A length that only this handle sees must not be kept for the others. */
	own = h && h->ops->size && h->ops->size(h, &st.st_size);
	fuse_reply_attr(req, &st, own ? 0 : attr_timeout(m, i, written));
}

void fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fuse_entry_param e;
	struct fs_inode *i;
	struct stat st;
	struct fs_inode *dir = fs_inode_of(m, parent);
	int r = fs_inode_lookup(m, dir, name, &i, &st);

	if (r == -ENOENT && m->config.entry_timeout > 0 && !dir->state) {
		/* The kernel may remember that there is no such file, where we make none
		 * ourselves. */
		memset(&e, 0, sizeof(e));
		e.entry_timeout = m->config.entry_timeout;
		fuse_reply_entry(req, &e);
		return;
	}
	if (r) {
		fuse_reply_err(req, -r);
		return;
	}
	fs_entry_fill(m, i, &st, &e);
	fs_inode_to_kernel(m, i);
	if (fuse_reply_entry(req, &e))
		fs_inode_forget(m, i, 1);
}

void fs_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct fs_mount *m = fs_mount_of(req);

	fs_inode_forget(m, fs_inode_of(m, ino), nlookup);
	fuse_reply_none(req);
}

void fs_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs_mount *m = fs_mount_of(req);

	for (size_t k = 0; k < count; k++)
		fs_inode_forget(m, fs_inode_of(m, forgets[k].ino), forgets[k].nlookup);
	fuse_reply_none(req);
}

void fs_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);

	reply_attr(req, m, fs_inode_of(m, ino), fi);
}

/* ---- setattr ---- */

static int set_plain_size(fuse_req_t req, struct fs_inode *i, off_t size,
			  const struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	cleanup_close int opened = -1;
	struct fs_caller saved;
	int fd = -1, r = 0;

	if (fi && (fs_handle_of(fi)->flags & O_ACCMODE) != O_RDONLY)
		fd = fs_handle_fd(fi);
	if (fd < 0)
		fd = opened = fs_inode_open(m, i, O_WRONLY);
	if (fd < 0)
		return fd;
	r = fs_caller_content(req, fd, &saved);
	if (r)
		return r;
	if (ftruncate(fd, size))
		r = -errno;
	fs_caller_restore(&saved);
	return r;
}

static int set_size(fuse_req_t req, struct fs_inode *i, off_t size,
		    const struct fuse_file_info *fi)
{
	struct fs_handle *h = fi ? fs_handle_of(fi) : NULL;
	bool stale, sealed;
	int r = 1;

	pthread_mutex_lock(&i->lock);
	stale = i->stale;
	sealed = i->sealed;
	pthread_mutex_unlock(&i->lock);
	if (!fi && !stale)
		stale = fs_reload_check(fs_mount_of(req), i) != 0;
	if (stale && !fi)
		return -ESTALE; /* other rules by now: the kernel looks again */
	if (sealed)
		return -EPERM;
	if (h && h->ops->truncate)
		r = h->ops->truncate(req, h, size);
	if (r <= 0)
		return r;
	if (i->class == JSONL_CLASS_GOVERNED)
		return fs_governed_truncate(req, i, size, false);
	/* By its name alone a state file cannot be changed in part. */
	if (i->class == JSONL_CLASS_REPLACE)
		return -EPERM;
	return set_plain_size(req, i, size, fi);
}

static void time_of(int to_set, int set, int now, const struct timespec *value,
		    struct timespec *out)
{
	*out = (struct timespec){.tv_nsec = UTIME_OMIT};
	if (to_set & now)
		out->tv_nsec = UTIME_NOW;
	else if (to_set & set)
		*out = *value;
}

/* Of a plain file nobody keeps the name. */
static void path_by_descriptor(struct fs_mount *m, int fd, char *path, size_t size)
{
	const size_t length = strlen(m->source);
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, size - 1);
	path[n < 0 ? 0 : n] = '\0';
	if (strncmp(path, m->source, length) == 0 && path[length] == '/')
		memmove(path, path + length + 1, strlen(path + length + 1) + 1);
}

void fs_tell_special_bits(fuse_req_t req, const char *operation, struct fs_inode *i,
			  const char *name, mode_t mode, int rc)
{
	struct fs_mount *m = fs_mount_of(req);
	char path[PATH_MAX] = "";
	int fd;

	/* A call that does nothing: without a filter it is EBADF. */
	if (rc != -EPERM || !(mode & (S_ISUID | S_ISGID)) || fchmod(-1, S_ISGID) == 0 ||
	    errno != EPERM)
		return;
	if (name) {
		if (fs_inode_path(m, i, name, path, sizeof(path)))
			path[0] = '\0';
	} else {
		fd = fs_inode_fd_get(m, i);
		if (fd >= 0)
			path_by_descriptor(m, fd, path, sizeof(path));
		fs_inode_fd_put(m, i, fd);
	}
	fs_denied(req, operation, path,
		  "the service may set no setuid and no setgid bits; where files need them, "
		  "put RestrictSUIDSGID=no into a drop-in (systemctl edit)");
}

static int change_mode(int fd, mode_t mode)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return chmod(path, mode & 07777) ? -errno : 0;
}

/* Would the caller's own chown have taken the setgid bit away? Ours, which is root's,
 * leaves it when there is no group execution. */
static bool loses_setgid(fuse_req_t req, const struct stat *st, gid_t gid)
{
	if (fuse_req_ctx(req)->uid == 0 || fs_mount_of(req)->uid != 0 ||
	    !S_ISREG(st->st_mode) || (st->st_mode & (S_ISGID | S_IXGRP)) != S_ISGID)
		return false;
	return !fs_caller_in_group(req, st->st_gid) ||
	       (st->st_mode & S_ISUID && gid != (gid_t)-1 &&
		!fs_caller_in_group(req, gid));
}

static int set_owner(fuse_req_t req, int fd, const struct stat *attr, int to_set)
{
	uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
	gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
	struct stat st;

	if (fstat(fd, &st) || fchownat(fd, "", uid, gid, AT_EMPTY_PATH))
		return -errno;
	if (!loses_setgid(req, &st, gid))
		return 0;
	return change_mode(fd, st.st_mode & ~(mode_t)(S_ISUID | S_ISGID));
}

/* A mode that comes with a size or an owner is no chmod: the kernel wants suid and sgid
 * cleared. That has been done already, and by one who knows better when. */
static int set_mode(int fd, mode_t mode, bool clearing)
{
	struct stat st;

	if (clearing) {
		if (fstat(fd, &st))
			return -errno;
		mode &= st.st_mode | ~(mode_t)(S_ISUID | S_ISGID);
	}
	return change_mode(fd, mode);
}

static int set_times(int fd, const struct stat *attr, int to_set)
{
	struct timespec times[2];

	time_of(to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, &attr->st_atim,
		&times[0]);
	time_of(to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, &attr->st_mtim,
		&times[1]);
	return utimensat(fd, "", times, AT_EMPTY_PATH) ? -errno : 0;
}

static int set_attributes(fuse_req_t req, struct fs_inode *i, const struct stat *attr,
			  int to_set)
{
	struct fs_mount *m = fs_mount_of(req);
	const int owner = FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
	const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW |
			  FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;
	int fd, r = 0;

	if (!(to_set & (owner | times | FUSE_SET_ATTR_MODE)))
		return 0;
	fd = fs_inode_fd_get(m, i);
	if (fd < 0)
		return fd;
	/* The owner first: a change of it clears bits that the mode may set again. */
	if (to_set & owner)
		r = set_owner(req, fd, attr, to_set);
	if (!r && to_set & FUSE_SET_ATTR_MODE)
		r = set_mode(fd, attr->st_mode, to_set & (owner | FUSE_SET_ATTR_SIZE));
	if (to_set & FUSE_SET_ATTR_MODE)
		fs_tell_special_bits(req, "chmod", i, NULL, attr->st_mode, r);
	if (!r && to_set & times)
		r = set_times(fd, attr, to_set);
	fs_inode_fd_put(m, i, fd);
	return r;
}

void fs_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		   struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	int r = i->state ? -EPERM : 0;

	if (!r && to_set & FUSE_SET_ATTR_SIZE)
		r = set_size(req, i, attr->st_size, fi);
	if (!r)
		r = set_attributes(req, i, attr, to_set);
	if (!r && i->class == JSONL_CLASS_GOVERNED)
		fs_shared_note_change(i);
	if (r)
		fuse_reply_err(req, -r);
	else
		reply_attr(req, m, i, fi);
}

/* ---- the rest ---- */

void fs_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	char buf[PATH_MAX + 1];
	int fd = fs_inode_fd_get(m, i);
	ssize_t n;

	if (fd < 0) {
		fuse_reply_err(req, -fd);
		return;
	}
	n = readlinkat(fd, "", buf, sizeof(buf));
	fs_inode_fd_put(m, i, fd);
	if (n < 0) {
		fuse_reply_err(req, errno);
	} else if ((size_t)n == sizeof(buf)) {
		fuse_reply_err(req, ENAMETOOLONG);
	} else {
		buf[n] = '\0';
		fuse_reply_readlink(req, buf);
	}
}

void fs_op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino ? ino : FUSE_ROOT_ID);
	struct statvfs st;
	int fd = i->virtual ? m->root_fd : fs_inode_fd_get(m, i);
	int r = fd < 0 ? -fd : 0;

	if (!r && fstatvfs(fd, &st))
		r = errno;
	if (!i->virtual)
		fs_inode_fd_put(m, i, fd);
	if (r)
		fuse_reply_err(req, r);
	else
		fuse_reply_statfs(req, &st);
}
