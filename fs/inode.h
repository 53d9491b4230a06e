/* What only the keepers of the inode table see: inode.c (the table itself), descriptor.c
 * (how a backing file is reached without keeping a descriptor for each), plain.c (what
 * the opens of one plain file must agree on) and readdir.c (what the kernel may keep of a
 * directory).
 *
 * A node is one allocation: the public struct, the private one, and the bytes of the file
 * handle. Nothing of it is persistent. */
#ifndef FS_INODE_H
#define FS_INODE_H

#include "fs.h"

struct fs_plain_state;
struct fs_listing;

struct fs_inode_private {
	/* Under table->cache_lock: */
	int fd;	       /* cached O_PATH descriptor, or -1 */
	unsigned pins; /* users of fd; a pinned descriptor is not closed */
	bool keep;     /* fd stays until the node goes: it cannot be opened again */
	struct fs_inode_private *lru_prev, *lru_next; /* unpinned, oldest first */

	/* Constant: */
	unsigned char device; /* which of table->devices; 0 is that of the root */
	signed char mount;    /* which of table->mounts can open the handle, or -1 */
	unsigned char handle_bytes; /* 0: no file handle */
	int handle_type;

	bool hashed; /* under mount->inodes_lock */
	/* Which of table->opens counts the opens of this file: that of the directory in
	 * whose listing it was last; 0: in none. */
	_Atomic uint16_t listed;

	/* Made at the first open of a plain file, then kept; under inode->lock. */
	struct fs_plain_state *plain;
	/* Made when a directory is opened, then kept; under inode->lock. */
	struct fs_listing *listing;

	unsigned char handle[]; /* under table->cache_lock */
};

#define FS_MOUNTS_MAX	 32  /* mounts below the source that file handles are used on */
#define FS_DEVICES_MAX	 255 /* devices that get inode numbers of their own */
#define FS_HANDLE_MAX	 128 /* MAX_HANDLE_SZ of the kernel */
#define FS_LISTINGS_MAX	 1024 /* counters; directories share them */
#define FS_CACHED_FD_MAX 4096
#define FS_CACHED_FD_MIN 16

struct fs_mount_point {
	int id;	  /* of name_to_handle_at(2) and mountinfo */
	int fd;	  /* a real descriptor in it, for open_by_handle_at(2); -1: none */
	bool own; /* our own mount: never to be entered */
};

struct fs_inode_table {
	bool handles; /* file handles work here; else paths are walked again */
	/* A backing file could not be handed to the kernel; said once, not tried again.
	 */
	_Atomic bool passthrough_broken;

	pthread_mutex_t cache_lock; /* a leaf: nothing is taken under it */
	struct fs_inode_private *lru_first, *lru_last;
	size_t cached, cached_max; /* descriptors in the cache, pinned ones included */

	pthread_mutex_t mounts_lock; /* a leaf */
	struct fs_mount_point mounts[FS_MOUNTS_MAX];
	int nmounts;
	dev_t devices[FS_DEVICES_MAX];
	int ndevices;

	_Atomic uint32_t opens[FS_LISTINGS_MAX]; /* see fs_listing_opened */

	struct fs_inode_private root; /* its descriptor is mount->root_fd */
};

/* ---- descriptor.c ---- */
struct fs_file_handle {
	unsigned bytes; /* 0: none */
	int type;
	int mount; /* index into table->mounts, -1: hold a descriptor */
	unsigned char data[FS_HANDLE_MAX];
};

void fs_descriptor_init(struct fs_mount *m);
void fs_descriptor_deinit(struct fs_mount *m);
/* The file handle of what `fd` refers to. 0; -ELOOP when it is our own mount; -errno. */
int fs_descriptor_identify(struct fs_mount *m, int fd,
			   struct fs_file_handle *h) jsonl_must_check;
/* Which number the device has; 0 is that of the root. */
unsigned fs_descriptor_device(struct fs_mount *m, dev_t dev);
/* Puts a descriptor (taken over) into the cache of a node, or closes it. */
void fs_descriptor_offer(struct fs_mount *m, struct fs_inode *i, int fd);
/* Makes sure that a node which is about to lose its last name stays reachable. */
void fs_descriptor_keep(struct fs_mount *m, struct fs_inode *i);
/* The node goes. */
void fs_descriptor_drop(struct fs_mount *m, struct fs_inode *i);
/* openat(2) that makes room in the cache when descriptors run out. */
int fs_descriptor_openat(struct fs_mount *m, int dir, const char *name, int flags,
			 mode_t mode) jsonl_must_check;

/* ---- inode.c ---- */
/* The node of what `fd` refers to (any descriptor, taken over), found as `name` in
 * `parent`; as fs_inode_lookup. */
int fs_inode_adopt(struct fs_mount *m, struct fs_inode *parent, const char *name, int fd,
		   struct fs_inode **inode, struct stat *st) jsonl_must_check;

/* Could this file (any descriptor of it) take the place of the one behind the node? Fills
 * in what _rebind wants. 0 or -EXDEV. */
int fs_inode_may_rebind(struct fs_mount *m, const struct fs_inode *i, int fd,
			struct fs_file_handle *h) jsonl_must_check;
/* The node stands for this file from now on; the kernel and all handles keep it. `fd`:
 * O_PATH, taken over. With tree_lock held for writing. */
void fs_inode_rebind(struct fs_mount *m, struct fs_inode *i, const struct fs_file_handle *h,
		     ino_t ino, int fd);

/* ---- descriptor.c ---- */
/* Of a node that has become another file's; fd is taken over. */
void fs_descriptor_rebind(struct fs_mount *m, struct fs_inode *i, const void *handle, int fd);

/* ---- plain.c ---- */
void fs_plain_state_free(struct fs_plain_state *s);

/* ---- readdir.c ---- */
/* A file is opened that the kernel has no pages of: reading it changes its access time, so
 * that its attributes are asked for again, and a listing of its directory is the cheapest
 * answer. Any thread. */
void fs_listing_opened(struct fs_mount *m, struct fs_inode *i);
void fs_listing_free(struct fs_listing *l);

#endif
