/* The struct behind shared.c, for governed.c. */
#ifndef FS_SHARED_H
#define FS_SHARED_H

#include "account.h"
#include "commit.h"
#include "file.h"
#include "fs.h"

struct fs_shared {
	struct fs_mount *m;
	struct fs_inode *inode; /* holds a reference */
	struct jsonl_file *file;
	unsigned users; /* inode->lock; being kept open counts as one */
	/* idle.c's: */
	bool idle;
	int64_t idle_since;
	struct fs_shared *idle_next, **idle_pprev;
	struct fs_account *payer; /* for its descriptors; account.c */
	/* A lock outside: found held first and last, milliseconds, 0 when it was had. */
	_Atomic int64_t blocked_since, blocked_seen;
	_Atomic bool poisoned; /* in the mount's count of such files */
	/* transaction.h: its descriptor, -1: none was needed, under inode->lock */
	struct jsonl_intent intent;
	_Atomic bool recovered; /* what a crash left of its commits is in order */
	bool ordered;		/* is the file system; found out with the first intent */
	_Atomic uint64_t
	    counted_syncs; /* of the file's, that are in the mount's counter */
};

/* Drops a user without keeping the file open. */
void fs_shared_close(struct fs_mount *m, struct fs_shared *s);

/* ---- idle.c ---- */
/* Makes the list a user of s (counted by the caller, who holds inode->lock and has seen
 * the last one go). Returns what had to leave the list for it, for fs_shared_close, or
 * NULL. */
struct fs_shared *fs_idle_add(struct fs_mount *m, struct fs_shared *s);
/* Sees to it that what is in the list will leave it. Called without a lock. */
void fs_idle_watch(struct fs_mount *m);

/* On behalf of whom this thread appends to logs from here on: the blocks come
 * out of what `who` may have. Between the two nothing but appends runs as `who`. */
void fs_payer_set(const struct fs_mount *m, const struct fs_ids *who);
void fs_payer_clear(void);
/* Fills in the system's calls, with appends and their reservations made by the payer. */
void fs_payer_io(struct jsonl_io *io);

#endif
