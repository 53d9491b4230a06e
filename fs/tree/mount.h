/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* The structs of a running mount.
 *
 * Lock order, outermost first; a thread that holds one may only take those after it:
 *
 *   follow->lock          (log/follow.c) which file a handle is on
 *   tree_lock             (fs_tree.lock, rwlock) held for reading from an open's look at
 *                         inode->stale to its handle being linked; for writing to set it,
 *                         so that whoever marks an inode stale then sees every handle
 *                         that got through. Also for reading while a name that may be
 *                         governed is looked up or moved; for writing while another file
 *                         takes the place of the one behind an inode: nobody sees the old
 *                         one afterwards
 *   inode->lock           the handles and the jsonl_file of one inode
 *   handle locks          inside lib/record/writer.c
 *   file locks            inside lib/file/file.c
 *                         (while another file takes the place of a log, its file lock
 *                         and then openlog->switching are held when tree_lock is taken:
 *                         nobody who holds tree_lock or an inode's lock waits for either)
 *   inodes_lock           (tree/inode.c, tree/path.c) the inode table, lookup counts,
 *                         parent and name: a leaf
 *   log/version.c         which version of a log a handle reads: takes that of accounts
 *   syslog, stats, quarantine, the rules (policy.c): leaves, take nothing
 *
 * A reload of the rules has its turn before all of these (reload.c); no worker takes it.
 *
 * No lock is held across fuse_reply_* of an operation that the kernel may answer with
 * another request to us, and none across fuse_lowlevel_notify_* (fs_attributes_changed
 * waits for nothing in the kernel and is the exception). */
#ifndef FS_TREE_MOUNT_H
#define FS_TREE_MOUNT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/fuse.h"
#include "tree/inode.h"
#include "vault/vault.h"

struct fs_archive;
struct fs_bypass;
struct fs_bypassers;
struct fs_class_ops;
struct fs_control;
struct fs_deferred;
struct fs_descriptors;
struct fs_handle;
struct fs_handle_list;
struct fs_identities;
struct fs_idle;
struct fs_inode_table;
struct fs_listings;
struct fs_reload;
struct fs_seen;
struct jsonl_known;
struct jsonl_policy;
struct jsonl_quarantine;

/* The tables of files below the source. Each table is private to its file, and so is its
 * lock. */
struct fs_tree {
	struct fuse_session *se;
	pthread_rwlock_t lock; /* tree_lock: see above */
	struct fs_inode root;
	const struct fs_class_ops *const *classes; /* by class */
	struct fs_inode_table *inodes;		   /* inode.c */
	struct fs_descriptors *descriptors;	   /* descriptor.c */
	struct fs_identities *identities;	   /* identity.c */
	struct fs_listings *listings;		   /* listing.c */
	struct fs_handle_list *handles;		   /* handles.c */
	_Atomic uint64_t log_names; /* changes of names of logs: rename, unlink */
	bool passthrough;	    /* kernel passthrough is on (negotiated) */
	const char *_Atomic passthrough_reason; /* static text: why it is off; NULL: on */
	/* A backing file could not be handed to the kernel. Logged once, then not tried
	 * again. */
	_Atomic bool passthrough_broken;
};

struct fs_mount {
	struct fs_vault vault; /* first: fs_vault_of */
	struct fs_tree tree;
	struct fs_seen *seen;	    /* base/seen.h */
	struct jsonl_known *known;  /* record/known.h: bad lines */
	struct fs_idle *idle;	    /* log/idle.h */
	struct fs_control *control; /* control/socket.h */
	struct fs_reload *reload;   /* control/reload.h */
	struct fs_bypass *bypass;   /* start/bypass.h */
	struct fs_bypassers *bypassers; /* virtual/bypassers.h */
	unsigned deaths; /* daemons that died at this mount before */
	bool foreground, debug;
};

static inline struct fs_mount *fs_mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Sets the tree up, once the vault is open and `classes` is set; 0 or -errno. Pair with
 * _deinit in either case. One thread. */
int fs_tree_init(struct fs_mount *m) jsonl_must_check;
void fs_tree_deinit(struct fs_mount *m);

#endif
