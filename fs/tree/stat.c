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
	/* All devices below the source show one st_dev, so their inode numbers must
	 * differ: programs that tell files apart by both would take files of two devices
	 * for hard links. */
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

/* Returns true for files that other daemons may change: they append to, replace and
 * rename logs and documents. */
static bool is_volatile(const struct fs_mount *m, const struct fs_inode *i)
{
	return fs_shared(&m->vault) && i->class != JSONL_CLASS_PLAIN;
}

/* Returns how long the kernel may keep attributes. Not for files of the state directory,
 * which we write ourselves. Not the length of a log that is both `written` and read:
 * when two answers cross on their way the kernel keeps the one that arrives first,
 * though a program has seen the other, which may be longer, until the append between
 * them is answered. (Plain files are written by the kernel itself, which takes no length
 * meanwhile. And a log that nobody reads would cost a GETATTR for each OPEN.) Where a
 * governed file grows without a WRITE, fs_attributes_changed says so. */
static double attr_timeout(const struct fs_mount *m, const struct fs_inode *i,
			   const struct stat *st, bool written)
{
	/* A write that the kernel may do without us clears setuid and setgid. */
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

	if (r)
		r = fs_inode_answer(m, i, r);
	else if (is_merged(i, &st))
		r = -ESTALE; /* the kernel then looks the name up again */
	if (r) {
		fuse_reply_err(req, -r);
		return;
	}
	fs_stat_public(i, &st);
	/* A length that only this handle sees must not be kept for the others. */
	own = h && h->ops->size && h->ops->size(h, &st.st_size);
	/* Nor attributes by an earlier number: no notification about the file uses
	 * that. */
	own |= edition != i->edition;
	fuse_reply_attr(req, &st, own ? 0 : attr_timeout(m, i, &st, written));
}

void fs_tell_special_bits(fuse_req_t req, const char *operation, struct fs_inode *i,
			  const char *name, mode_t mode, int rc)
{
	struct fs_mount *m = fs_mount_of(req);
	char path[PATH_MAX] = "";
	int fd;

	/* Without a filter this call, which does nothing, fails with EBADF. */
	if (rc != -EPERM || !(mode & (S_ISUID | S_ISGID)) || fchmod(-1, S_ISGID) == 0 ||
	    errno != EPERM)
		return;
	if (name) {
		if (fs_inode_path(m, i, name, path, sizeof(path)))
			path[0] = '\0';
	} else {
		fd = fs_inode_fd_get(m, i);
		/* The names of plain files are not kept. */
		if (fd >= 0 && !fs_path_below(m->vault.source, fd, path))
			path[0] = '\0';
		fs_inode_fd_put(m, i, fd);
	}
	fs_denied(
	    req, operation, path,
	    "the service may set no setuid and no setgid bits; where files need them, "
	    "put RestrictSUIDSGID=no into a drop-in (systemctl edit)");
}
