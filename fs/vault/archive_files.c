/* SPDX-License-Identifier: MIT */
/* Moves a file into the archive: by a rename, a second name or a copy. */
#include "vault/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/archived.h"
#include "base/cleanup.h"
#include "base/copy.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/syslog.h"
#include "vault/archive_table.h"
#include "vault/denied.h"
#include "vault/named.h"
#include "vault/vault.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_MAX	   65536

int fs_archive_name(const struct fs_archive_claim *claim, const char *path,
		    char name[JSONL_ARCHIVED_NAME])
{
	uid_t payer = fs_archive_payer(claim);

	return jsonl_archived_name(
	    path, payer == claim->owner ? JSONL_ARCHIVED_OWNER : payer, name);
}

int fs_archive_open(struct fs_vault *v, const char *name)
{
	int fd =
	    openat(v->archive_fd, name,
		   O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

/* Gives the copy the log's ACL, or removes one that it has inherited from the directory.
 * 0 also where there are no ACLs. */
static int copy_acl(int in, int out)
{
	cleanup_free char *acl = malloc(ACL_MAX);
	ssize_t n = acl ? fgetxattr(in, ACL_ACCESS, acl, ACL_MAX) : -1;

	if (!acl)
		return -ENOMEM;
	if (n < 0)
		return (errno != ENODATA && errno != EOPNOTSUPP) ||
			       (fremovexattr(out, ACL_ACCESS) < 0 && errno != ENODATA &&
				errno != EOPNOTSUPP)
			   ? -errno
			   : 0;
	return fsetxattr(out, ACL_ACCESS, acl, (size_t)n, 0) < 0 ? -errno : 0;
}

int fs_archive_finish(struct fs_vault *v, int in, int out)
{
	struct timespec times[2];
	bool owned, alike;
	struct stat st;

	if (fstat(in, &st) < 0)
		return -errno;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	owned = fchown(out, st.st_uid, st.st_gid) == 0;
	if (!owned && v->uid == 0)
		return -errno;
	/* Users that could not read the log must not read the copy. If its ACL cannot be
	 * copied, the copy is its owner's alone. */
	alike = owned && copy_acl(in, out) == 0;
	if ((alike && fchmod(out, st.st_mode & 07777) < 0) || futimens(out, times) < 0 ||
	    fsync(out) < 0 || fsync(v->archive_fd) < 0)
		return -errno;
	return 0;
}

static int copy_whole(struct fs_vault *v, int in, off_t size, const char *to)
{
	cleanup_close int out = fs_archive_open(v, to);
	int rc = out < 0 ? out : fs_copy_bytes(v->io, in, 0, size, out);

	if (!rc)
		rc = fs_archive_finish(v, in, out);
	if (rc && out >= 0)
		unlinkat(v->archive_fd, to, 0);
	return rc;
}

/* Moves a file to a state=DIR on another file system: copies it, syncs, then removes
 * it. */
static int move_by_copy(struct fs_vault *v, int dir_fd, const char *name, const char *to)
{
	cleanup_close int in =
	    openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int rc;

	if (in < 0 || fstat(in, &st) < 0)
		return -errno;
	rc = copy_whole(v, in, st.st_size, to);
	if (!rc && unlinkat(dir_fd, name, 0) < 0) {
		rc = -errno;
		unlinkat(v->archive_fd, to, 0);
	}
	return rc;
}

/* Renames the file to its name in the archive. Only the daemon makes names there, and
 * nobody can guess this one, so where the file system has no flags for rename it does
 * without. *moved: the file itself is there, no copy. */
static int move_file(struct fs_vault *v, int dir_fd, const char *name, const char *to,
		     bool *moved)
{
	int rc =
	    renameat2(dir_fd, name, v->archive_fd, to, RENAME_NOREPLACE) < 0 ? -errno : 0;

	if (rc == -EINVAL || rc == -ENOSYS)
		rc = renameat(dir_fd, name, v->archive_fd, to) < 0 ? -errno : 0;
	*moved = !rc;
	return rc == -EXDEV ? move_by_copy(v, dir_fd, name, to) : rc;
}

static int claim_room(fuse_req_t req, const char *operation, const char *path,
		      const struct fs_archive_claim *claim, uint64_t bytes, char *to)
{
	struct fs_vault *v = fs_vault_of(req);
	int rc = fs_archive_name(claim, path, to);

	if (!rc)
		rc = fs_archive_reserve(v, claim, bytes, 1);
	if (rc == -EDQUOT && operation)
		fs_denied(req, operation, path, FS_ARCHIVE_FULL);
	return rc;
}

static void tell(fuse_req_t req, const char *path, uint64_t bytes, const char *to)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	FS_NAMED_LOG(fs_vault_of(req), LOG_NOTICE, ctx, "archived", FS_STR("path", path),
		     FS_INT("length", bytes), FS_STR("archive", to),
		     FS_INT("pid", ctx->pid), FS_INT("uid", ctx->uid),
		     FS_STR("program", fs_named_here));
}

int fs_archive_move(fuse_req_t req, const char *operation, int dir_fd, const char *name,
		    const char *path, const struct stat *st)
{
	struct fs_vault *v = fs_vault_of(req);
	const struct fs_archive_claim claim = {fuse_req_ctx(req)->uid, st->st_uid};
	uint64_t bytes = (uint64_t)st->st_size;
	char to[JSONL_ARCHIVED_NAME];
	bool moved = false;
	int rc = claim_room(req, operation, path, &claim, bytes, to);

	if (rc)
		return rc;
	rc = move_file(v, dir_fd, name, to, &moved);
	if (rc) {
		fs_archive_release(v, &claim, bytes, 1);
		return rc;
	}
	fs_archive_entered(v, &claim, to, bytes, moved ? st->st_ino : 0);
	tell(req, path, bytes, to);
	return 0;
}

/* Gives the file one more name, else copies it. *linked: the file itself has the name. */
static int link_file(struct fs_vault *v, int dir_fd, const char *name, const char *to,
		     off_t size, bool *linked)
{
	cleanup_close int in = -1;

	*linked = linkat(dir_fd, name, v->archive_fd, to, 0) == 0;
	if (*linked)
		return 0;
	in = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return in < 0 ? -errno : copy_whole(v, in, size, to);
}

int fs_archive_link(fuse_req_t req, const char *operation, int dir_fd, const char *name,
		    const char *path, const struct stat *st,
		    char kept[JSONL_ARCHIVED_NAME])
{
	struct fs_vault *v = fs_vault_of(req);
	const struct fs_archive_claim claim = {fuse_req_ctx(req)->uid, st->st_uid};
	uint64_t bytes = (uint64_t)st->st_size;
	bool linked = false;
	int rc = claim_room(req, operation, path, &claim, bytes, kept);

	if (!rc) {
		rc = link_file(v, dir_fd, name, kept, st->st_size, &linked);
		if (rc)
			fs_archive_release(v, &claim, bytes, 1);
	}
	if (rc) {
		kept[0] = '\0';
		return rc;
	}
	fs_archive_entered(v, &claim, kept, bytes, linked ? st->st_ino : 0);
	tell(req, path, bytes, kept);
	return 0;
}

void fs_archive_unlink(struct fs_vault *v, const char *kept)
{
	uint64_t bytes;

	(void)!fs_archive_drop(v, kept, &bytes);
}

int fs_archive_copy(fuse_req_t req, const char *operation, int fd, const char *path,
		    const struct stat *st)
{
	struct fs_vault *v = fs_vault_of(req);
	const struct fs_archive_claim claim = {fuse_req_ctx(req)->uid, st->st_uid};
	uint64_t bytes = (uint64_t)st->st_size;
	char to[JSONL_ARCHIVED_NAME];
	int rc = claim_room(req, operation, path, &claim, bytes, to);

	if (rc)
		return rc;
	rc = copy_whole(v, fd, st->st_size, to);
	if (rc) {
		fs_archive_release(v, &claim, bytes, 1);
		return rc;
	}
	fs_archive_entered(v, &claim, to, bytes, 0);
	tell(req, path, bytes, to);
	return 0;
}
