/* SPDX-License-Identifier: MIT */
#include "tree/stat.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fuse.h"
#include "base/path.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/edition.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "tree/virtual.h"
#include "vault/hosts.h"
#include "vault/denied.h"

#define DEVICE_SHIFT 48

void fs_stat_public(const struct fs_inode *i, struct stat *st)
{
	/* One st_dev covers all devices below the source: programs that tell files apart
	 * by (st_dev, st_ino) would take files of two of them for hard links. */
	if (!i->virtual)
		st->st_ino ^= (uint64_t)i->priv->device << DEVICE_SHIFT;
}

void fs_handle_numbers(const struct fs_handle *h, ino_t numbers[FS_CLOSING_NUMBERS])
{
	const struct fs_inode *i = h->inode;
	const ino_t all[FS_CLOSING_NUMBERS] = {h->opened, i->ino, i->was[0], i->was[1],
					       i->was[2]};

	for (int k = 0; k < FS_CLOSING_NUMBERS; k++) {
		struct stat st = {.st_ino = all[k]};

		if (all[k])
			fs_stat_public(i, &st);
		numbers[k] = st.st_ino;
	}
}

/* Other daemons append to, replace and rename logs and documents. */
static bool is_volatile(const struct fs_mount *m, const struct fs_inode *i)
{
	return fs_shared(&m->vault) && i->class != JSONL_CLASS_PLAIN;
}

/* Files of the state directory are written by ourselves. A log that is being `written`,
 * and read, must not have its length kept, either: of two answers that cross on their way
 * the kernel keeps the one that it has first, though the other, which a program has seen,
 * may be longer, until the append that came between them is answered. (Plain files it
 * writes by itself, and takes no length meanwhile. And where nobody reads each OPEN would
 * cost a GETATTR for nothing.) Where a governed file grows without a WRITE,
 * fs_attributes_changed says so. */
static double attr_timeout(const struct fs_mount *m, const struct fs_inode *i,
			   const struct stat *st, bool written)
{
	/* Setuid and setgid go with a write that the kernel may do without us. */
	bool special = S_ISREG(st->st_mode) && st->st_mode & (S_ISUID | S_ISGID);

	return i->state || written || special || is_volatile(m, i)
		   ? 0
		   : m->vault.config.attr_timeout;
}

/* Corrects the length to what readers see. Returns true when the file is a log that is
 * written and read. */
static bool fix_log(struct fs_mount *m, struct fs_inode *i, struct stat *st)
{
	const struct fs_class_ops *ops = fs_class_of(m, i);

	return ops->fix_stat && ops->fix_stat(m, i, st);
}

bool fs_has_other_names(int dir_fd, const char *name, const struct stat *st)
{
	const int flags = AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC;
	struct statx sx;

	if (st->st_nlink <= 1)
		return false;
	return statx(dir_fd, name, flags, STATX_NLINK, &sx) < 0 || sx.stx_nlink > 1;
}

/* `written`: as fix_log says. */
static int inode_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st,
		      bool *written)
{
	int fd, r = 0;

	*written = false;
	if (i->virtual) {
		fs_virtual_stat(m, i, st);
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

void fs_entry_fill(struct fs_mount *m, struct fs_inode *i, const struct stat *st,
		   struct fuse_entry_param *e)
{
	bool written;

	memset(e, 0, sizeof(*e));
	/* The number and the attributes must be of one file (edition.h). */
	pthread_mutex_lock(&i->lock);
	e->ino = fs_inode_number(m, i);
	e->attr = *st;
	if (i->virtual || st->st_ino == i->ino || inode_stat(m, i, &e->attr, &written)) {
		e->attr = *st;
		written = fix_log(m, i, &e->attr);
	}
	pthread_mutex_unlock(&i->lock);
	fs_stat_public(i, &e->attr);
	e->attr_timeout = attr_timeout(m, i, &e->attr, written);
	e->entry_timeout = is_volatile(m, i) ? 0 : m->vault.config.entry_timeout;
}

int fs_inode_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st)
{
	bool written;

	return inode_stat(m, i, st, &written);
}

/* Returns true when the file was renamed onto a log, which became an append, and is gone.
 * Until the kernel has heard that the name leads to the log, it asks for that file. */
static bool is_merged(struct fs_inode *i, const struct stat *st)
{
	bool merged;

	pthread_mutex_lock(&i->lock);
	merged = i->stale && st->st_nlink == 0 && !i->handles;
	pthread_mutex_unlock(&i->lock);
	return merged;
}

/* Fills in the attributes of a file that has been replaced, for handles that stay with
 * it: the request names the handle, or the number by which the kernel knew the node at
 * its open. Under inode->lock. */
static bool stat_replaced(struct fs_inode *i, unsigned char edition, struct fs_handle *h,
			  struct stat *st)
{
	if (h)
		return h->ops->stat && h->ops->stat(h, st);
	return fs_edition_find(i, edition, st);
}

void fs_reply_attr(fuse_req_t req, struct fs_mount *m, fuse_ino_t ino,
		   const struct fuse_file_info *fi)
{
	struct fs_handle *h = fi ? fs_handle_of(fi) : NULL;
	struct fs_inode *i = fs_inode_of(m, ino);
	unsigned char edition = fs_inode_edition(ino);
	bool own, replaced, written;
	struct stat st;
	int r;

	/* A file must not be replaced in between. */
	pthread_mutex_lock(&i->lock);
	replaced = stat_replaced(i, edition, h, &st);
	r = replaced ? 0 : inode_stat(m, i, &st, &written);
	pthread_mutex_unlock(&i->lock);
	if (replaced) {
		fs_stat_public(i, &st);
		fuse_reply_attr(req, &st, 0);
		return;
	}

	if (!r && is_merged(i, &st))
		r = -ESTALE; /* then it looks the name up again */
	if (r) {
		fuse_reply_err(req, -r);
		return;
	}
	fs_stat_public(i, &st);
	/* A length that only this handle sees must not be kept for the others. */
	own = h && h->ops->size && h->ops->size(h, &st.st_size);
	/* Nor those of the new file by an earlier number: no note tells the kernel about a change. */
	own |= edition != i->edition;
	fuse_reply_attr(req, &st, own ? 0 : attr_timeout(m, i, &st, written));
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
		/* Of a plain file nobody keeps the name. */
		if (fd >= 0 && !fs_path_below(m->vault.source, fd, path))
			path[0] = '\0';
		fs_inode_fd_put(m, i, fd);
	}
	fs_denied(
	    req, operation, path,
	    "the service may set no setuid and no setgid bits; where files need them, "
	    "put RestrictSUIDSGID=no into a drop-in (systemctl edit)");
}
