#include "fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "status.h"

#define ARCHIVE_DEPTH 64 /* directories below the archive that are counted */

static const char *const virtual_names[] = {
    [FS_VIRTUAL_STATUS] = "status.json",
    [FS_VIRTUAL_WRITERS] = "writers.json",
};

/* ---- the directory ---- */

/* Makes a directory (of exactly this mode) where there is none, unless the mount is to
 * change nothing, and opens it. `path` may
 * not end in a symbolic link, and nobody but root or us may own it: whoever does could
 * put other files in the place of ours. */
static int make_directory(const struct fs_mount *m, int at, const char *path, mode_t mode)
{
	cleanup_close int fd = -1;
	struct stat st;
	bool made = false;

	if (!m->config.readonly) {
		made = mkdirat(at, path, mode) == 0;
		if (!made && errno != EEXIST)
			return -errno;
	}
	fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		int code = errno;

		if (code == ELOOP || code == ENOTDIR)
			fprintf(
			    stderr,
			    "jsonlfs: %s is not a directory: move it out of the way\n",
			    path);
		return -code;
	}
	if (fstat(fd, &st) < 0 || (made && fchmod(fd, mode) < 0))
		return -errno;
	if (st.st_uid != 0 && st.st_uid != geteuid()) {
		fprintf(
		    stderr,
		    "jsonlfs: %s belongs to user %u: give it, with all that is in it, "
		    "to user %u\n",
		    path, (unsigned)st.st_uid, (unsigned)geteuid());
		return -EPERM;
	}
	return steal_fd(&fd);
}

/* Keeps the state out of a repository that the vault may be. */
static int make_gitignore(int dir)
{
	static const char all[] = "*\n";
	cleanup_close int fd =
	    openat(dir, ".gitignore",
		   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	if (write(fd, all, sizeof(all) - 1) != (ssize_t)sizeof(all) - 1)
		return -EIO;
	return 0;
}

/* Bytes of the regular files in a directory (taken over) and below it. */
static uint64_t directory_bytes(int fd, unsigned depth)
{
	struct dirent *entry;
	uint64_t bytes = 0;
	DIR *dir;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	/* No other thread has this stream. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while ((entry = readdir(dir))) {
		const char *name = entry->d_name;
		struct stat st;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
		    fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode))
			bytes += (uint64_t)st.st_size;
		else if (S_ISDIR(st.st_mode) && depth)
			bytes += directory_bytes(
			    openat(fd, name,
				   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
			    depth - 1);
	}
	closedir(dir);
	return bytes;
}

static int open_state(struct fs_mount *m)
{
	const char *path = m->state	     ? m->state
			   : m->config.state ? m->config.state
					     : FS_STATE_NAME;
	cleanup_close int state = make_directory(m, m->root_fd, path, 0755);
	cleanup_close int part = -1;
	struct stat st;
	int r;

	if (state < 0)
		return state;
	if (fstat(state, &st) < 0)
		return -errno;
	m->state_dev = st.st_dev;
	m->state_ino = st.st_ino;
	r = m->config.readonly ? 0 : make_gitignore(state);
	if (r < 0)
		return r;
	part = make_directory(m, state, "quarantine", 0711);
	if (part < 0 && part != -ENOENT)
		return part;
	m->archive_fd = make_directory(m, state, "archive", 0711);
	if (m->archive_fd < 0 && m->archive_fd != -ENOENT)
		return m->archive_fd;
	if (m->archive_fd >= 0)
		atomic_store(&m->archive_bytes,
			     directory_bytes(openat(m->archive_fd, ".",
						    O_RDONLY | O_DIRECTORY | O_CLOEXEC),
					     ARCHIVE_DEPTH));
	m->transactions_fd = make_directory(m, state, "transactions", 0700);
	if (m->transactions_fd < 0 && m->transactions_fd != -ENOENT)
		return m->transactions_fd;
	m->state_fd = steal_fd(&state);
	return 0;
}

int fs_state_init(struct fs_mount *m)
{
	int r;

	m->state_fd = m->archive_fd = m->transactions_fd = -1;
	r = open_state(m);
	if (r < 0 && m->archive_fd >= 0)
		close(m->archive_fd);
	if (m->archive_fd < 0 || r < 0)
		m->archive_fd = -1;
	/* A disk that cannot be written, and was never mounted by us before: there is
	 * nothing to keep, and nothing can be kept. */
	if (r == -ENOENT && m->config.readonly)
		return 0;
	return r;
}

/* ---- the virtual files ---- */

enum fs_virtual fs_state_virtual(const struct fs_mount *m, const struct fs_inode *dir,
				 const char *name)
{
	if (dir->dev != m->state_dev || dir->ino != m->state_ino)
		return FS_VIRTUAL_NONE;
	for (int i = FS_VIRTUAL_STATUS; i <= FS_VIRTUAL_WRITERS; i++)
		if (strcmp(name, virtual_names[i]) == 0)
			return i;
	return FS_VIRTUAL_NONE;
}

void fs_state_stat(struct fs_mount *m, const struct fs_inode *i, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	/* From the far end, where no file system has its inode numbers. */
	st->st_ino = ~(ino_t)0 - (ino_t)i->virtual;
	st->st_mode = S_IFREG | 0444;
	st->st_nlink = 1;
	st->st_uid = m->uid;
	st->st_gid = getegid();
	st->st_blksize = 4096;
	clock_gettime(CLOCK_REALTIME, &st->st_mtim);
	st->st_atim = st->st_ctim = st->st_mtim;
	/* Size 0, as files in /proc have it: the text does not exist before it is opened.
	 */
}

/* An open virtual file: the text as it was when it was opened. */
struct state_handle {
	struct fs_handle handle;
	struct fs_mount *mount; /* for state_abandon, which has no request */
	/* Held while an answer is sent: the reader may have its bytes, and close, before
	 * the call that sends them has returned. */
	pthread_mutex_t busy;
	char *text;
	size_t len;
};

static void state_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	struct state_handle *s = (struct state_handle *)h;
	size_t start = (uint64_t)off < s->len ? (size_t)off : s->len;

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
	const struct state_handle *s = (const struct state_handle *)h;

	/* One piece of data, then the hole at the end. */
	if (off < 0 || (uint64_t)off >= s->len)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_HOLE ? (off_t)s->len : off);
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

int fs_state_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi)
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
		s->text = fs_status_writers_text(m, uid, uid == 0 || uid == m->uid);
	if (!s->text) {
		free(s);
		return -ENOMEM;
	}
	s->len = strlen(s->text);
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
