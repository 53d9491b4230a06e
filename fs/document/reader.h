/* SPDX-License-Identifier: MIT */
/* Reads documents: state files, of class replace. A handle that is open for reading stays
 * with the version that it opened. Any thread; each operation answers its request once.
 */
#ifndef FS_DOCUMENT_READER_H
#define FS_DOCUMENT_READER_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"
#include "base/version.h"
#include "tree/handles.h"

struct fs_mount;
struct jsonl_settings;

struct fs_document {
	struct fs_handle base; /* first: cast back */
	struct fs_mount *m;
	const struct jsonl_settings *settings;
	int fd;			   /* the version that was opened, for reading */
	struct fs_version version; /* of it; an editor's: under staged->lock */
	_Atomic bool noted;	   /* its process counts as having seen it */
};

extern const struct fs_handle_ops fs_document_reader_ops;

/* Notes that the process of this request knows the version that the handle has opened. */
void fs_document_seen(fuse_req_t req, struct fs_document *d);
/* Frees the handle, and takes it out of the lists if it is linked. */
void fs_document_free(struct fs_document *d);

/* ---- for an editor that has not begun, too ---- */
void fs_document_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		      struct fuse_file_info *fi);
void fs_document_fsync(fuse_req_t req, struct fs_handle *h, int datasync,
		       struct fuse_file_info *fi);
void fs_document_lseek(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
		       struct fuse_file_info *fi);
void fs_document_release(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi);
void fs_document_abandon(struct fs_handle *h);
bool fs_document_size(struct fs_handle *h, off_t *size);
bool fs_document_stay(struct fs_handle *h, void *version);
bool fs_document_stat(struct fs_handle *h, struct stat *st);

/* Answers a seek for data or a hole in a file of `size` bytes that has no holes. */
void fs_document_seek(fuse_req_t req, off_t size, off_t off, int whence);

#endif
