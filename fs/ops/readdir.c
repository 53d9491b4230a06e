/* SPDX-License-Identifier: MIT */
/* Reads open directories. Positions are those of the backing file system, so they stay
 * valid while names come and go, and seekdir leads where telldir was. */
#include "ops/readdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/reply.h"
#include "tree/descriptor.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/listing.h"
#include "tree/lookup.h"
#include "tree/mount.h"
#include "tree/stat.h"
#include "tree/virtual.h"
#include "vault/account.h"
#include "vault/statedir.h"

#define DIR_BUFFER (32U << 10)
/* Positions of the virtual files, beyond those of any file system (ext4 ends with
 * INT64_MAX). */
#define DIR_VIRTUAL	(INT64_MAX - 16)
#define DIR_VIRTUAL_MAX (DIR_VIRTUAL + 2)

struct fs_dir {
	int fd;
	struct fs_account *payer; /* pays for fd */
	pthread_mutex_t lock;
	/* Under lock: the last result of getdents64, and how much of it was used. */
	size_t at, filled;
	off_t position; /* of the entry at buf[at] */
	char *buf;
};

static struct fs_dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct fs_dir *)(uintptr_t)fi->fh;
}

int fs_dir_fd(const struct fuse_file_info *fi)
{
	return dir_of(fi)->fd;
}

static void dir_free(struct fs_dir *d)
{
	if (d->fd >= 0)
		close(d->fd);
	fs_account_descriptor_close(d->payer);
	free(d->buf);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	struct fs_dir *d = calloc(1, sizeof(*d));
	int r = d ? 0 : -ENOMEM;

	if (d) {
		pthread_mutex_init(&d->lock, NULL);
		d->fd = -1;
		r = fs_handle_pay(req, i, &d->payer);
	}
	if (!r)
		d->fd = r = fs_inode_open(m, i, O_RDONLY | O_DIRECTORY);
	if (r >= 0)
		r = fs_listing_join(m, i, d->fd, fi);
	if (r < 0) {
		if (d)
			dir_free(d);
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi)) {
		fs_listing_leave(i);
		dir_free(d);
	}
}

void fs_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fs_listing_leave(fs_inode_of(fs_mount_of(req), ino));
	dir_free(dir_of(fi));
	fuse_reply_err(req, 0);
}

void fs_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		    struct fuse_file_info *fi)
{
	(void)ino;
	fs_reply_sync(req, dir_of(fi)->fd, datasync);
}

/* ---- the stream ---- */

struct entry {
	const char *name;
	ino_t ino;
	mode_t type;
	off_t next; /* position behind it */
};

static bool is_virtual(off_t position)
{
	return position >= DIR_VIRTUAL && position <= DIR_VIRTUAL_MAX;
}

/* Moves to a position, often one in the middle of what was read last: the kernel had no
 * room for the rest. */
static int dir_seek(struct fs_dir *d, off_t off)
{
	size_t at = 0;

	if (off == d->position && d->buf)
		return 0;
	while (off && at < d->filled) {
		const struct dirent64 *e = (const void *)(d->buf + at);

		at += e->d_reclen;
		if (e->d_off == off) {
			d->at = at;
			d->position = off;
			return 0;
		}
	}
	d->at = d->filled = 0;
	d->position = off;
	if (is_virtual(off))
		return 0;
	return lseek(d->fd, off, SEEK_SET) < 0 ? -errno : 0;
}

/* Fills in the entry at the present position, which stays. 1; 0: the end; -errno. */
static int dir_peek(struct fs_dir *d, bool state, struct entry *e)
{
	const struct dirent64 *raw;
	size_t k;

	if (!is_virtual(d->position) && d->at == d->filled) {
		ssize_t n = getdents64(d->fd, d->buf, DIR_BUFFER);

		if (n < 0)
			return -errno;
		d->at = 0;
		d->filled = (size_t)n;
		if (n == 0 && state)
			d->position = DIR_VIRTUAL;
		else if (n == 0)
			return 0;
	}
	if (!is_virtual(d->position)) {
		raw = (const void *)(d->buf + d->at);
		*e = (struct entry){raw->d_name, raw->d_ino, DTTOIF(raw->d_type),
				    raw->d_off};
		return 1;
	}
	k = (size_t)(d->position - DIR_VIRTUAL);
	if (k >= FS_VIRTUAL_WRITERS)
		return 0;
	*e = (struct entry){fs_virtual_name((enum fs_virtual)(k + 1)), k + 1, S_IFREG,
			    d->position + 1};
	return 1;
}

static void dir_advance(struct fs_dir *d)
{
	const struct dirent64 *raw = (const void *)(d->buf + d->at);

	if (is_virtual(d->position)) {
		d->position++;
		return;
	}
	d->at += raw->d_reclen;
	d->position = raw->d_off;
}

/* Appends one entry, and for readdirplus looks it up, for the counter of this number. Its
 * size, 0 when there is no room. */
static size_t add_entry(fuse_req_t req, struct fs_inode *dir, const struct entry *e,
			char *buf, size_t room, bool plus, uint16_t number)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fuse_entry_param param = {0};
	struct fs_inode *i = NULL;
	struct stat st;
	size_t need;

	param.attr.st_ino = e->ino;
	param.attr.st_mode = e->type;
	fs_stat_public(dir, &param.attr);
	if (!plus) {
		need = fuse_add_direntry(req, buf, room, e->name, &param.attr, e->next);
		return need > room ? 0 : need;
	}
	need = fuse_add_direntry_plus(req, NULL, 0, e->name, &param, e->next);
	if (need > room)
		return 0;
	/* A name that cannot be looked up is listed all the same, as readdir would. */
	if (strcmp(e->name, ".") != 0 && strcmp(e->name, "..") != 0 &&
	    fs_inode_lookup(m, dir, e->name, &i, &st) == 0) {
		fs_entry_fill(m, i, &st, &param);
		i->priv->listed = number;
		fs_inode_to_kernel(m, i);
	}
	fuse_add_direntry_plus(req, buf, room, e->name, &param, e->next);
	return need;
}

/* Fills the buffer. Returns its length or -errno. Entries that were added count as
 * looked up. */
static ssize_t fill(fuse_req_t req, struct fs_inode *dir, struct fs_dir *d, off_t off,
		    char *buf, size_t size, bool plus)
{
	struct fs_mount *m = fs_mount_of(req);
	const bool root = dir == &m->tree.root;
	const bool top =
	    dir->state && fs_virtual_of(m, dir, fs_virtual_name(FS_VIRTUAL_STATUS));
	const uint16_t number = fs_listing_number(dir);
	uint32_t entries = 0;
	size_t used = 0;
	struct entry e;
	int r;

	r = dir_seek(d, off);
	if (r)
		return r;
	while ((r = dir_peek(d, top, &e)) > 0) {
		size_t n;

		if (root && strcmp(e.name, FS_STATE_NAME) == 0) {
			dir_advance(d);
			continue;
		}
		n = add_entry(req, dir, &e, buf + used, size - used, plus, number);
		if (!n)
			break;
		used += n;
		entries++;
		dir_advance(d);
	}
	if (plus)
		fs_listing_entries(dir, entries);
	return r < 0 && !used ? r : (ssize_t)used;
}

/* Forgets the nodes of a readdirplus that the kernel did not get, and so will not
 * forget. */
static void forget_entries(struct fs_mount *m, const char *buf, size_t size)
{
	for (size_t at = 0; at < size;) {
		const struct fuse_direntplus *e = (const void *)(buf + at);

		if (e->entry_out.nodeid)
			fs_inode_forget(m, fs_inode_of(m, e->entry_out.nodeid), 1);
		at += FUSE_DIRENTPLUS_SIZE(e);
	}
}

static void readdir_any(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			struct fuse_file_info *fi, bool plus)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_dir *d = dir_of(fi);
	cleanup_free char *buf = malloc(size);
	ssize_t n = -ENOMEM;

	/* Noted before the answer: the attributes in it are valid longer than we
	 * count. */
	if (plus && off == 0)
		fs_listing_filled(m, fs_inode_of(m, ino));
	pthread_mutex_lock(&d->lock);
	if (!d->buf)
		d->buf = malloc(DIR_BUFFER);
	if (buf && d->buf)
		n = fill(req, fs_inode_of(m, ino), d, off, buf, size, plus);
	pthread_mutex_unlock(&d->lock);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else if (fuse_reply_buf(req, buf, (size_t)n) && plus)
		forget_entries(m, buf, (size_t)n);
}

void fs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi)
{
	readdir_any(req, ino, size, off, fi, false);
}

void fs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	readdir_any(req, ino, size, off, fi, true);
}
