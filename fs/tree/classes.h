/* SPDX-License-Identifier: MIT */
/* Says which class a name has, and what holds for files of it. Any thread. */
#ifndef FS_TREE_CLASSES_H
#define FS_TREE_CLASSES_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"
#include "tree/inode.h"
#include "tree/mount.h"

struct fs_renaming;
struct jsonl_settings;
struct jsonl_stage;

/* Returns the settings for a file by the name under which it was last found. Callers keep
 * them and do not ask again for each write. NULL: out of memory. */
const struct jsonl_settings *fs_settings_of(struct fs_mount *m, struct fs_inode *i);
/* Returns true when `parent` (or the name in it) belongs to the state directory, which
 * programs cannot change. */
bool fs_name_is_state(struct fs_mount *m, const struct fs_inode *parent,
		      const char *name);

/* Decisions of a class: one const table for each, with the same operations for all of
 * them. Entries may be NULL where that is said. */
struct fs_class_ops {
	/* Bytes that the class keeps with each node, zeroed, in inode->of_class. */
	size_t node_size;
	/* Opens the file. 0 or -errno. tree_lock is held for reading, unless `links`:
	 * then this takes that lock itself when it links its handle. */
	int (*open)(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi);
	bool links;
	/* Opens the file that this request has just made in `dir`, by its descriptor,
	 * which is taken over; with `anew` by the node, and fd is -1. 0 or -errno. */
	int (*created)(fuse_req_t req, struct fs_inode *i, int fd,
		       struct fuse_file_info *fi, struct fs_inode *dir);
	bool anew;
	/* Sets the length by the file's name. 0 or -errno. NULL: as the backing file
	 * system does. */
	int (*truncate)(fuse_req_t req, struct fs_inode *i, off_t size);
	/* Notes a change of attributes, which the next fsync must make durable, too. May
	 * be NULL. */
	void (*note_change)(struct fs_inode *i);
	/* Returns the change time, in ns, of when an open emptied the file last; 0: not
	 * while the node was known. May be NULL. */
	int64_t (*begun)(const struct fs_inode *i);
	/* Corrects st_size to what readers see. Returns true when programs have the file
	 * open to append to it, or had a moment ago, and others to read it: then the
	 * kernel must not keep the answer. May be NULL. */
	bool (*fix_stat)(struct fs_mount *m, struct fs_inode *i, struct stat *st);
	/* Returns a descriptor of the file that its handles share, or -1. Under
	 * inode->lock. May be NULL. */
	int (*any_fd)(struct fs_inode *i);
	/* Closes what the class keeps open of a node that the kernel has forgotten: the
	 * file may be gone. May be NULL. */
	void (*forgotten)(struct fs_mount *m, struct fs_inode *i);
	/* Rename a regular file: _onto a regular file that has a name of this class;
	 * _into such a name in any other case, or where the first is NULL; _out of a name
	 * of this class to one of another class, unless the other's rename_onto decides.
	 * 0 or -errno. NULL: as the backing file system does. */
	int (*rename_onto)(struct fs_renaming *r);
	int (*rename_into)(struct fs_renaming *r);
	int (*rename_out)(struct fs_renaming *r);
	/* Notes that a regular file was renamed from or to a name of this class. If both
	 * classes have it, only that of the old name is called. May be NULL. */
	void (*renamed)(struct fs_renaming *r);
	/* Editors save files of this class by a rename, which is not worth a log line. */
	bool saved_by_rename;
	/* Files grow by appending alone: they show FS_APPEND_FL, and a name with records
	 * is neither exchanged, nor whited out, nor replaced by anything but a file. */
	bool append_only;
	/* The kernel never reads and writes the backing file by itself (passthrough). */
	bool through_daemon;
	/* Judges the content of a file without a name that is about to get one of this
	 * class. 0 or -errno. NULL: no such file may get one. */
	int (*admit)(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
		     const char *path);
	/* Removes a name of this class. 0 or -errno. tree_lock is held for reading. NULL:
	 * as for a plain file. */
	int (*unlink)(fuse_req_t req, const struct jsonl_settings *settings, int dir_fd,
		      const char *name, const char *path);
	/* Appends what a handle had staged when the mount ended before its close. 0;
	 * -ECANCELED: the settings forbid it; -errno. NULL: the class stages nothing. */
	int (*recover)(struct fs_mount *m, const struct jsonl_settings *settings,
		       const char *path, struct jsonl_stage *stage);
	bool unframed; /* staged bytes have no records: all of them count */
	/* Frees what inode->of_class refers to. May be NULL. */
	void (*inode_free)(struct fs_inode *i);
};

/* Returns the table of a node's class. */
static inline const struct fs_class_ops *fs_class_of(const struct fs_mount *m,
						     const struct fs_inode *i)
{
	return m->tree.classes[i->class];
}

/* Notes a change of attributes. */
static inline void fs_note_change(const struct fs_mount *m, struct fs_inode *i)
{
	if (fs_class_of(m, i)->note_change)
		fs_class_of(m, i)->note_change(i);
}

#endif
