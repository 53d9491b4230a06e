/* SPDX-License-Identifier: MIT */
#include "tree/renaming.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/syslog.h"
#include "rules/config.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/hold.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/notify.h"
#include "tree/stale.h"
#include "vault/denied.h"

/* Renames where the file system below has no flags for rename (bindfs, mergerfs, network
 * file systems): gives the file a second name, which fails if the name exists, then
 * removes the first. */
static int rename_by_link(struct fs_renaming *r)
{
	int rc = -EINVAL;

	if (r->flags != RENAME_NOREPLACE || !r->src || !S_ISREG(r->src->type))
		return rc;
	if (linkat(r->old_fd, r->old_name, r->new_fd, r->new_name, 0) < 0)
		return errno == EEXIST || errno == EXDEV ? -errno : rc;
	if (unlinkat(r->old_fd, r->old_name, 0) == 0)
		return 0;
	rc = -errno;
	(void)unlinkat(r->new_fd, r->new_name, 0);
	return rc;
}

static int rename_as_caller(struct fs_renaming *r)
{
	const struct fs_ids ids = fs_caller_ids(r->req);
	struct fs_caller saved;
	int rc = fs_caller_pay(&ids, &saved);

	if (rc)
		return rc;
	if (renameat2(r->old_fd, r->old_name, r->new_fd, r->new_name, r->flags) < 0)
		rc = -errno;
	if (rc == -EINVAL)
		rc = rename_by_link(r);
	fs_caller_restore(&saved);
	return rc;
}

static int rename_names(struct fs_renaming *r)
{
	int rc = rename_as_caller(r);

	if (rc)
		return rc;
	if (r->src) {
		fs_inode_moved(r->m, r->src, r->new_dir, r->new_name);
		r->m->tree.log_names++;
	}
	if (r->dst && (r->flags & RENAME_EXCHANGE))
		fs_inode_moved(r->m, r->dst, r->old_dir, r->old_name);
	return 0;
}

int fs_rename_plain(struct fs_renaming *r)
{
	cleanup_close int held = -1;
	int rc = 0;

	/* So that no append of another daemon is between its look at the name and its
	 * write. */
	if (r->src && S_ISREG(r->src->type) && r->src->class != JSONL_CLASS_PLAIN)
		rc = fs_hold(r->m, r->old_fd, r->old_name, &held);
	if (rc)
		return rc;
	/* Not while another file takes the place of one of them. */
	pthread_rwlock_rdlock(&r->m->tree.lock);
	rc = rename_names(r);
	pthread_rwlock_unlock(&r->m->tree.lock);
	return rc;
}

int fs_rename_refuse(struct fs_renaming *r, int code, const char *path, const char *why)
{
	/* A thread that may wait does it once more. */
	if (code != -EINPROGRESS)
		fs_denied(r->req, "rename", path, why);
	return code;
}

int fs_rename_seize(struct fs_renaming *r)
{
	int rc = fs_stale_seize(r->m, r->src);

	return rc ? fs_rename_refuse(
			r, rc, r->new_path,
			"the source is still open for writing; close it first")
		  : 0;
}

void fs_rename_crossed(struct fs_renaming *r)
{
	fs_stale_mark(r->m, r->src);
	fs_invalidate_entry(r->m, r->new_dir, r->new_name);
}

void fs_rename_rotated(const struct fs_renaming *r)
{
	const struct fuse_ctx *caller = fuse_req_ctx(r->req);

	FS_SYSLOG(LOG_INFO, caller->uid, "rotated", FS_STR("path", r->old_path),
		  FS_STR("to", r->new_path), FS_INT("pid", caller->pid),
		  FS_INT("uid", caller->uid));
}

int fs_rename_class(struct fs_renaming *r)
{
	int rc = fs_rename_plain(r);

	if (rc)
		return rc;
	fs_rename_crossed(r);
	if (!r->m->tree.classes[r->settings->class]->saved_by_rename)
		fs_rename_rotated(r);
	return 0;
}

bool fs_rename_begun(struct fs_renaming *r, struct timespec *begun)
{
	const struct fs_class_ops *ops = fs_class_of(r->m, r->src);
	int64_t emptied = ops->begun ? ops->begun(r->src) : 0;
	struct statx sx = {0};
	int fd;

	if (emptied) {
		*begun = (struct timespec){emptied / 1000000000, emptied % 1000000000};
		return true;
	}
	fd = fs_inode_fd_get(r->m, r->src);
	if (fd < 0)
		return false;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &sx) < 0)
		sx.stx_mask = 0;
	fs_inode_fd_put(r->m, r->src, fd);
	*begun = (struct timespec){sx.stx_btime.tv_sec, sx.stx_btime.tv_nsec};
	return sx.stx_mask & STATX_BTIME;
}
