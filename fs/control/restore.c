/* SPDX-License-Identifier: MIT */
#include "control/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/archived.h"
#include "base/cleanup.h"
#include "base/copy.h"
#include "base/lock.h"
#include "base/path.h"
#include "base/syslog.h"
#include "control/entries.h"
#include "control/files.h"
#include "control/request.h"
#include "file/file.h"
#include "file/replace.h"
#include "log/content.h"
#include "log/target.h"
#include "quarantine/quarantine.h"
#include "report/report.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/notify.h"

/* Opens an entry, with its attributes. O_NONBLOCK because its owner may hold a lease on
 * it. Descriptor or -errno; -EINVAL: it is no regular file. */
static int open_entry(int dir, const char *name, struct stat *st)
{
	cleanup_close int fd = fs_openat_beneath(dir, name, O_RDONLY | O_NONBLOCK);

	if (fd < 0)
		return fd;
	if (fstat(fd, st) < 0)
		return -errno;
	return S_ISREG(st->st_mode) ? steal_fd(&fd) : -EINVAL;
}

static int open_parent(struct fs_mount *m, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];

	*name = slash ? slash + 1 : path;
	(void)snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 0, path);
	return fs_open_beneath(&m->vault, dir, O_RDONLY | O_DIRECTORY);
}

/* Copies the file beside its place and renames the copy, so that all of it appears or
 * nothing. */
static int put(struct fs_mount *m, int fd, const char *path)
{
	const struct jsonl_settings *settings =
	    jsonl_policy_settings(m->vault.policy, path);
	struct jsonl_replace to;
	bool unfinished = false;
	const char *name;
	struct stat st;
	off_t at;
	int rc = !settings ? -ENOMEM : fstat(fd, &st) < 0 ? -errno : 0;

	if (!rc)
		rc = fs_content_validate(m, &settings->limits, fd, 0, st.st_size, &at,
					 &unfinished);
	if (rc)
		return rc;
	cleanup_close int dir_fd = open_parent(m, path, &name);

	if (dir_fd < 0)
		return dir_fd;
	rc = jsonl_replace_begin(&to, m->vault.io, dir_fd, name, fd);
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

/* Tells the kernel, which may remember that there is no such file, or the old length. */
static void tell_kernel(struct fs_mount *m, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct fs_inode *parent, *file;
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
	if (fs_control_walk(m, path, &file, &st))
		return;
	fs_attributes_changed(m, file);
	fs_inode_unref(m, file);
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
	if (!fs_control_is_entry_name(name))
		return -EINVAL;
	jsonl_archived_parse(name, &said);
	if (!said.path[0] || !said.whole)
		return -EINVAL;
	cleanup_close int fd = open_entry(m->vault.archive_fd, name, &st);

	rc = fd < 0 ? fd : put(m, fd, said.path);
	if (rc)
		return rc;
	tell_kernel(m, said.path);
	FS_SYSLOG(LOG_NOTICE, (uid_t)-1, "archive-restored", FS_STR("path", said.path),
		  FS_STR("archive", name), FS_INT("pid", r->pid), FS_INT("uid", r->uid));
	return 0;
}

/* ---- quarantine ---- */

#define RECORDS_MAX (16 << 20) /* bytes of an entry */

/* Returns true when nobody reads the log who could not read the entry. */
static bool is_as_private(const struct stat *log, const struct stat *entry)
{
	return log->st_uid == entry->st_uid && log->st_gid == entry->st_gid &&
	       !(log->st_mode & ~entry->st_mode & (S_IRGRP | S_IROTH));
}

/* In one append: all of it is in the log, or nothing. */
static int append(struct fs_target *to, char *bytes, size_t len)
{
	const struct iovec iov[] = {{bytes, len}, {"\n", 1}};
	struct jsonl_file_user user = {0};
	off_t end;
	int rc = fs_freeze(to->file, FS_LOCK_MS, &end);

	if (rc)
		return rc;
	rc = jsonl_file_append_frozen(to->file, iov, bytes[len - 1] == '\n' ? 1 : 2,
				      &user);
	jsonl_file_unfreeze(to->file);
	return rc ? rc : jsonl_file_sync(to->file, &user);
}

/* *records: how many they are. */
static int append_entry(struct fs_mount *m, int fd, const struct stat *entry,
			const char *path, uint64_t *records)
{
	const struct jsonl_settings *settings =
	    jsonl_policy_settings(m->vault.policy, path);
	size_t len = (size_t)entry->st_size;
	bool unfinished = false;
	struct fs_target to;
	struct stat log;
	off_t at;
	int rc;

	if (!settings)
		return -ENOMEM;
	if (settings->class != JSONL_CLASS_GOVERNED || !len)
		return -EINVAL;
	if (len > RECORDS_MAX)
		return -EFBIG;
	rc = fs_content_validate(m, &settings->limits, fd, 0, entry->st_size, &at,
				 &unfinished);
	if (rc)
		return rc;
	cleanup_free char *bytes = malloc(len);

	if (!bytes)
		return -ENOMEM;
	if (jsonl_io_read_full(m->vault.io, fd, bytes, len, 0) != (ssize_t)len)
		return -EIO;
	*records = bytes[len - 1] != '\n';
	for (size_t i = 0; i < len; i++)
		*records += bytes[i] == '\n';
	rc = fs_target_open(m, path, 0, &to);
	if (rc == -ENOENT)
		return put(m, fd, path);
	if (rc)
		return rc;
	rc = fstat(jsonl_file_fd(to.file), &log) < 0 ? -errno
	     : is_as_private(&log, entry)	     ? append(&to, bytes, len)
						     : -EACCES;
	jsonl_file_free(to.file);
	return rc;
}

int fs_control_quarantine_restore(struct fs_control_request *r)
{
	const char *name = jsonl_report_get_string(r->args, "name");
	struct fs_quarantined of;
	struct fs_mount *m = r->m;
	uint64_t records = 0;
	struct stat st;
	int rc;

	if (!m->vault.quarantine || m->vault.config.readonly)
		return -EROFS;
	if (!fs_control_is_entry_name(name))
		return -EINVAL;
	cleanup_close int dir = openat(m->vault.state_fd, "quarantine",
				       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int fd = dir < 0 ? -errno : open_entry(dir, name, &st);

	if (fd < 0)
		return fd;
	/* Only one restore of an entry at a time (jsonlfsctl takes it, too), and what an
	 * earlier one has noted is seen. */
	rc = fs_lock_wait(fd, FS_LOCK_MS);
	if (!rc)
		rc = fs_control_quarantined(m, name, &of);
	if (!rc && (of.restored && !jsonl_report_get_bool(r->args, "again")))
		rc = -EALREADY;
	if (!rc && !of.path[0])
		rc = -EINVAL;
	if (!rc)
		rc = append_entry(m, fd, &st, of.path, &records);
	if (rc)
		return rc;
	tell_kernel(m, of.path);
	jsonl_report_add_string(r->reply, "path", of.path);
	jsonl_report_add_uint(r->reply, "records", records);
	FS_SYSLOG(LOG_NOTICE, (uid_t)-1, "quarantine-restored", FS_STR("path", of.path),
		  FS_STR("quarantine", name), FS_INT("records", records),
		  FS_INT("pid", r->pid), FS_INT("uid", r->uid));
	/* The records are there: that this could not be noted does not make them undone.
	 */
	jsonl_report_add_bool(
	    r->reply, "noted",
	    jsonl_quarantine_restored(m->vault.quarantine, name, records) == 0);
	return 0;
}
