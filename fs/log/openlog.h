/* SPDX-License-Identifier: MIT */
/* A log that somebody has open: what its handles share. */
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

/* State of a log that its node has. */
struct fs_log_node {
	/* Under inode->lock: */
	struct fs_openlog *log; /* what the handles of a file share; NULL: it is closed */
	struct fs_visible *visible; /* as it was when closed; on the heap */
	/* It failed to sync and nobody has it open. Written under inode->lock, read without. */
	_Atomic bool left;
	_Atomic bool one_each; /* the last writer closed after one append */
};

struct fs_openlog {
	struct fs_mount *m;
	struct fs_inode *inode; /* holds a reference */
	struct jsonl_file *file;
	unsigned users; /* inode->lock; being kept open counts as one */
	/* idle.c's: */
	bool idle;
	int64_t idle_since;
	struct fs_openlog *idle_next, **idle_pprev;
	struct fs_account *payer; /* for its descriptors; account.c */
	/* A lock outside: found held first and last, milliseconds, 0 when it was had. */
	_Atomic int64_t blocked_since, blocked_seen;
	int64_t names_asked; /* see log/follow.c; under the locks of the file */
	_Atomic bool poisoned; /* in the mount's count of such files */
	/* Its descriptor (intent.h), or -1: none was needed. Under inode->lock. */
	struct jsonl_intent intent;
	_Atomic bool recovered; /* what a crash left of its commits is in order */
	bool ordered;		/* is the file system; found out with the first intent */
	_Atomic uint64_t
	    counted_syncs; /* of the file's, that are in the mount's counter */
	/* replace.c's: odd while another file takes the place of this one, for which
	 * `switching` is held. */
	_Atomic unsigned switches;
	pthread_mutex_t switching;
};

static inline struct fs_log_node *fs_log_node(const struct fs_inode *i)
{
	return i->of_class;
}

/* The jsonl_file of an inode, made when nobody has it open; `append`: with a descriptor
 * for appending. Pair with fs_openlog_put. 0; -ENOLCK: what a crash left must be brought in
 * order, and a program outside holds the lock; -errno. */
int fs_openlog_get(struct fs_mount *m, struct fs_inode *i, bool append,
		   struct fs_openlog **log) jsonl_must_check;
void fs_openlog_put(struct fs_mount *m, struct fs_openlog *log);
/* The mount ends, with no handle left: what is remembered because it failed to sync is
 * looked at a last time. */
void fs_openlog_drain(struct fs_mount *m);
/* One more user, for a thread that goes on with the file after it has answered. */
struct fs_openlog *fs_openlog_ref(struct fs_openlog *log);
struct jsonl_file *fs_openlog_file(struct fs_openlog *log);
/* Returns how often another file has taken the place of this one. Waits, if one is about
 * to, until the directory is synced. Without locks. */
unsigned fs_openlog_switches(struct fs_openlog *s);
/* Attributes of a log were changed: the next fsync makes that durable, too. */
void fs_openlog_note_change(struct fs_inode *i);
/* Closes what is kept open of this inode, or of all (NULL). */
void fs_idle_drop(struct fs_mount *m, struct fs_inode *i);
/* Drops a user without keeping the file open. */
void fs_openlog_close(struct fs_mount *m, struct fs_openlog *s);
/* Sees to it that what is in the list will leave it. Called without a lock. */
void fs_idle_watch(struct fs_mount *m);

#endif
