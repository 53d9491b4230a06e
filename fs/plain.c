/* Open plain files: handed to the kernel where it can read and write the backing file by
 * itself, served from here where it cannot. All opens of one file at a time must agree on
 * that, so it is decided by the first and written down in the inode. */
#include "inode.h"
#include "ops.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/uio.h>

/* Read-only files up to this size are better off in the page cache of the mount, where
 * the next open finds them, than with the kernel's passthrough. */
#define PLAIN_SMALL (128 << 10)
#define BROKEN(m)                                                                        \
	atomic_load_explicit(&(m)->table->passthrough_broken, memory_order_relaxed)

/* Under inode->lock. */
struct fs_plain_state {
	unsigned cached, through; /* handles that are open; never both */
	int backing;		  /* the kernel's number of the backing file */
	/* Whose the pages are that come back from mappings: of an ordinary user who has
	 * it open for writing, if there is one. */
	struct fs_ids mapper;
	/* Somebody may have mapped it for writing round our page cache, and such a
	 * mapping outlives its handle. */
	bool written_through;
	/* What the pages in the cache belong to. */
	bool stamped;
	off_t size;
	struct timespec mtime, ctime;
};

struct plain {
	struct fs_handle base;
	struct fs_mount *m;
	int fd;
	bool through;
};

static struct plain *plain_of(struct fs_handle *h)
{
	return (struct plain *)h;
}

void fs_plain_state_free(struct fs_plain_state *s)
{
	free(s);
}

/* ---- what a handle does ---- */

static void plain_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	(void)fi;
	fs_reply_read(req, plain_of(h)->fd, size, off);
}

static ssize_t write_all(int fd, struct fuse_bufvec *in, off_t off, bool append)
{
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	struct iovec iov;
	ssize_t n;

	/* Pages that come back from a mapping have their place also where the handle
	 * appends, so this is the request's flag, and the descriptor has none. */
	if (append && in->count == 1 && !(in->buf[0].flags & FUSE_BUF_IS_FD)) {
		iov = (struct iovec){in->buf[0].mem, in->buf[0].size};
		n = pwritev2(fd, &iov, 1, 0, RWF_APPEND);
		return n < 0 ? -errno : n;
	}
	out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	out.buf[0].fd = fd;
	out.buf[0].pos = off;
	return fuse_buf_copy(&out, in, 0);
}

/* An O_TMPFILE that was linked to the name of a log: its content has been judged, and the
 * descriptor that made it must not change it behind that. */
static bool is_sealed(struct fs_handle *h)
{
	bool sealed;

	pthread_mutex_lock(&h->inode->lock);
	sealed = h->inode->sealed;
	pthread_mutex_unlock(&h->inode->lock);
	return sealed;
}

/* Pages come back when the kernel likes, with nobody's ids. What a mapping changes clears
 * no suid, but blocks for its holes are taken. */
static int pay_for_pages(struct fs_handle *h, struct fs_caller *saved)
{
	struct fs_ids mapper;

	pthread_mutex_lock(&h->inode->lock);
	mapper = h->inode->priv->plain->mapper;
	pthread_mutex_unlock(&h->inode->lock);
	return fs_caller_pay(plain_of(h)->m, &mapper, saved);
}

static void plain_write_buf(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			    off_t off, struct fuse_file_info *fi)
{
	struct fs_caller saved;
	ssize_t n = is_sealed(h)    ? -EPERM
		    : fi->writepage ? pay_for_pages(h, &saved)
				    : fs_caller_content(req, plain_of(h)->fd, &saved);

	if (!n) {
		n = write_all(plain_of(h)->fd, in, off,
			      !fi->writepage && fi->flags & O_APPEND);
		fs_caller_restore(&saved);
	}
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

static void plain_flush(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	int copy = dup(plain_of(h)->fd);

	(void)fi;
	/* Some file systems tell of failed writes when a descriptor is closed. */
	fuse_reply_err(req, copy < 0 || close(copy) == 0 ? 0 : errno);
}

static void plain_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
			struct fuse_file_info *fi)
{
	int fd = plain_of(h)->fd;

	(void)fi;
	fuse_reply_err(req, (datasync ? fdatasync(fd) : fsync(fd)) ? errno : 0);
}

static void plain_fallocate(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			    off_t len, struct fuse_file_info *fi)
{
	struct fs_caller saved;
	int r = is_sealed(h) ? EPERM : -fs_caller_content(req, plain_of(h)->fd, &saved);

	(void)fi;
	if (!r) {
		r = fallocate(plain_of(h)->fd, mode, off, len) ? errno : 0;
		fs_caller_restore(&saved);
	}
	fuse_reply_err(req, r);
}

static void plain_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
			struct fuse_file_info *fi)
{
	off_t at = lseek(plain_of(h)->fd, off, whence);

	(void)fi;
	if (at < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, at);
}

static int plain_fd(struct fs_handle *h)
{
	return plain_of(h)->fd;
}

static void backing_close(fuse_req_t req, int backing)
{
#ifdef FUSE_CAP_PASSTHROUGH
	if (req)
		fuse_passthrough_close(req, backing);
#else
	(void)req;
	(void)backing;
#endif
}

static void plain_end(fuse_req_t req, struct plain *p)
{
	struct fs_inode *i = p->base.inode;
	struct fs_plain_state *s;

	pthread_mutex_lock(&i->lock);
	s = i->priv->plain;
	if (!p->through) {
		s->cached--;
	} else if (!--s->through) {
		backing_close(req, s->backing);
		s->backing = 0;
	}
	pthread_mutex_unlock(&i->lock);
	fs_handle_unlink(p->m, &p->base);
	close(p->fd);
	free(p);
}

static void plain_release(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	(void)fi;
	plain_end(req, plain_of(h));
	fuse_reply_err(req, 0);
}

static void plain_abandon(struct fs_handle *h)
{
	plain_end(NULL, plain_of(h));
}

static const struct fs_handle_ops plain_ops = {
    .read = plain_read,
    .write_buf = plain_write_buf,
    .flush = plain_flush,
    .release = plain_release,
    .fsync = plain_fsync,
    .fallocate = plain_fallocate,
    .lseek = plain_lseek,
    .fd = plain_fd,
    .abandon = plain_abandon,
};

/* ---- open ---- */

/* Are the pages in the cache still those of the file? Under inode->lock. */
static bool pages_are_good(struct fs_plain_state *s, const struct stat *st)
{
	if (s->stamped && s->size == st->st_size && fs_same_time(s->mtime, st->st_mtim) &&
	    fs_same_time(s->ctime, st->st_ctim))
		return true;
	s->stamped = fs_stamp_is_old(st);
	s->size = st->st_size;
	s->mtime = st->st_mtim;
	s->ctime = st->st_ctim;
	return false;
}

#ifdef FUSE_CAP_PASSTHROUGH
/* The kernel's number of the backing file, 0 when it cannot be had. */
static int backing_open(fuse_req_t req, int fd)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_caller saved;
	int backing, r = fs_caller_backing(req, fd, &saved);

	if (r)
		return 0;
	errno = 0;
	backing = fuse_passthrough_open(req, fd);
	r = errno;
	fs_caller_restore(&saved);
	if (backing > 0)
		return backing;
	if (!atomic_exchange(&m->table->passthrough_broken, true)) {
		m->passthrough_reason = "the kernel refused it: see the log";
		FS_LOG(LOG_WARNING, (uid_t)-1, "passthrough", FS_STR("state", "off"),
		       FS_STR("reason", r ? jsonl_error_text(-r) : "refused"));
	}
	return 0;
}
#else
static int backing_open(fuse_req_t req, int fd)
{
	(void)req;
	(void)fd;
	return 0;
}
#endif

/* How the first open of a file decides. A file without a name stays here because it may
 * be linked to that of a log (see is_sealed). Files with suid or sgid stay here because
 * the kernel would write to the backing file with one set of credentials for everybody,
 * and take those bits away from root, too. */
static bool wants_through(const struct fs_mount *m, const struct fs_inode *i,
			  const struct fs_plain_state *s, const struct stat *st,
			  bool writing)
{
	if (!m->passthrough || BROKEN(m) || i->state || i->class == JSONL_CLASS_TEXT ||
	    !st->st_nlink || st->st_mode & (S_ISUID | S_ISGID))
		return false;
	return writing || s->written_through || st->st_size > PLAIN_SMALL;
}

/* What the kernel writes, it writes with nobody's ids (fs_caller_backing). Root is served
 * from here, with its own, when the disk is nearly full. */
static bool needs_reserve(fuse_req_t req, int fd, bool writing)
{
	bool near;

	return writing && fuse_req_ctx(req)->uid == 0 && fs_caller_reserve(fd, &near) &&
	       near;
}

/* Decides, counts the handle in and fills fi. */
static int plain_join(fuse_req_t req, struct fs_inode *i, struct plain *p,
		      const struct stat *st, struct fuse_file_info *fi)
{
	struct fs_mount *m = p->m;
	const bool writing = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct fs_plain_state *s;
	int r = 0;

	pthread_mutex_lock(&i->lock);
	s = i->priv->plain;
	if (!s)
		s = i->priv->plain = calloc(1, sizeof(*s));
	if (!s) {
		r = -ENOMEM;
		goto out;
	}
	if (!s->through && !s->cached)
		s->mapper = (struct fs_ids){0, 0};
	if (writing && fuse_req_ctx(req)->uid != 0)
		s->mapper = fs_caller_ids(req);
	if (s->through)
		p->through = true;
	else if (!s->cached && wants_through(m, i, s, st, writing) &&
		 !needs_reserve(req, p->fd, writing))
		p->through = (s->backing = backing_open(req, p->fd)) > 0;
	if (p->through) {
		s->through++;
		s->stamped = false;
		s->written_through |= writing;
#ifdef FUSE_CAP_PASSTHROUGH
		fi->backing_id = s->backing;
#endif
	} else {
		s->cached++;
		fi->keep_cache = pages_are_good(s, st) && !fi->direct_io;
	}
out:
	pthread_mutex_unlock(&i->lock);
	return r;
}

/* Truncates as the caller would: suid and sgid go, quotas count. O_TRUNC works without
 * O_WRONLY, too. */
int fs_plain_truncate(fuse_req_t req, struct fs_inode *i, int fd, int flags)
{
	cleanup_close int writable = -1;
	struct fs_caller saved;
	struct stat st;
	int r;

	if ((flags & O_ACCMODE) == O_RDONLY) {
		fd = writable = fs_inode_open(fs_mount_of(req), i, O_WRONLY);
		if (fd < 0)
			return fd;
	}
	r = fs_caller_content(req, fd, &saved);
	if (r)
		return r;
	if (ftruncate(fd, 0))
		r = -errno;
	fs_caller_restore(&saved);
	/* By the time that the file has got: clocks run apart from those by up to a tick, and
	 * what was changed before would seem to be later. */
	if (!r && !fstat(fd, &st))
		i->begun = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
	return r;
}

/* Alignment is the kernel's matter where it reads and writes by itself; what is served
 * from here comes in pieces of any length. And appending goes by the flag of each write:
 * a program can switch it off. A file that may only be appended to keeps it. */
void fs_plain_clear_flags(int fd, int flags)
{
	if (flags & (O_DIRECT | O_APPEND))
		fcntl(fd, F_SETFL, flags & ~(O_DIRECT | O_APPEND));
}

/* Does closing this file tell nothing? On network file systems it may tell of failed
 * writes, and make what was written visible to others. */
static bool closes_silently(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return false;
	switch (fs.f_type) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case TMPFS_MAGIC:
		return true;
	default:
		return false;
	}
}

int fs_plain_open(fuse_req_t req, struct fs_inode *i, int fd, struct fuse_file_info *fi)
{
	cleanup_close int own = fd;
	cleanup_free struct plain *p = calloc(1, sizeof(*p));
	struct stat st;
	int r = p ? 0 : -ENOMEM;

	/* A file that was created just now has nothing to lose. */
	if (!r && (fi->flags & (O_TRUNC | O_CREAT)) == O_TRUNC)
		r = fs_plain_truncate(req, i, fd, fi->flags);
	if (!r && fstat(fd, &st))
		r = -errno;
	if (r)
		return r;
	p->base.ops = &plain_ops;
	p->base.flags = fi->flags;
	p->m = fs_mount_of(req);
	p->fd = fd;
	r = plain_join(req, i, p, &st, fi);
	if (r)
		return r;
	fs_plain_clear_flags(fd, fi->flags);
	/* What was written through us may still be in pages of a mapping. */
	fi->noflush =
	    (fi->flags & O_ACCMODE) == O_RDONLY || (p->through && closes_silently(fd));
	fs_handle_link(p->m, &p->base, i);
	if ((fi->flags & O_ACCMODE) != O_WRONLY && !fi->keep_cache)
		fs_listing_opened(p->m, i);
	fi->fh = (uintptr_t)&p->base;
	steal_fd(&own);
	steal_ptr(&p);
	return 0;
}

/* ---- what the kernel and libfuse can do ---- */

static const char *passthrough_missing(const struct fs_mount *m,
				       const struct fuse_conn_info *conn)
{
	if (!m->config.passthrough)
		return "switched off by nopassthrough";
#ifdef FUSE_CAP_PASSTHROUGH
	if (m->uid != 0)
		return "only root may hand backing files to the kernel";
	if (!(conn->capable & FUSE_CAP_PASSTHROUGH))
		return "the kernel has none: Linux 6.9 or later is needed";
	return NULL;
#else
	(void)conn;
	return "built with a libfuse older than 3.17";
#endif
}

void fs_plain_negotiate(struct fs_mount *m, struct fuse_conn_info *conn)
{
	const char *missing = passthrough_missing(m, conn);

	m->passthrough_reason = missing;
	/* The first kind leaves the clearing of suid to us alone, and helps nothing. */
	conn->want &= ~(unsigned)FUSE_CAP_HANDLE_KILLPRIV;
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
	/* Saves the question for security.capability before each write. The backing file
	 * system clears what is to be cleared, because we write as the caller. */
	if (conn->capable & FUSE_CAP_HANDLE_KILLPRIV_V2) {
		conn->want |= FUSE_CAP_HANDLE_KILLPRIV_V2;
		m->killpriv = true;
	}
#endif
#ifdef FUSE_CAP_PASSTHROUGH
	if (!missing) {
		struct statfs fs;

		conn->want |= FUSE_CAP_PASSTHROUGH;
		m->passthrough = true;
		/* The kernel counts how deep file systems lie on each other. */
		if (fstatfs(m->root_fd, &fs) == 0 && fs.f_type == OVERLAYFS_SUPER_MAGIC)
			conn->max_backing_stack_depth = FUSE_BACKING_STACKED_OVER;
	}
#endif
	if (missing)
		FS_LOG(LOG_INFO, (uid_t)-1, "passthrough", FS_STR("state", "off"),
		       FS_STR("reason", missing));
	else
		FS_LOG(LOG_INFO, (uid_t)-1, "passthrough", FS_STR("state", "on"));
}
