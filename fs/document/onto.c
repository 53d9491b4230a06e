/* SPDX-License-Identifier: MIT */
/* Renames onto documents, and to names of documents. */
#include "document/onto.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "document/broken.h"
#include "document/check.h"
#include "document/lost.h"
#include "rules/config.h"
#include "tree/descriptor.h"
#include "tree/hold.h"
#include "tree/inode.h"
#include "tree/renaming.h"
#include "tree/stale.h"

/* Renames other content onto a document, unless that would undo what another program has
 * changed. */
static int rename_onto(struct fs_renaming *r, int fd)
{
	const struct fuse_ctx *caller = fuse_req_ctx(r->req);
	struct timespec begun;
	bool known = fs_rename_begun(r, &begun);
	cleanup_close int held = -1;
	pthread_mutex_t *locked;
	int rc;

	if (!r->dst || !S_ISREG(r->dst->type))
		return fs_rename_plain(r);
	locked = fs_document_lock(r->dst);
	rc = fs_hold(r->m, r->new_fd, r->new_name, &held);
	if (!rc)
		rc = fs_document_onto(r->m, r->settings, caller, r->new_path,
			      known ? &begun : NULL, r->new_fd, r->new_name);
	if (rc == -EBUSY)
		fs_rename_refuse(
		    r, rc, r->new_path,
		    "another program has changed it since it was read for this "
		    "new content: read it anew");
	if (!rc)
		rc = fs_rename_plain(r);
	if (!rc)
		fs_document_put(r->m, caller, r->new_path, fd);
	pthread_mutex_unlock(locked);
	return rc;
}

/* Renames a document to the name of another document. */
static int rename_among(struct fs_renaming *r)
{
	cleanup_close int fd = fs_inode_open(r->m, r->src, O_RDONLY);

	return fd < 0 ? fd : rename_onto(r, fd);
}

/* Renames a file of another class to the name of a document; its content is judged
 * first. */
static int rename_into(struct fs_renaming *r)
{
	cleanup_close int fd = -1;
	off_t at;
	int rc = fs_rename_seize(r);

	if (rc)
		return rc;
	fd = fs_inode_open(r->m, r->src, O_RDONLY);
	rc = fd < 0 ? fd : 0;
	if (!rc && r->src_st.st_size)
		rc = fs_document_check(r->m, &r->settings->limits, fd, &at);
	if (rc > 0)
		rc = fs_rename_refuse(r, -jsonl_error_errno(rc), r->new_path,
				      jsonl_error_text(rc));
	if (!rc)
		rc = rename_onto(r, fd);
	if (rc)
		fs_stale_release(r->m, r->src);
	else
		fs_rename_crossed(r);
	if (!rc && r->src_st.st_size)
		fs_document_keep(r->m, r->settings, r->new_path, fd);
	return rc;
}

int fs_document_rename_into(struct fs_renaming *r)
{
	return r->src->class == JSONL_CLASS_REPLACE ? rename_among(r) : rename_into(r);
}
