/* SPDX-License-Identifier: MIT */
/* Examines a mount point by the mount table, which no daemon has to answer for: asking
 * the path itself would hang if its file system hangs. */
#include "start/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/lock.h"
#include "start/exit.h"

#define MOUNTPOINT_TYPE	      "fuse.jsonlfs"
#define MOUNTPOINT_MAX_LAYERS 64 /* dead mounts, one on another, that are cleared */
#define MOUNTPOINT_LOCK_MS 10000

char *fs_mountpoint_resolve(const char *path)
{
	char link[64], target[PATH_MAX];
	cleanup_close int fd = -1;
	ssize_t n;

	/* realpath(3) may want to stat the directory, and a dead mount does not answer.
	 */
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, target, sizeof(target));
	if (n < 0)
		return realpath(path, NULL);
	if ((size_t)n == sizeof(target)) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	return strndup(target, (size_t)n);
}

/* Decodes \040 and the like of the mount table, in place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		unsigned code;

		if (s[0] == '\\' && sscanf(s + 1, "%3o", &code) == 1) {
			*to++ = (char)code;
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

struct mount_entry {
	bool found;
	char *type, *source, *device; /* owned */
};

static void entry_deinit(struct mount_entry *e)
{
	free(e->type);
	free(e->source);
	free(e->device);
	*e = (struct mount_entry){0};
}

/* Parses a line: ID PARENT MAJ:MIN ROOT TARGET OPTIONS [TAG...] - TYPE SOURCE
 * SUPEROPTIONS */
static int entry_parse(char *line, const char *mountpoint, struct mount_entry *e)
{
	char *rest = strstr(line, " - "), *fields[5], *type, *source, *target;

	for (int i = 0; i < 5; i++) {
		fields[i] = strsep(&line, " ");
		if (!fields[i])
			return 0;
	}
	target = fields[4];
	if (!rest)
		return 0;
	rest += 3;
	type = strsep(&rest, " ");
	source = strsep(&rest, " ");
	if (!source)
		return 0;
	unescape(target);
	unescape(source);
	if (strcmp(target, mountpoint) != 0)
		return 0;
	entry_deinit(e);
	e->found = true;
	e->type = strdup(type);
	e->source = strdup(source);
	e->device = strdup(fields[2]);
	return e->type && e->source && e->device ? 0 : -ENOMEM;
}

/* Finds the topmost mount on this path: later lines lie over earlier ones. */
static int entry_find(const char *mountpoint, struct mount_entry *e)
{
	cleanup_free char *line = NULL;
	size_t size = 0;
	FILE *table;
	int r = 0;

	entry_deinit(e);
	table = fopen("/proc/self/mountinfo", "re");
	if (!table)
		return -errno;
	while (!r && getline(&line, &size, table) >= 0) {
		/* Cut at the newline: strstr and strsep then see one line. */
		line[strcspn(line, "\n")] = '\0';
		r = entry_parse(line, mountpoint, e);
	}
	fclose(table);
	return r;
}

int fs_mountpoint_probe(const char *mountpoint)
{
	struct statx sx;
	cleanup_close int fd = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	/* Asks past the kernel's cache, whose attributes may have outlived the
	 * daemon. */
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &sx))
		return -errno;
	return 0;
}

static int clear_with_fusermount(const char *mountpoint)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-z", "--", mountpoint, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

int fs_mountpoint_clear(const char *mountpoint)
{
	if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		return 0;
	return errno == EPERM ? clear_with_fusermount(mountpoint) : -errno;
}

int fs_mountpoint_check(const char *mountpoint, const char *fsname,
			enum fs_mountpoint *state)
{
	struct mount_entry e = {0};
	int r = 0;

	*state = FS_MOUNTPOINT_FREE;
	for (int layer = 0; layer < MOUNTPOINT_MAX_LAYERS; layer++) {
		r = entry_find(mountpoint, &e);
		if (r || !e.found || strcmp(e.type, MOUNTPOINT_TYPE) != 0)
			break;
		r = fs_mountpoint_probe(mountpoint);
		if (r != -ENOTCONN && r != -ECONNABORTED) {
			if (strcmp(e.source, fsname) == 0)
				*state = FS_MOUNTPOINT_OURS;
			r = 0;
			break;
		}
		r = fs_mountpoint_clear(mountpoint);
		if (r) {
			fprintf(stderr,
				"jsonlfs: %s is a dead mount and cannot be cleared: %s\n",
				mountpoint, jsonl_error_text(r));
			entry_deinit(&e);
			return FS_EXIT_MOUNT;
		}
		fprintf(stderr, "jsonlfs: cleared the dead mount on %s\n", mountpoint);
	}
	entry_deinit(&e);
	if (r)
		fprintf(stderr, "jsonlfs: cannot read the mount table: %s\n",
			jsonl_error_text(r));
	return r ? FS_EXIT_SYSTEM : 0;
}

char *fs_mountpoint_device(const char *mountpoint)
{
	struct mount_entry e = {0};
	char *device;

	if (entry_find(mountpoint, &e) == 0 && e.device)
		device = steal_ptr(&e.device);
	else
		device = strdup("");
	entry_deinit(&e);
	return device;
}

bool fs_mountpoint_is_dead(const char *mountpoint, const char *device)
{
	cleanup_free char *there = fs_mountpoint_device(mountpoint);
	int r;

	if (!there || strcmp(there, device) != 0)
		return false;
	r = fs_mountpoint_probe(mountpoint);
	return r == -ENOTCONN || r == -ECONNABORTED;
}

void fs_mountpoint_abort(const char *mountpoint, const char *device)
{
	cleanup_close int fd = -1;
	unsigned connection;
	char path[64];

	if (sscanf(device, "0:%u", &connection) != 1)
		return;
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", connection);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	/* Without the control file system: a forced unmount by root aborts, too. */
	if (fd < 0 || write(fd, "1", 1) != 1)
		umount2(mountpoint, MNT_FORCE | UMOUNT_NOFOLLOW);
}

int fs_mountpoint_lock(const char *mountpoint)
{
	cleanup_close int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 && fs_lock_wait(fd, MOUNTPOINT_LOCK_MS) == 0 ? steal_fd(&fd) : -1;
}
