/* SPDX-License-Identifier: MIT */
#include "tree/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tree/mount.h"

#define MOUNTS_MAX  32	/* mounts below the source for which file handles are used */
#define DEVICES_MAX 255 /* devices that get inode numbers of their own */

struct mount_point {
	int id;	  /* mount id, as from name_to_handle_at(2) and in mountinfo */
	int fd;	  /* a descriptor in it, for open_by_handle_at(2); -1: none */
	bool own; /* our own mount: never to be entered */
};

struct fs_identities {
	bool handles;	      /* constant */
	pthread_mutex_t lock; /* a leaf; under it: */
	struct mount_point mounts[MOUNTS_MAX];
	int nmounts;
	dev_t devices[DEVICES_MAX];
	int ndevices;
};

/* Returns true when this mount is jsonlfs's own, according to mountinfo: reading that
 * asks no file system anything. */
static bool mount_is_own(const struct fs_mount *m, int id)
{
	cleanup_free char *line = NULL;
	size_t size = 0;
	bool own = false;
	FILE *f = fopen("/proc/self/mountinfo", "re");

	while (f && !own && getline(&line, &size, f) > 0) {
		char point[PATH_MAX];
		char *type = strstr(line, " - ");
		int this;

		/* Escaped characters make names differ; a daemon that is mounted on such
		 * a path inside its own source still answers, one level deeper. */
		if (type && sscanf(line, "%d %*d %*s %*s %4095s", &this, point) == 2)
			own = this == id && strncmp(type, " - fuse", 7) == 0 &&
			      m->vault.mountpoint &&
			      strcmp(point, m->vault.mountpoint) == 0;
	}
	if (f)
		fclose(f);
	return own;
}

/* Finds or enters the mount with this id. `fd` is something in it; the first directory
 * serves to open handles. Returns its index when handles can be opened on it, else -1; or
 * -ELOOP when it is our own. */
static int mount_find(struct fs_mount *m, int id, int fd)
{
	struct fs_identities *t = m->tree.identities;
	struct mount_point *p = NULL;
	int r = -1;

	pthread_mutex_lock(&t->lock);
	for (int k = 0; k < t->nmounts && !p; k++) {
		if (t->mounts[k].id == id)
			p = &t->mounts[k];
	}
	if (!p && t->nmounts < MOUNTS_MAX) {
		p = &t->mounts[t->nmounts++];
		p->id = id;
		p->fd = -1;
		p->own = mount_is_own(m, id);
	}
	if (p && !p->own && p->fd < 0 && t->handles)
		p->fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
	if (p && p->own)
		r = -ELOOP;
	else if (p && p->fd >= 0)
		r = (int)(p - t->mounts);
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* Finds the mount id where file handles do not tell it. */
static int mount_id(int fd)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &sx) ||
	    !(sx.stx_mask & STATX_MNT_ID))
		return -1;
	return (int)sx.stx_mnt_id;
}

int fs_identity_of(struct fs_mount *m, int fd, struct fs_file_handle *h)
{
	struct fs_identities *t = m->tree.identities;
	union fs_handle_buffer buf;
	int id = -1, k;

	h->bytes = 0;
	h->mount = -1;
	buf.h.handle_bytes = FS_HANDLE_MAX;
	if (t->handles && !name_to_handle_at(fd, "", &buf.h, &id, AT_EMPTY_PATH)) {
		h->bytes = buf.h.handle_bytes;
		h->type = buf.h.handle_type;
		memcpy(h->data, buf.h.f_handle, h->bytes);
	} else {
		id = mount_id(fd);
	}
	if (id < 0)
		return 0;
	k = mount_find(m, id, fd);
	if (k == -ELOOP)
		return -ELOOP;
	if (h->bytes)
		h->mount = k;
	return 0;
}

unsigned fs_identity_device(struct fs_mount *m, dev_t dev)
{
	struct fs_identities *t = m->tree.identities;
	int k;

	pthread_mutex_lock(&t->lock);
	for (k = 0; k < t->ndevices && t->devices[k] != dev; k++)
		;
	if (k == t->ndevices) {
		if (k < DEVICES_MAX)
			t->devices[t->ndevices++] = dev;
		else
			k = DEVICES_MAX; /* the rest share one */
	}
	pthread_mutex_unlock(&t->lock);
	return (unsigned)k;
}

/* Returns true when a file handle of the root can really be opened. */
static bool handles_work(struct fs_mount *m)
{
	cleanup_close int real = -1, again = -1;
	union fs_handle_buffer buf;
	int id;

	buf.h.handle_bytes = FS_HANDLE_MAX;
	if (name_to_handle_at(m->vault.root_fd, "", &buf.h, &id, AT_EMPTY_PATH))
		return false;
	real = openat(m->vault.root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (real < 0)
		return false;
	again = open_by_handle_at(real, &buf.h, O_PATH | O_CLOEXEC);
	return again >= 0;
}

int fs_identity_init(struct fs_mount *m)
{
	struct fs_identities *t = calloc(1, sizeof(*t));
	struct fs_file_handle root;

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	m->tree.identities = t;
	t->handles = handles_work(m);
	/* Enters the root's mount and device as the first ones. */
	if (fs_identity_of(m, m->vault.root_fd, &root) || root.mount < 0)
		t->handles = false;
	return 0;
}

void fs_identity_deinit(struct fs_mount *m)
{
	struct fs_identities *t = m->tree.identities;

	if (!t)
		return;
	for (int k = 0; k < t->nmounts; k++) {
		if (t->mounts[k].fd >= 0)
			close(t->mounts[k].fd);
	}
	pthread_mutex_destroy(&t->lock);
	free(t);
	m->tree.identities = NULL;
}

bool fs_identity_handles(const struct fs_mount *m)
{
	return m->tree.identities->handles;
}

int fs_identity_mount_fd(struct fs_mount *m, int mount)
{
	struct fs_identities *t = m->tree.identities;
	int fd;

	pthread_mutex_lock(&t->lock);
	fd = t->mounts[mount].fd;
	pthread_mutex_unlock(&t->lock);
	return fd;
}
