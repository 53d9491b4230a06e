/* SPDX-License-Identifier: MIT */
#include "document/class.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fuse.h"
#include "base/version.h"
#include "document/broken.h"
#include "document/editor.h"
#include "document/onto.h"
#include "document/reader.h"
#include "rules/config.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/handles.h"
#include "tree/hold.h"
#include "tree/inode.h"
#include "tree/mount.h"

/* Makes the handle and opens the file behind it. 0 or -errno. */
static int document_new(fuse_req_t req, struct fs_inode *i, int flags,
			struct fs_document **made)
{
	const bool write = (flags & O_ACCMODE) != O_RDONLY;
	struct fs_document *d =
	    calloc(1, write ? sizeof(struct fs_document_editor) : sizeof(*d));
	int rc = 0;

	if (!d)
		return -ENOMEM;
	d->m = fs_mount_of(req);
	d->base.ops = write ? &fs_document_editor_ops : &fs_document_reader_ops;
	d->base.flags = flags;
	d->settings = fs_settings_of(d->m, i);
	d->fd = fs_inode_open(d->m, i, O_RDONLY);
	if (d->fd < 0)
		rc = d->fd;
	else if (!d->settings)
		rc = -ENOMEM;
	if (!rc) {
		*made = d;
		return 0;
	}
	if (d->fd >= 0)
		close(d->fd);
	free(d);
	return rc;
}

/* Opens a document. tree_lock is held for reading, unless the file was `created` just
 * now. */
static int document_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi,
			 bool created)
{
	const bool empties = fi->flags & O_TRUNC;
	struct fs_document *d;
	struct stat st;
	int rc;

	if (empties && (fi->flags & O_ACCMODE) == O_RDONLY)
		return -EPERM;
	rc = document_new(req, i, fi->flags, &d);
	if (rc)
		return rc;
	if (d->m->vault.remote) {
		off_t size = fs_hold_size(d->m, d->fd);

		rc = size < 0 ? fs_inode_answer(d->m, i, (int)size) : 0;
	}
	if (!rc)
		rc = fs_version_of(d->fd, "", &d->version, &st);
	if (!rc && !empties)
		rc = fs_document_broken(d->m, i, d->settings, d->fd, &st);
	if (!rc)
		fs_handle_link(d->m, &d->base, i);
	if (!rc && empties && st.st_size)
		rc = fs_document_begin((struct fs_document_editor *)d, fuse_req_ctx(req),
				       0, true);
	if (rc) {
		fs_document_free(d);
		return rc;
	}
	/* What the process may have read under this name before does not count any
	 * more. */
	if (created)
		fs_document_seen(req, d);
	fi->fh = (uintptr_t)&d->base;
	fi->direct_io = 1; /* each handle sees its own version */
	return 0;
}

static int document_class_open(fuse_req_t req, struct fs_inode *i,
			       struct fuse_file_info *fi)
{
	return document_open(req, i, fi, false);
}

static int document_class_created(fuse_req_t req, struct fs_inode *i, int fd,
				  struct fuse_file_info *fi, struct fs_inode *dir)
{
	return document_open(req, i, fi, true);
}

/* Refuses a truncation by name: a document cannot be changed in part. */
static int document_class_truncate(fuse_req_t req, struct fs_inode *i, off_t size)
{
	return -EPERM;
}

const struct fs_class_ops fs_document_class = {
    .open = document_class_open,
    .created = document_class_created,
    .anew = true,
    .truncate = document_class_truncate,
    .rename_into = fs_document_rename_into,
};
