/* SPDX-License-Identifier: MIT */
#include "control/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/archived.h"
#include "base/cleanup.h"
#include "base/copy.h"
#include "base/syslog.h"
#include "control/files.h"
#include "control/request.h"
#include "file/replace.h"
#include "log/content.h"
#include "report/report.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/notify.h"

/* Beside its place first, then by a rename: it is there as a whole or not at all. */
static int put(struct fs_mount *m, int fd, const char *path)
{
	const struct jsonl_settings *settings =
	    jsonl_policy_settings(m->vault.policy, path);
	const char *slash = strrchr(path, '/');
	struct jsonl_replace to;
	bool unfinished = false;
	char dir[PATH_MAX];
	struct stat st;
	off_t at;
	int rc = !settings ? -ENOMEM : fstat(fd, &st) < 0 ? -errno : 0;

	if (!rc)
		rc = fs_content_validate(m, &settings->limits, fd, 0, st.st_size, &at,
					 &unfinished);
	if (rc)
		return rc;
	(void)snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 0, path);
	cleanup_close int dir_fd =
	    fs_open_beneath(&m->vault, dir, O_RDONLY | O_DIRECTORY);

	if (dir_fd < 0)
		return dir_fd;
	rc = jsonl_replace_begin(&to, m->vault.io, dir_fd, slash ? slash + 1 : path, fd);
	if (rc)
		return rc;
	rc = fs_copy_bytes(m->vault.io, fd, 0, st.st_size, to.fd);
	if (!rc && unfinished)
		rc = jsonl_replace_write(&to, "\n", 1);
	if (!rc)
		return jsonl_replace_commit(&to, RENAME_NOREPLACE);
	jsonl_replace_abort(&to);
	return rc;
}

/* The kernel may know that nothing is there. */
static void tell_kernel(struct fs_mount *m, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct fs_inode *parent;
	char dir[PATH_MAX];
	struct stat st;

	(void)snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 0, path);
	if (!slash)
		parent = fs_inode_ref(m, &m->tree.root);
	else if (fs_control_walk(m, dir, &parent, &st))
		return;
	fs_invalidate_entry(m, parent, slash ? slash + 1 : path);
	fs_attributes_changed(m, parent);
	fs_inode_unref(m, parent);
}

int fs_control_archive_restore(struct fs_control_request *r)
{
	const char *name = jsonl_report_get_string(r->args, "name");
	struct fs_mount *m = r->m;
	struct jsonl_archived said;
	struct stat st;
	int rc;

	if (m->vault.archive_fd < 0 || m->vault.config.readonly)
		return -EROFS;
	if (!name || !name[0] || name[0] == '.' || strchr(name, '/'))
		return -EINVAL;
	jsonl_archived_parse(name, &said);
	if (!said.path[0] || !said.whole)
		return -EINVAL;
	cleanup_close int fd =
	    openat(m->vault.archive_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	rc = fd < 0 || fstat(fd, &st) < 0 ? -errno
	     : S_ISREG(st.st_mode)	  ? put(m, fd, said.path)
					  : -EINVAL;
	if (rc)
		return rc;
	tell_kernel(m, said.path);
	FS_SYSLOG(LOG_NOTICE, (uid_t)-1, "archive-restored", FS_STR("path", said.path),
		  FS_STR("archive", name), FS_INT("pid", r->pid), FS_INT("uid", r->uid));
	return 0;
}
