/* SPDX-License-Identifier: MIT */
/* Puts a new mount in the place of a dead one. Programs must never see the bare
 * directory, so the new mount is made detached, put beneath the dead one (Linux 6.5),
 * and appears when that is removed. Before 6.5 it is put on top of the dead one, which
 * stays below until the end; unmounting takes the kernel milliseconds. Without root
 * fusermount3 unmounts and mounts: it can mount neither beneath nor on top of a dead
 * mount. */
#include "start/remount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/syslog.h"
#include "rules/config.h"
#include "start/exit.h"
#include "start/mountpoint.h"
#include "start/options.h"
#include "start/supervise.h"
#include "tree/mount.h"

#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x00000200
#endif

static bool
    made_apart; /* the mount was made here, so that libfuse does not know where it is */

/* Returns true when `word` is in a comma-separated list. */
static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *s = list; s && (s = strstr(s, word)); s += n) {
		if ((s == list || s[-1] == ',') && (s[n] == ',' || !s[n]))
			return true;
	}
	return false;
}

bool fs_remount_allowed(const struct fs_mount *m, const struct fs_options *o)
{
	return m->vault.config.supervise && !m->foreground &&
	       !has_word(o->kernel, "auto_unmount");
}

static unsigned mount_attributes(const struct fs_mount *m, const struct fs_options *o)
{
	return MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
	       (m->vault.config.readonly ? MOUNT_ATTR_RDONLY : 0U) |
	       (has_word(o->kernel, "noexec") ? MOUNT_ATTR_NOEXEC : 0U);
}

static int set_string(int context, const char *key, const char *value)
{
	return fsconfig(context, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

static int set_number(int context, const char *key, const char *format, unsigned n)
{
	char text[32];

	(void)snprintf(text, sizeof(text), format, n);
	return set_string(context, key, text);
}

static int set_flag(int context, const char *key, bool on)
{
	if (!on)
		return 0;
	return fsconfig(context, FSCONFIG_SET_FLAG, key, NULL, 0) < 0 ? -errno : 0;
}

/* Configures the mount as libfuse does for the first one. */
static int configure(int context, const struct fs_mount *m, const struct fs_options *o,
		     int device)
{
	const struct jsonl_config *c = &m->vault.config;
	const char *fsname = c->fsname ? c->fsname : m->vault.source;
	int r = set_string(context, "source", fsname);

	r = r ? r : set_string(context, "subtype", "jsonlfs");
	r = r ? r : set_number(context, "fd", "%u", (unsigned)device);
	r = r ? r : set_number(context, "rootmode", "%o", S_IFDIR);
	r = r ? r : set_number(context, "user_id", "%u", getuid());
	r = r ? r : set_number(context, "group_id", "%u", getgid());
	r = r ? r : set_flag(context, "default_permissions", c->default_permissions);
	r = r ? r
	      : set_flag(context, "allow_other",
			 c->allow_other || c->allow_root || !c->noallow_other);
	r = r ? r : set_flag(context, "ro", c->readonly);
	r = r ? r : set_flag(context, "sync", has_word(o->kernel, "sync"));
	r = r ? r : set_flag(context, "dirsync", has_word(o->kernel, "dirsync"));
	if (!r && fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	return r;
}

/* Makes a detached mount. Its descriptor, or -errno. */
static int make_apart(const struct fs_mount *m, const struct fs_options *o, int device)
{
	cleanup_close int context = fsopen("fuse", FSOPEN_CLOEXEC);
	int fd, r;

	if (context < 0)
		return -errno;
	r = configure(context, m, o, device);
	if (r)
		return r;
	fd = fsmount(context, FSMOUNT_CLOEXEC, mount_attributes(m, o));
	return fd < 0 ? -errno : fd;
}

static int put(int fd, const char *mountpoint, unsigned flags)
{
	return move_mount(fd, "", AT_FDCWD, mountpoint, MOVE_MOUNT_F_EMPTY_PATH | flags) <
		       0
		   ? -errno
		   : 0;
}

static int take_away(const char *mountpoint)
{
	return umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

/* Announces the mount, so that it is known as ours if the daemon dies before it serves.
 */
static void announce(int fd)
{
	struct statx sx;
	char device[32];

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &sx))
		return;
	(void)snprintf(device, sizeof(device), "%u:%u", sx.stx_dev_major,
		       sx.stx_dev_minor);
	fs_supervise_mounting(device);
}

static int replace(const struct fs_mount *m, const struct fs_options *o, int device)
{
	cleanup_close int fd = make_apart(m, o, device);
	int r;

	if (fd < 0)
		return fd;
	announce(fd);
	r = put(fd, m->vault.mountpoint, MOVE_MOUNT_BENEATH);
	if (!r)
		return take_away(m->vault.mountpoint);
	return fs_supervise_bury() ? put(fd, m->vault.mountpoint, 0) : r;
}

/* Makes libfuse serve a connection that was made here. */
static int adopt(struct fs_mount *m, int *device)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/dev/fd/%d", *device);
	if (fuse_session_mount(m->tree.se, path))
		return -EINVAL;
	(void)steal_fd(device);
	made_apart = true;
	return 0;
}

static int remount_as_root(struct fs_mount *m, const struct fs_options *o)
{
	cleanup_close int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	int r;

	if (device < 0)
		return -errno;
	r = replace(m, o, device);
	return r ? r : adopt(m, &device);
}

int fs_remount(struct fs_mount *m, const struct fs_options *o)
{
	enum fs_mountpoint state;
	int r = geteuid() == 0 ? remount_as_root(m, o) : -EPERM;

	if (!r)
		return 0;
	/* All dead mounts are cleared; the rest is as for the first mount. */
	r = fs_mountpoint_check(
	    m->vault.mountpoint,
	    m->vault.config.fsname ? m->vault.config.fsname : m->vault.source, &state);
	if (r || state != FS_MOUNTPOINT_FREE)
		return FS_EXIT_MOUNT;
	return fuse_session_mount(m->tree.se, m->vault.mountpoint) ? FS_EXIT_MOUNT : 0;
}

void fs_remount_end(struct fs_mount *m, bool severed)
{
	fuse_session_unmount(m->tree.se);
	if (made_apart && !severed && take_away(m->vault.mountpoint))
		FS_SYSLOG(LOG_WARNING, (uid_t)-1, "unmount-failed",
			  FS_STR("mountpoint", m->vault.mountpoint),
			  FS_STR("reason", jsonl_error_text(-errno)));
}
