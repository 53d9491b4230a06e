/* SPDX-License-Identifier: MIT */
#include "document/reader.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fuse.h"
#include "base/process.h"
#include "base/reply.h"
#include "base/seen.h"
#include "base/version.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"

static struct fs_document *document_of(struct fs_handle *h)
{
	return (struct fs_document *)h;
}

void fs_document_seen(fuse_req_t req, struct fs_document *d)
{
	char path[PATH_MAX];
	struct fs_process p;

	if (atomic_exchange(&d->noted, true) ||
	    !fs_process_identify(fuse_req_ctx(req)->pid, &p))
		return;
	fs_path_of(d->m, d->base.inode, path, sizeof(path));
	fs_seen_note(d->m->seen, path, &p, fuse_req_ctx(req)->uid, &d->version);
}

void fs_document_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		      struct fuse_file_info *fi)
{
	struct fs_document *d = document_of(h);

	fs_document_seen(req, d);
	fs_reply_read(req, d->fd, size, off);
}

void fs_document_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
		       struct fuse_file_info *fi)
{
	fs_reply_sync(req, document_of(h)->fd, 0);
}

void fs_document_seek(fuse_req_t req, off_t size, off_t off, int whence)
{
	if (off < 0 || off >= size)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? off : size);
}

void fs_document_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
		       struct fuse_file_info *fi)
{
	fs_document_seek(req, document_of(h)->version.size, off, whence);
}

bool fs_document_size(struct fs_handle *h, off_t *size)
{
	*size = document_of(h)->version.size;
	return true;
}

bool fs_document_stay(struct fs_handle *h, void *version)
{
	return h->edition == h->inode->edition; /* else it does already */
}

/* Fills in the attributes of the handle's version. If that is the present one, the node
 * has the same, and the kernel may keep them. */
bool fs_document_stat(struct fs_handle *h, struct stat *st)
{
	struct fs_document *d = document_of(h);

	return d->base.edition != d->base.inode->edition && fstat(d->fd, st) == 0;
}

void fs_document_free(struct fs_document *d)
{
	if (d->base.inode)
		fs_handle_unlink(d->m, &d->base);
	close(d->fd);
	free(d);
}

void fs_document_abandon(struct fs_handle *h)
{
	fs_document_free(document_of(h));
}

void fs_document_release(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi)
{
	fs_document_free(document_of(h));
	fuse_reply_err(req, 0);
}

const struct fs_handle_ops fs_document_reader_ops = {
    .read = fs_document_read,
    .release = fs_document_release,
    .fsync = fs_document_fsync,
    .lseek = fs_document_lseek,
    .size = fs_document_size,
    .stay = fs_document_stay,
    .stat = fs_document_stat,
    .abandon = fs_document_abandon,
};
