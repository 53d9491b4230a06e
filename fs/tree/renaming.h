/* SPDX-License-Identifier: MIT */
/* Describes a rename request to the classes on both sides, and has the steps that they
 * share. */
#ifndef FS_TREE_RENAMING_H
#define FS_TREE_RENAMING_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fuse.h"

struct fs_inode;
struct fs_mount;
struct jsonl_settings;

struct fs_renaming {
	fuse_req_t req;
	struct fs_mount *m;
	struct fs_inode *old_dir, *new_dir;
	const char *old_name, *new_name;
	unsigned flags;
	int old_fd, new_fd;
	char old_path[PATH_MAX], new_path[PATH_MAX];
	struct fs_inode *src, *dst; /* dst NULL: there is none */
	struct stat src_st, dst_st;
	const struct jsonl_settings *settings; /* of new_path */
	/* onto a log: the new records are in it, and stay */
	bool appended;
	const char *why; /* why it was refused; NULL: because of the records in the log */
	/* Renames a log onto another one of its rotation chain. 0; -EPERM: it is no such
	 * chain; -errno. Set by names/. */
	int (*chain)(struct fs_renaming *r);
};

/* Renames as the backing file system does. 0 or -errno. */
int fs_rename_plain(struct fs_renaming *r) jsonl_must_check;
/* Logs the refusal and returns `code`. */
int fs_rename_refuse(struct fs_renaming *r, int code, const char *path, const char *why);
/* Takes the source away from its writers (fs_stale_seize). 0, or the refusal. Pair with
 * fs_rename_crossed or fs_stale_release. */
int fs_rename_seize(struct fs_renaming *r) jsonl_must_check;
/* Notes that the file behind the new name is of another class than the source's node:
 * opens of that node answer ESTALE, and the kernel looks the name up again. */
void fs_rename_crossed(struct fs_renaming *r);
/* Logs that a log was rotated. */
void fs_rename_rotated(const struct fs_renaming *r);
/* Renames to a name of another class that has no hook for it. Handles that are open keep
 * their class. 0 or -errno. */
int fs_rename_class(struct fs_renaming *r) jsonl_must_check;
/* Finds when the content of the source was begun: when the file was made, or emptied
 * last. False: it is not known. */
bool fs_rename_begun(struct fs_renaming *r, struct timespec *begun);

#endif
