/* SPDX-License-Identifier: MIT */
#include "log/class.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/cleanup.h"
#include "base/fuse.h"
#include "file/file.h"
#include "log/content.h"
#include "log/onto.h"
#include "log/open.h"
#include "log/openlog.h"
#include "log/recover.h"
#include "log/renamed.h"
#include "log/truncate.h"
#include "log/visible.h"
#include "rules/config.h"
#include "tree/classes.h"
#include "tree/hold.h"
#include "tree/descriptor.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/stat.h"
#include "vault/archive.h"
#include "vault/denied.h"

static int log_any_fd(struct fs_inode *i)
{
	return fs_log_node(i)->log ? jsonl_file_fd(fs_openlog_file(fs_log_node(i)->log))
				   : -1;
}

static void log_inode_free(struct fs_inode *i)
{
	free(fs_log_node(i)->visible);
}

static int log_class_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi)
{
	return fs_log_open(req, i, fi, NULL);
}

static int log_class_created(fuse_req_t req, struct fs_inode *i, int fd,
			     struct fuse_file_info *fi, struct fs_inode *dir)
{
	return fs_log_open(req, i, fi, dir);
}

static int log_class_truncate(fuse_req_t req, struct fs_inode *i, off_t size)
{
	return fs_log_truncate(req, i, size, false);
}

static int log_class_unlink(fuse_req_t req, const struct jsonl_settings *settings,
			    int dir_fd, const char *name, const char *path)
{
	cleanup_close int held = -1;
	struct stat st;
	int rc = fs_hold(fs_mount_of(req), dir_fd, name, &held);

	if (rc)
		return rc;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (held >= 0)
		st.st_size = fs_hold_size(fs_mount_of(req), held);
	/* Removing one of several names keeps the records, and an empty log has none. */
	if (!S_ISREG(st.st_mode) || !st.st_size ||
	    fs_has_other_names(dir_fd, name, &st) ||
	    settings->unlink == JSONL_UNLINK_ALLOW)
		return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
	if (settings->unlink == JSONL_UNLINK_DENY) {
		fs_denied(req, "unlink", path, "unlink=deny");
		return -EPERM;
	}
	return fs_archive_move(req, "unlink", dir_fd, name, path, &st);
}

static int log_class_admit(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
			   const char *path)
{
	int rc = fs_content_admit(req, m, i, path);
	cleanup_close int fd = rc ? -1 : fs_inode_open(m, i, O_RDONLY);

	fs_content_note_end(m, "(linked)", path, fuse_req_ctx(req)->uid, fd);
	return rc;
}

const struct fs_class_ops fs_log_class = {
    .node_size = sizeof(struct fs_log_node),
    .open = log_class_open,
    .links = true,
    .created = log_class_created,
    .anew = true,
    .truncate = log_class_truncate,
    .note_change = fs_openlog_note_change,
    .fix_stat = fs_log_fix_stat,
    .any_fd = log_any_fd,
    .forgotten = fs_idle_drop,
    .rename_onto = fs_log_rename_onto,
    .rename_into = fs_log_rename_into,
    .rename_out = fs_log_rename_out,
    .renamed = fs_renamed,
    .append_only = true,
    .admit = log_class_admit,
    .unlink = log_class_unlink,
    .recover = fs_log_recover,
    .inode_free = log_inode_free,
};
