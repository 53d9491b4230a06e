/* The entries of the table of operations that are not in fs.h because no other file calls
 * them, by the file that holds them. Each answers its request exactly once, on any worker
 * thread. */
#ifndef FS_OPS_H
#define FS_OPS_H

#include "fs.h"

/* ---- meta.c ---- */
void fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void fs_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void fs_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		   struct fuse_file_info *fi);
void fs_op_readlink(fuse_req_t req, fuse_ino_t ino);
void fs_op_statfs(fuse_req_t req, fuse_ino_t ino);
/* st as programs are to see it: inode numbers of other devices are kept apart. */
void fs_stat_public(const struct fs_inode *i, struct stat *st);
/* Is the last change so long ago that another one would have another time? Then what was
 * read since belongs to these times, and is good for as long as they stay. */
bool fs_stamp_is_old(const struct stat *st);
bool fs_same_time(struct timespec a, struct timespec b);
/* Is `a` later than `b`? */
bool fs_later_time(struct timespec a, struct timespec b);

/* ---- xattr.c: extended attributes and file flags ---- */
void fs_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		    size_t size, int flags);
void fs_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fs_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void fs_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void fs_op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg,
		 struct fuse_file_info *fi, unsigned flags, const void *in_buf,
		 size_t in_size, size_t out_size);

/* ---- dir.c: making names, and reading directories ---- */
void fs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		 dev_t rdev);
void fs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		   const char *name);
void fs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		  struct fuse_file_info *fi);
void fs_op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
		   struct fuse_file_info *fi);

/* ---- readdir.c ---- */
void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi);
void fs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi);
void fs_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		    struct fuse_file_info *fi);
/* The descriptor of an open directory. */
int fs_dir_fd(const struct fuse_file_info *fi);

/* The descriptor of an open file that may be used for any operation, or -1. */
static inline int fs_handle_fd(const struct fuse_file_info *fi)
{
	struct fs_handle *h = fi ? fs_handle_of(fi) : NULL;

	return h && h->ops->fd ? h->ops->fd(h) : -1;
}

/* ---- plain.c ---- */
/* Says in the log whether reads and writes go straight to the backing files. */
void fs_plain_negotiate(struct fs_mount *m, struct fuse_conn_info *conn);

#endif
