/* SPDX-License-Identifier: MIT */
#include "names/generation.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/stamp.h"
#include "base/syslog.h"
#include "match/generation.h"
#include "rules/policy.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "tree/stat.h"
#include "tree/renaming.h"
#include "vault/archive.h"
#include "vault/hosts.h"
#include "vault/named.h"

/* A larger backup is archived without comparing it. */
#define COMPARE_MAX (16L << 20)

bool fs_generation_may_be(struct fs_mount *m, const char *name)
{
	return jsonl_policy_may_be_generation(m->vault.policy, name);
}

/* Returns true when the log begins with all of the backup. A final newline that one of
 * them lacks counts as there. */
static bool is_prefix(struct fs_mount *m, int backup, off_t size, int log)
{
	cleanup_free char *a = malloc((size_t)size), *b = malloc((size_t)size);
	struct stat st;
	size_t have;

	if (!a || !b || fstat(log, &st) < 0 || !S_ISREG(st.st_mode) ||
	    jsonl_io_read_full(m->vault.io, backup, a, (size_t)size, 0) != size)
		return false;
	have = st.st_size < size ? (size_t)st.st_size : (size_t)size;
	if (jsonl_io_read_full(m->vault.io, log, b, have, 0) != (ssize_t)have)
		return false;
	return memcmp(a, b, have) == 0 &&
	       (have == (size_t)size || (have + 1 == (size_t)size && a[have] == '\n'));
}

/* Returns true when the content of this backup is in the log or in the archive. */
static bool is_kept(struct fs_mount *m, int dir_fd, const char *name, const char *live,
		    off_t size)
{
	cleanup_close int backup = -1;
	cleanup_close int log = -1;

	if (size > COMPARE_MAX)
		return false;
	backup = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	log = openat(dir_fd, live, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (backup < 0)
		return false;
	return (log >= 0 && is_prefix(m, backup, size, log)) ||
	       fs_archive_holds(&m->vault, backup, size);
}

/* Returns true when a handle may have it open for writing; handles of other daemons
 * cannot be seen. */
static bool may_be_written(struct fs_mount *m, const struct stat *st)
{
	return fs_shared(&m->vault) ||
	       fs_inode_is_written(&m->vault, st->st_dev, st->st_ino);
}

/* Returns true when removing this name would lose records. */
static bool is_wanted(struct fs_mount *m, int dir_fd, const char *name, const char *path,
		      const struct stat *st)
{
	const struct jsonl_settings *settings;
	char live[PATH_MAX];
	const char *slash;
	size_t stem;

	if (!S_ISREG(st->st_mode) || !st->st_size ||
	    jsonl_policy_classify(m->vault.policy, path) != JSONL_CLASS_PLAIN ||
	    !jsonl_policy_is_generation(m->vault.policy, path) ||
	    fs_has_other_names(dir_fd, name, st))
		return false;
	if (!jsonl_policy_live_of(m->vault.policy, path, &stem))
		return may_be_written(m, st);
	snprintf(live, sizeof(live), "%.*s", (int)stem, path);
	settings = jsonl_policy_settings(m->vault.policy, live);
	if (settings && settings->unlink == JSONL_UNLINK_ALLOW)
		return false;
	if (may_be_written(m, st))
		return true;
	slash = strrchr(live, '/');
	return jsonl_generation_is_backup(path + stem, strlen(path) - stem) &&
	       !is_kept(m, dir_fd, name, slash ? slash + 1 : live, st->st_size);
}

int fs_generation_unlink(fuse_req_t req, struct fs_inode *dir, int dir_fd,
			 const char *name)
{
	struct fs_mount *m = fs_mount_of(req);
	char path[PATH_MAX];
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (fs_inode_path(m, dir, name, path, sizeof(path)) == 0 &&
	    is_wanted(m, dir_fd, name, path, &st))
		return fs_archive_move(req, "unlink", dir_fd, name, path, &st);
	return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
}

int fs_generation_replace(struct fs_renaming *r, char *kept)
{
	struct fs_mount *m = r->m;
	char path[PATH_MAX];
	struct stat st;

	kept[0] = '\0';
	if ((r->flags & (RENAME_EXCHANGE | RENAME_NOREPLACE)) ||
	    !fs_generation_may_be(m, r->new_name) ||
	    fstatat(r->new_fd, r->new_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fs_inode_path(m, r->new_dir, r->new_name, path, sizeof(path)) < 0 ||
	    !is_wanted(m, r->new_fd, r->new_name, path, &st))
		return 0;
	return fs_archive_link(r->req, "rename", r->new_fd, r->new_name, path, &st, kept);
}

/* ---- rotation chains ---- */

static bool is_open(struct fs_inode *i)
{
	bool open;

	pthread_mutex_lock(&i->lock);
	open = i->handles != NULL;
	pthread_mutex_unlock(&i->lock);
	return open;
}

/* Renames the target to a free name of a generation: its own name and the time. */
static int set_beside(struct fs_renaming *r)
{
	char name[NAME_MAX + 1], stamp[JSONL_STAMP];
	int n, rc;

	jsonl_stamp_name_now(stamp);
	n = snprintf(name, sizeof(name), "%s.%s", r->new_name, stamp);
	if (n < 0 || (size_t)n >= sizeof(name))
		return -ENAMETOOLONG;
	rc = renameat2(r->new_fd, r->new_name, r->new_fd, name, RENAME_NOREPLACE) < 0
		 ? -errno
		 : 0;
	if (rc == -EINVAL || rc == -ENOSYS)
		rc = renameat(r->new_fd, r->new_name, r->new_fd, name) < 0 ? -errno : 0;
	if (!rc)
		FS_SYSLOG(LOG_WARNING, fuse_req_ctx(r->req)->uid, "set-beside",
			  FS_STR("path", r->new_path), FS_STR("to", name),
			  FS_STR("reason", FS_ARCHIVE_FULL));
	return rc;
}

/* Keeps the file at the target's name, so that the rename may replace it. 0 or
 * -errno. */
static int keep_target(struct fs_renaming *r, char *kept)
{
	int rc;

	kept[0] = '\0';
	if (!r->dst_st.st_size ||
	    fs_has_other_names(r->new_fd, r->new_name, &r->dst_st) ||
	    r->settings->unlink == JSONL_UNLINK_ALLOW)
		return 0;
	if (r->settings->unlink == JSONL_UNLINK_DENY)
		return -EPERM;
	rc = fs_archive_link(r->req, NULL, r->new_fd, r->new_name, r->new_path,
			     &r->dst_st, kept);
	return rc == -EDQUOT ? set_beside(r) : rc;
}

int fs_generation_chain(struct fs_renaming *r)
{
	char kept[JSONL_ARCHIVED_NAME];
	int rc;

	if (r->old_dir != r->new_dir || (int)r->src->class != r->settings->class ||
	    !jsonl_generation_chain(r->old_name, r->new_name) || is_open(r->dst))
		return -EPERM;
	rc = keep_target(r, kept);
	if (!rc) {
		rc = fs_rename_plain(r);
		if (rc && kept[0])
			fs_archive_unlink(&r->m->vault, kept);
	}
	if (!rc)
		fs_rename_rotated(r);
	return rc;
}

/* ---- live logs that are named like one ---- */

void fs_generation_created(fuse_req_t req, struct fs_inode *dir, const char *name,
			   int flags)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fs_mount *m = fs_mount_of(req);
	char path[PATH_MAX];
	size_t stem;

	if (!(flags & O_APPEND) || (flags & O_ACCMODE) == O_RDONLY ||
	    !fs_generation_may_be(m, name) ||
	    fs_inode_path(m, dir, name, path, sizeof(path)) < 0 ||
	    jsonl_policy_classify(m->vault.policy, path) != JSONL_CLASS_PLAIN ||
	    !jsonl_policy_live_of(m->vault.policy, path, &stem))
		return;
	/* Only the first is logged: others are likely to be of the same program. */
	if (m->vault.stats.ungoverned++)
		return;
	FS_NAMED_LOG(&m->vault, LOG_WARNING, ctx, "ungoverned", FS_STR("path", path),
		     FS_INT("pid", ctx->pid), FS_INT("uid", ctx->uid),
		     FS_STR("program", fs_named_here),
		     FS_STR("reason",
			    "it is made to be appended to, but its name is that of a "
			    "generation, so nothing watches over it: if it is a log "
			    "name it in match=, as *.jsonl:app.jsonl.2*"));
}
