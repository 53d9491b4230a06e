/* SPDX-License-Identifier: MIT */
/* Shares an open log among its handles. */
#ifndef FS_LOG_OPENLOG_H
#define FS_LOG_OPENLOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "block/commit.h"
#include "tree/inode.h"

struct fs_account;
struct fs_mount;
struct fs_openlog;
struct fs_visible;
struct jsonl_file;

/* Keeps the state of a log in its node. */
struct fs_log_node {
	/* Under inode->lock: */
	struct fs_openlog *log; /* what the handles of a file share; NULL: it is closed */
	/* The length for readers, as when it was closed; on the heap. */
	struct fs_visible *visible;
	/* It failed to sync and nobody has it open. Written under inode->lock, read
	 * without. */
	_Atomic bool left;
	_Atomic bool one_each; /* the last writer closed after one append */
};

struct fs_openlog {
	struct fs_mount *m;
	struct fs_inode *inode; /* holds a reference */
	struct jsonl_file *file;
	unsigned users; /* inode->lock; being kept open counts as one */
	/* Owned by idle.c: */
	bool idle;
	int64_t idle_since;
	struct fs_openlog *idle_next, **idle_pprev;
	struct fs_account *payer; /* pays for its descriptors; account.c */
	/* When a lock held outside was met first and last, milliseconds; 0 once it was
	 * had. */
	_Atomic int64_t blocked_since, blocked_seen;
	int64_t names_asked; /* see log/follow.c; under the locks of the file */
	_Atomic bool poisoned; /* counted as poisoned in the mount's counter */
	/* Its descriptor (intent.h), or -1: none was needed. Under inode->lock. */
	struct jsonl_intent intent;
	_Atomic bool recovered; /* commits that a crash left unfinished are recovered */
	bool ordered;		/* as is_ordered() found for the file system */
	_Atomic uint64_t
	    counted_syncs; /* syncs of the file that are in the mount's counter */
	/* Owned by replace.c: odd while another file takes the place of this one, under
	 * `switching`. */
	_Atomic unsigned switches;
	pthread_mutex_t switching;
};

static inline struct fs_log_node *fs_log_node(const struct fs_inode *i)
{
	return i->of_class;
}

/* Opens the jsonl_file of an inode, if nobody has it open; `append`: with a descriptor
 * for appending. Pair with fs_openlog_put. 0; -ENOLCK: a crash left something to
 * recover, and a program outside holds the lock; -errno. */
int fs_openlog_get(struct fs_mount *m, struct fs_inode *i, bool append,
		   struct fs_openlog **log) jsonl_must_check;
void fs_openlog_put(struct fs_mount *m, struct fs_openlog *log);
/* Tries a last time, when the mount ends without handles, to sync the logs that failed
 * to. */
void fs_openlog_drain(struct fs_mount *m);
/* Adds a user, for a thread that goes on with the file after it has answered. */
struct fs_openlog *fs_openlog_ref(struct fs_openlog *log);
struct jsonl_file *fs_openlog_file(struct fs_openlog *log);
/* Returns how often another file has taken the place of this one. Waits, if one is about
 * to, until the directory is synced. Without locks. */
unsigned fs_openlog_switches(struct fs_openlog *s);
/* Notes that attributes of a log were changed: the next fsync makes that durable,
 * too. */
void fs_openlog_note_change(struct fs_inode *i);
/* Closes what is kept open of this inode, or of all (NULL). */
void fs_idle_drop(struct fs_mount *m, struct fs_inode *i);
/* Drops a user without keeping the file open. */
void fs_openlog_close(struct fs_mount *m, struct fs_openlog *s);
/* Starts the job that closes what is in the list after a while. Called without a
 * lock. */
void fs_idle_watch(struct fs_mount *m);

#endif
