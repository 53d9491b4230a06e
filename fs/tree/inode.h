/* SPDX-License-Identifier: MIT */
/* Keeps one node for each backing file and class that the kernel, a handle or a child
 * knows.
 *
 * A node is one allocation: the public struct, the private one, the bytes of the file
 * handle, and what its class keeps. Nothing of it is persistent. */
#ifndef FS_TREE_INODE_H
#define FS_TREE_INODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"
#include "rules/config.h"

struct fs_file_handle;
struct fs_handle;
struct fs_inode;
struct fs_inode_private;
struct fs_listing;
struct fs_mount;
struct fs_openlog;
struct fs_plain_state;
struct fs_visible;

struct fs_inode {
	/* The key. One backing file under two classes is two nodes. Constant, except the
	 * number: a file that is replaced keeps its node (fs_inode_rebind). */
	dev_t dev;
	_Atomic ino_t ino;
	_Atomic ino_t was[3]; /* earlier numbers, if the file was replaced */
	/* Part of the number by which the kernel knows the node: it changes when a file
	 * is replaced that programs go on reading. Set with tree_lock held for writing.
	 */
	_Atomic unsigned char edition;
	enum jsonl_class class;
	mode_t type; /* st_mode & S_IFMT */
	bool state;  /* below .jsonlfs: read-only through the mount */
	int virtual; /* enum fs_virtual: made when read, has no backing file */

	/* Under inodes_lock: */
	uint64_t nlookup; /* the kernel's references */
	uint64_t refs;	  /* ours: handles, children, requests under way */
	/* directories and logs (without file handles all files): where it was last found
	 */
	struct fs_inode *parent;
	char *name;
	struct fs_inode *hash_next;

	pthread_mutex_t lock;
	/* Under lock: */
	struct fs_inode_private *priv;
	struct fs_handle *handles; /* open handles, linked by next_of_inode */
	unsigned writers;	   /* handles among them that are open for writing */
	unsigned readers;	   /* handles that are not open for writing */
	bool stale;		   /* renamed to another class: OPEN answers ESTALE */
	/* a rename is in progress: opens for writing get ESTALE, reading is allowed */
	bool seized;
	/* an O_TMPFILE that got the name of a log: it takes no more writes */
	bool sealed;
	/* The reload of the rules after which its class was found, and the one after
	 * which the kernel was told to look again (reload.h). */
	_Atomic unsigned serial, asked;
	/* Between hosts: the servers do not know its file any more, but its name may
	 * still lead to it here. */
	_Atomic bool gone;
	void *of_class; /* what its class keeps; classes.h */
};

enum fs_virtual { FS_VIRTUAL_NONE, FS_VIRTUAL_STATUS, FS_VIRTUAL_WRITERS };

struct fs_inode_private {
	/* Under the lock of the cache (descriptor_cache.c): */
	int fd;	       /* cached O_PATH descriptor, or -1 */
	unsigned pins; /* users of fd; a pinned descriptor is not closed */
	/* fd stays open until the node is freed: it cannot be opened again */
	bool keep;
	struct fs_inode_private *lru_prev, *lru_next; /* unpinned, oldest first */

	/* Constant: */
	/* number of its device (identity.c); 0 is that of the root */
	unsigned char device;
	/* number of the mount (identity.c) that can open the handle, or -1 */
	signed char mount;
	unsigned char handle_bytes; /* 0: no file handle */
	int handle_type;

	bool hashed; /* under inodes_lock */
	/* Number of the counter (listing.c) that counts the opens of this file: that of
	 * the directory in whose listing it was last; 0: none. */
	_Atomic uint16_t listed;

	/* Made when a directory is opened, then kept; under inode->lock. */
	struct fs_listing *listing;

	unsigned char handle[]; /* under the lock of the cache */
};

int fs_inode_table_init(struct fs_mount *m) jsonl_must_check;
void fs_inode_table_deinit(struct fs_mount *m);
struct fs_inode *fs_inode_of(struct fs_mount *m, fuse_ino_t ino);
fuse_ino_t fs_inode_number(const struct fs_mount *m, const struct fs_inode *i);
/* Returns the number of the node that the file behind `i` has in another class, or 0. The
 * node may be freed at any time, so this is for notifications of the kernel only. */
fuse_ino_t fs_inode_number_as(struct fs_mount *m, const struct fs_inode *i,
			      enum jsonl_class class);
struct fs_inode *fs_inode_ref(struct fs_mount *m, struct fs_inode *i);
void fs_inode_unref(struct fs_mount *m, struct fs_inode *i);
/* Turns one of our references into a lookup count of the kernel's. */
void fs_inode_to_kernel(struct fs_mount *m, struct fs_inode *i);
void fs_inode_forget(struct fs_mount *m, struct fs_inode *i, uint64_t nlookup);
/* Returns the node of this backing file and class with a reference, or NULL. */
struct fs_inode *fs_inode_find(struct fs_mount *m, dev_t dev, ino_t ino,
			       enum jsonl_class class);
/* Notes another name or parent of a node. Call it for every rename, whatever its type. */
void fs_inode_moved(struct fs_mount *m, struct fs_inode *dir, struct fs_inode *parent,
		    const char *name);
/* Makes the node stand for another file; the kernel and all handles keep it. `fd`:
 * O_PATH, taken over. tree_lock is held for writing. */
void fs_inode_rebind(struct fs_mount *m, struct fs_inode *i,
		     const struct fs_file_handle *h, ino_t ino, int fd);
/* Returns the first node for which fn is true, with a reference, or NULL. fn runs under
 * inodes_lock and takes no lock. */
struct fs_inode *fs_inodes_find(struct fs_mount *m, bool (*fn)(const struct fs_inode *i));
void fs_node_free(struct fs_mount *m, struct fs_inode *i);
struct fs_inode *fs_node_new(struct fs_mount *m, const struct stat *st,
			     enum jsonl_class class, const struct fs_file_handle *h);
/* Returns the node with this key and handle, with a reference; *spare is used when it is
 * new. */
struct fs_inode *fs_node_enter(struct fs_mount *m, struct fs_inode *parent,
			       const char *name, struct fs_inode **spare,
			       const struct fs_file_handle *h);

#endif
