/* SPDX-License-Identifier: MIT */
/* Acts as the calling user, on the serving thread alone. Uses raw system calls, because
 * those of libc change all threads; and a umask of the thread's own, because Linux keeps
 * that in the file-system context, which threads share at first. The kernel has already
 * decided that the caller may do what it asked for; here the result gets the right
 * owner. */
#include "base/caller.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/kind.h"
#include "base/syslog.h"

#define CALLER_NOBODY 65534
/* Bytes: a disk on which others have so many left is far from full. */
#define CALLER_ENOUGH (4ULL << 30)

static _Thread_local struct {
	bool ready;
	struct __user_cap_data_struct caps[2]; /* capabilities before the switch */
} thread;

/* The user that the daemon runs as; only root's daemon may act as others. Set once. */
static uid_t daemon_uid;

void fs_caller_init(uid_t uid)
{
	daemon_uid = uid;
}

bool fs_caller_may_switch(void)
{
	return daemon_uid == 0;
}

static int thread_prepare(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

	if (thread.ready)
		return 0;
	if (unshare(CLONE_FS) || syscall(SYS_capget, &head, thread.caps))
		return -errno;
	thread.ready = true;
	return 0;
}

static uid_t set_fsuid(uid_t uid)
{
	return (uid_t)syscall(SYS_setfsuid, uid);
}

static gid_t set_fsgid(gid_t gid)
{
	return (gid_t)syscall(SYS_setfsgid, gid);
}

/* Gives the capabilities back that are lost with root's fsuid. They are needed for
 * directories that the caller may write to by a supplementary group, and for devices
 * that it may make. */
static int keep_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

	return syscall(SYS_capset, &head, thread.caps) ? -errno : 0;
}

static int switch_ids(struct fs_caller *saved, uid_t uid, gid_t gid)
{
	saved->switched = true;
	saved->gid = set_fsgid(gid);
	saved->uid = set_fsuid(uid);
	/* Setting an id that does not exist changes nothing, and returns the present
	 * one. */
	if (set_fsgid((gid_t)-1) == gid && set_fsuid((uid_t)-1) == uid)
		return 0;
	fs_caller_restore(saved);
	return -EPERM;
}

/* Takes on ids, without capabilities or umask. */
static int lend_ids(struct fs_caller *saved, uid_t uid, gid_t gid)
{
	int r = switch_ids(saved, uid, gid);

	if (!r && uid != saved->uid) {
		r = keep_capabilities();
		if (r)
			fs_caller_restore(saved);
	}
	return r;
}

int fs_caller_pay(const struct fs_ids *who, struct fs_caller *saved)
{
	int r;

	*saved = (struct fs_caller){0};
	if (daemon_uid != 0 || who->uid == 0)
		return 0;
	r = thread_prepare();
	return r ? r : lend_ids(saved, who->uid, who->gid);
}

struct fs_ids fs_caller_ids(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct fs_ids){ctx->uid, ctx->gid};
}

int fs_caller_become(fuse_req_t req, struct fs_caller *saved)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	int r = thread_prepare();

	*saved = (struct fs_caller){0};
	if (r)
		return r;
	saved->umask = umask(ctx->umask & 0777);
	saved->masked = true;
	if (daemon_uid != 0)
		return 0;
	return lend_ids(saved, ctx->uid, ctx->gid);
}

/* Returns the fsgid for a change of content. A setgid bit without group execution stays
 * when a member of the group writes, who may be that by a supplementary group, which the
 * thread does not have: then that is its fsgid. */
static gid_t content_gid(fuse_req_t req, int fd)
{
	gid_t gid = fuse_req_ctx(req)->gid;
	struct stat st;

	if (fstat(fd, &st) == 0 && (st.st_mode & (S_ISGID | S_IXGRP)) == S_ISGID &&
	    st.st_gid != gid && fs_caller_in_group(req, st.st_gid))
		return st.st_gid;
	return gid;
}

int fs_caller_content(fuse_req_t req, int fd, struct fs_caller *saved)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	*saved = (struct fs_caller){0};
	if (daemon_uid != 0 || ctx->uid == 0)
		return 0;
	return switch_ids(saved, ctx->uid, content_gid(req, fd));
}

bool fs_caller_reserve(int fd, bool *near)
{
	struct statfs st;
	uint64_t kept, enough;

	*near = false;
	if (fstatfs(fd, &st) || !fs_kind_of(&st)->keeps_back || st.f_bfree <= st.f_bavail)
		return false;
	kept = st.f_bfree - st.f_bavail;
	/* Where very much is kept back, less than that would always be left. */
	enough = CALLER_ENOUGH / (uint64_t)st.f_bsize;
	*near = st.f_bavail < (kept < enough ? kept : enough);
	return true;
}

int fs_caller_backing(fuse_req_t req, int fd, struct fs_caller *saved)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct weak[2];
	bool near;
	int r;

	/* Its ids alone would show that it is root, or another user for whom blocks are
	 * kept. */
	*saved = (struct fs_caller){0};
	if (daemon_uid == 0 && fs_caller_reserve(fd, &near))
		return switch_ids(saved, CALLER_NOBODY, CALLER_NOBODY);
	if (daemon_uid == 0 && fuse_req_ctx(req)->uid != 0)
		return fs_caller_content(req, fd, saved);
	r = thread_prepare();
	if (r)
		return r;
	memcpy(weak, thread.caps, sizeof(weak));
	weak[0].effective &= ~(1U << CAP_FSETID);
	if (syscall(SYS_capset, &head, weak))
		return -errno;
	saved->weakened = true;
	return 0;
}

void fs_caller_restore(struct fs_caller *saved)
{
	if (saved->weakened && keep_capabilities())
		abort();
	if (saved->masked)
		umask(saved->umask);
	if (saved->switched) {
		set_fsuid(saved->uid);
		set_fsgid(saved->gid);
		/* With the wrong ids the thread would serve the next caller wrongly. */
		if (set_fsuid((uid_t)-1) != saved->uid ||
		    set_fsgid((gid_t)-1) != saved->gid)
			abort();
	}
	saved->masked = saved->switched = saved->weakened = false;
}

bool fs_caller_in_group(fuse_req_t req, gid_t gid)
{
	cleanup_free gid_t *list = NULL;
	int n, got;

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	n = fuse_req_getgroups(req, 0, NULL);
	if (n <= 0)
		return false;
	list = calloc((size_t)n, sizeof(*list));
	if (!list)
		return false;
	got = fuse_req_getgroups(req, n, list);
	for (int k = 0; k < got && k < n; k++) {
		if (list[k] == gid)
			return true;
	}
	return false;
}

bool fs_caller_clear_privileges(int fd)
{
	struct stat st;
	mode_t mode;

	if (fstat(fd, &st) < 0)
		return false;
	mode = st.st_mode & 07777;
	if (mode & S_ISUID)
		mode &= ~(mode_t)S_ISUID;
	if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
		mode &= ~(mode_t)S_ISGID;
	if (mode != (st.st_mode & 07777) && fchmod(fd, mode) < 0)
		FS_SYSLOG(LOG_ERR, (uid_t)-1, "privileges-kept",
			  FS_INT("inode", st.st_ino),
			  FS_STR("reason", jsonl_error_text(-errno)));
	if (mode & (S_IXUSR | S_IXGRP | S_IXOTH))
		fremovexattr(fd, "security.capability");
	return mode != (st.st_mode & 07777);
}
