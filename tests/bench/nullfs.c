/* SPDX-License-Identifier: MIT */
/* A mount that does nothing: every name is an empty file that takes every write, answers
 * every flush, and stores nothing. What a request costs here is the round trip itself,
 * the lower bound of what any file system of this kind can reach. The names "stat" and
 * "new" are directories; what is asked for in the latter does not exist until it is made.
 * "read" is a gigabyte of zeros, which are in memory.
 *
 *   nullfs MOUNTPOINT [FILE...]   serves in the foreground until it is unmounted
 *
 * With FILEs it makes the system calls that an append safe from others needs, and nothing
 * else: each write goes to the end of a FILE under its lock, and flush and fsync make it
 * durable, each by a sync of its own. The number at the end of a name, as in log3.jsonl,
 * says which FILE it is. */
#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 64

static int files[FILES_MAX];
static unsigned files_count; /* 0: nothing is stored */

/* From A_FILE on there is a number for each of the files. */
enum { FULL_DIR = 2, EMPTY_DIR, ZEROS, A_FILE };

#define ZEROS_BYTES (INT64_C(1) << 30)

static struct stat null_stat(fuse_ino_t ino)
{
	struct stat st = {.st_ino = ino, .st_nlink = 1};

	st.st_mode = ino >= ZEROS ? S_IFREG | 0644 : S_IFDIR | 0755;
	st.st_size = ino == ZEROS ? ZEROS_BYTES : 0;
	return st;
}

static struct fuse_entry_param null_entry(fuse_ino_t ino)
{
	return (struct fuse_entry_param){
	    .ino = ino, .attr = null_stat(ino), .attr_timeout = 1, .entry_timeout = 1};
}

static fuse_ino_t ino_of(const char *name)
{
	return A_FILE +
	       (files_count
		    ? strtoul(name + strcspn(name, "0123456789"), NULL, 10) % files_count
		    : 0);
}

static void null_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_ino_t ino = ino_of(name);
	struct fuse_entry_param e;

	if (parent == EMPTY_DIR) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	if (parent == FUSE_ROOT_ID && strcmp(name, "stat") == 0)
		ino = FULL_DIR;
	else if (parent == FUSE_ROOT_ID && strcmp(name, "new") == 0)
		ino = EMPTY_DIR;
	else if (parent == FUSE_ROOT_ID && strcmp(name, "read") == 0)
		ino = ZEROS;
	e = null_entry(ino);
	fuse_reply_entry(req, &e);
}

static void null_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = null_stat(ino);

	fuse_reply_attr(req, &st, 1);
}

static void null_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->direct_io = 1;
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY;
	fuse_reply_open(req, fi);
}

static void null_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
			struct fuse_file_info *fi)
{
	struct fuse_entry_param e = null_entry(ino_of(name));

	fi->direct_io = 1;
	fuse_reply_create(req, &e, fi);
}

static void null_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, 0);
}

static void null_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	fuse_reply_err(req, ENODATA);
}

static void null_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	if (size)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_xattr(req, 0);
}

static void null_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		      struct fuse_file_info *fi)
{
	static const char zeros[1 << 20];
	off_t left = ino == ZEROS && off < ZEROS_BYTES ? ZEROS_BYTES - off : 0;

	if (size > sizeof(zeros))
		size = sizeof(zeros);
	fuse_reply_buf(req, zeros, (off_t)size < left ? size : (size_t)left);
}

/* Where the end is, before and after: that nobody else appended is to be known. */
static ssize_t append(int fd, const char *buf, size_t size)
{
	struct stat st;
	ssize_t n = -1;

	/* Other threads share the lock: there is one descriptor. */
	if (!flock(fd, LOCK_EX | LOCK_NB) && !fstat(fd, &st))
		n = write(fd, buf, size);
	if (n >= 0 && lseek(fd, 0, SEEK_CUR) < 0)
		n = -1;
	return flock(fd, LOCK_UN) ? -1 : n;
}

static void null_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size,
		       off_t off, struct fuse_file_info *fi)
{
	if (files_count && append(files[ino - A_FILE], buf, size) != (ssize_t)size)
		fuse_reply_err(req, EIO);
	else
		fuse_reply_write(req, size);
}

static void null_sync(fuse_req_t req, fuse_ino_t ino)
{
	fuse_reply_err(req, files_count && ino >= A_FILE && fdatasync(files[ino - A_FILE])
				? errno
				: 0);
}

static void null_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	null_sync(req, ino);
}

static void null_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		       struct fuse_file_info *fi)
{
	null_sync(req, ino);
}

static void null_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

/* The same as jsonlfs: no question for security.capability before each write. */
static void null_init(void *userdata, struct fuse_conn_info *conn)
{
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
	conn->want |= conn->capable & FUSE_CAP_HANDLE_KILLPRIV_V2;
#endif
}

static const struct fuse_lowlevel_ops null_ops = {
    .init = null_init,
    .lookup = null_lookup,
    .getattr = null_getattr,
    .open = null_open,
    .read = null_read,
    .write = null_write,
    .flush = null_flush,
    .fsync = null_fsync,
    .release = null_release,
    .create = null_create,
    .unlink = null_unlink,
    .getxattr = null_getxattr,
    .listxattr = null_listxattr,
};

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_loop_config *config;
	struct fuse_session *se;
	int r = 1;

	if (argc < 2 || argc > 2 + FILES_MAX) {
		fprintf(stderr, "usage: nullfs MOUNTPOINT [FILE...]\n");
		return 2;
	}
	for (; files_count < (unsigned)argc - 2; files_count++) {
		const char *path = argv[2 + files_count];
		int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0) {
			perror(path);
			return 1;
		}
		files[files_count] = fd;
	}
	if (fuse_opt_add_arg(&args, "nullfs") || fuse_opt_add_arg(&args, "-o") ||
	    fuse_opt_add_arg(&args, "fsname=nullfs,subtype=nullfs,default_permissions"))
		return 1;
	se = fuse_session_new(&args, &null_ops, sizeof(null_ops), NULL);
	fuse_opt_free_args(&args);
	if (!se)
		return 1;
	config = fuse_loop_cfg_create();
	if (config && !fuse_set_signal_handlers(se)) {
		if (!fuse_session_mount(se, argv[1])) {
			r = fuse_session_loop_mt(se, config) < 0;
			fuse_session_unmount(se);
		}
		fuse_remove_signal_handlers(se);
	}
	fuse_loop_cfg_destroy(config);
	fuse_session_destroy(se);
	return r;
}
