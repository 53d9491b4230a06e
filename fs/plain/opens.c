/* SPDX-License-Identifier: MIT */
#include "plain/opens.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/caller.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/kind.h"
#include "base/syslog.h"
#include "plain/plain.h"
#include "rules/config.h"
#include "tree/inode.h"
#include "tree/mount.h"

/* Files opened for reading, up to this size, are better kept in the page cache of the
 * mount, where the next open finds them, than handed to the kernel's passthrough. */
#define PLAIN_SMALL (128 << 10)
#define BROKEN(m)                                                                        \
	atomic_load_explicit(&(m)->tree.passthrough_broken, memory_order_relaxed)

/* State of a plain file that is open; under inode->lock. */
struct fs_plain_state {
	unsigned cached, through; /* open handles of each kind; never both */
	int backing;		  /* the kernel's number of the backing file */
	unsigned mappable; /* handles by passthrough that allow stores by a mapping */
	/* The user whom pages from mappings are charged to: an ordinary user who has the
	 * file open for writing, if there is one. */
	struct fs_ids mapper;
	/* A program may have mapped it for writing without our page cache, and a mapping
	 * outlives its handle. */
	bool written_through;
	/* The version that the pages in the cache belong to. */
	bool stamped;
	off_t size;
	struct timespec mtime, ctime;
};

/* Returns true when the pages in the cache are still those of the file. Under
 * inode->lock. */
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
/* Hands the file to the kernel. Returns the kernel's number of it, 0 if that is not
 * possible. */
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
	if (!atomic_exchange(&m->tree.passthrough_broken, true)) {
		m->tree.passthrough_reason = "the kernel refused it: see the log";
		FS_SYSLOG(LOG_WARNING, (uid_t)-1, "passthrough", FS_STR("state", "off"),
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

/* Returns true when the first open of a file hands it to the kernel. A file without a
 * name is not handed over because it may be linked to that of a log (see is_sealed).
 * Files with suid or sgid are not, because the kernel would write to the backing file
 * with one set of credentials for everybody, and clear those bits for root's writes, too.
 */
static bool wants_through(const struct fs_mount *m, const struct fs_inode *i,
			  const struct fs_plain_state *s, const struct stat *st,
			  bool writing)
{
	if (!m->tree.passthrough || BROKEN(m) || i->state ||
	    fs_class_of(m, i)->through_daemon || !st->st_nlink ||
	    st->st_mode & (S_ISUID | S_ISGID))
		return false;
	return writing || s->written_through || st->st_size > PLAIN_SMALL;
}

/* Returns true when this open must be served by the daemon: the kernel writes with
 * nobody's ids (fs_caller_backing), so root, who may use reserved blocks, is served here
 * when the disk is nearly full. */
static bool needs_reserve(fuse_req_t req, int fd, bool writing)
{
	bool near;

	return writing && fuse_req_ctx(req)->uid == 0 && fs_caller_reserve(fd, &near) &&
	       near;
}

int fs_plain_join(fuse_req_t req, struct fs_inode *i, int fd, const struct stat *st,
		  struct fuse_file_info *fi, struct fs_plain_place *p)
{
	struct fs_mount *m = fs_mount_of(req);
	const bool writing = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct fs_plain_state *s;
	int r = 0;

	pthread_mutex_lock(&i->lock);
	s = fs_plain_node(i)->state;
	if (!s)
		s = fs_plain_node(i)->state = calloc(1, sizeof(*s));
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
		 !needs_reserve(req, fd, writing))
		p->through = (s->backing = backing_open(req, fd)) > 0;
	if (p->through) {
		s->through++;
		s->stamped = false;
		s->written_through |= writing;
		p->mappable = (fi->flags & O_ACCMODE) == O_RDWR;
		s->mappable += p->mappable;
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

void fs_plain_leave(fuse_req_t req, struct fs_inode *i, const struct fs_plain_place *p)
{
	struct fs_plain_state *s;

	pthread_mutex_lock(&i->lock);
	s = fs_plain_node(i)->state;
	s->mappable -= p->mappable;
	if (!p->through) {
		s->cached--;
	} else if (!--s->through) {
		backing_close(req, s->backing);
		s->backing = 0;
	}
	pthread_mutex_unlock(&i->lock);
}

struct fs_ids fs_plain_mapper(struct fs_inode *i)
{
	struct fs_ids mapper;

	pthread_mutex_lock(&i->lock);
	mapper = fs_plain_node(i)->state->mapper;
	pthread_mutex_unlock(&i->lock);
	return mapper;
}

bool fs_plain_is_mapped(struct fs_inode *i)
{
	struct fs_plain_state *s;
	bool mapped;

	pthread_mutex_lock(&i->lock);
	s = fs_plain_node(i)->state;
	mapped = s && s->mappable;
	pthread_mutex_unlock(&i->lock);
	return mapped;
}

/* ---- what the kernel and libfuse can do ---- */

static const char *passthrough_missing(const struct fs_mount *m,
				       const struct fuse_conn_info *conn)
{
	if (!m->vault.config.passthrough)
		return "switched off by nopassthrough";
#ifdef FUSE_CAP_PASSTHROUGH
	if (m->vault.uid != 0)
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

	m->tree.passthrough_reason = missing;
	/* HANDLE_KILLPRIV would leave the clearing of suid to us alone, for no gain. */
	conn->want &= ~(unsigned)FUSE_CAP_HANDLE_KILLPRIV;
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
	/* Saves a getxattr of security.capability before each write. The backing file
	 * system clears the bits itself, because the daemon writes as the caller. */
	if (conn->capable & FUSE_CAP_HANDLE_KILLPRIV_V2) {
		conn->want |= FUSE_CAP_HANDLE_KILLPRIV_V2;
	}
#endif
#ifdef FUSE_CAP_PASSTHROUGH
	if (!missing) {
		struct statfs fs;

		conn->want |= FUSE_CAP_PASSTHROUGH;
		m->tree.passthrough = true;
		/* The kernel limits how many file systems lie on each other. */
		if (fstatfs(m->vault.root_fd, &fs) == 0 &&
		    fs_kind_of(&fs)->stacked)
			conn->max_backing_stack_depth = FUSE_BACKING_STACKED_OVER;
	}
#endif
	if (missing)
		FS_SYSLOG(LOG_INFO, (uid_t)-1, "passthrough", FS_STR("state", "off"),
			  FS_STR("reason", missing));
	else
		FS_SYSLOG(LOG_INFO, (uid_t)-1, "passthrough", FS_STR("state", "on"));
}
