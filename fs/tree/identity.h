/* SPDX-License-Identifier: MIT */
/* Tells devices, mounts and files apart. Owns the table of mounts and devices and its
 * lock, a leaf. */
#ifndef FS_TREE_IDENTITY_H
#define FS_TREE_IDENTITY_H

#include <fcntl.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_mount;

#define FS_HANDLE_MAX 128 /* MAX_HANDLE_SZ of the kernel */

union fs_handle_buffer {
	struct file_handle h;
	char space[sizeof(struct file_handle) + FS_HANDLE_MAX];
};

struct fs_file_handle {
	unsigned bytes; /* 0: none */
	int type;
	int mount; /* index of the mount; -1: hold a descriptor instead */
	unsigned char data[FS_HANDLE_MAX];
};

int fs_identity_init(struct fs_mount *m) jsonl_must_check;
void fs_identity_deinit(struct fs_mount *m);
/* Returns true when file handles work here. If not, paths are walked again. */
bool fs_identity_handles(const struct fs_mount *m);
/* Returns a descriptor in the mount with this index; open until the end. */
int fs_identity_mount_fd(struct fs_mount *m, int mount);

/* Reads the file handle of the file behind `fd`. 0; -ELOOP when it is on this mount
 * itself; -errno. */
int fs_identity_of(struct fs_mount *m, int fd, struct fs_file_handle *h) jsonl_must_check;
/* Returns the number of the device; 0 is that of the root. */
unsigned fs_identity_device(struct fs_mount *m, dev_t dev);

#endif
