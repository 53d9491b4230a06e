/* SPDX-License-Identifier: MIT */
/* Appends whole records to a log and makes them durable. One struct for all handles of a
 * backing file: it has the descriptor that appends, the length that readers may see, what
 * is durable, and who waits for that.
 *
 * Appends are serialized by the file's own lock and by flock(2) on the backing file, so
 * programs beside the mount that take flock are safe, too. Every write is O_APPEND: bytes
 * that somebody else added are never overwritten. After a crash the backing file holds
 * every durable record, whole; behind them there may be a torn tail, which is repaired
 * before the next append (tail.h).
 *
 * Any thread. Lock order: file->lock, view_lock, sync_lock; callbacks run without the
 * last two. */
#ifndef JSONL_FILE_H
#define JSONL_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"

struct jsonl_file;

/* Callbacks to the owner; ctx is the one of jsonl_file_new. */
struct jsonl_file_events {
	/* Stores bytes durably, before they are cut off the file at `at`. 0, or -errno:
	 * the file is then left alone. */
	int (*set_aside)(void *ctx, const char *event, int code, const struct iovec *iov,
			 int niov, off_t at, uint64_t offset);
	/* Tells people of an event: "repaired", "undo-failed", "fused-outside",
	 * "sync-failed", "sync-verified" ... with its place and length; "lock-lost": the
	 * servers may have given the lock to another host, and what was appended under it
	 * from this place on is looked for before the next append. */
	void (*report)(void *ctx, const char *event, int code, off_t at, uint64_t len);
	/* Between hosts, with file->lock held. The lock of the file is kept for a while
	 * after an append, for those that follow: jsonl_file_tenure_finish is to be
	 * called every JSONL_TENURE_IDLE_MS until it returns true. NULL: it is not kept.
	 */
	void (*tenure)(void *ctx);
	/* Another host has the lock: jsonl_file_turn_begin is to be called. May be NULL.
	 */
	void (*turn)(void *ctx);
};

/* A host lets go of the lock of a file after so long, or so many bytes; and when nobody
 * has appended for a while. */
#define JSONL_TENURE_MS	     50
#define JSONL_TENURE_BYTES   (1 << 20)
#define JSONL_TENURE_IDLE_MS 10

/* One handle's share in a file. Zeroed by its owner, who also serializes its use. */
struct jsonl_file_user {
	/* In shared mode asked before each append, with the file's locks held: is this
	 * file, whose state is *st, still the one to append to? 0; else what the append
	 * answers, with nothing done. NULL: it is, as long as it has a name. */
	int (*check)(struct jsonl_file_user *user, const struct stat *st);
	void *ctx;	      /* for check() */
	uint64_t first, last; /* sequence numbers of its appends not known durable */
	uint64_t asked;	      /* `last` as of the latest fsync by the program */
	uint64_t seen;	      /* sync failures up to this one have been reported to it */
	bool failed;	      /* one more is to be reported */
};

struct jsonl_file_options {
	uint64_t maxrecord;
	unsigned maxdepth;
	/* Keep bytes in memory until they are durable (not with sync=none). */
	bool retain;
	/* Shared mode: while it is true other hosts or daemons append to, replace and
	 * remove the file as well, each under its lock. NULL: they do not. */
	const _Atomic bool *shared;
	/* And on other hosts, whose file system may show an old size and old bytes:
	 * appends are made durable before the lock is let go. With jsonl_io_remote. */
	bool remote;
	/* Between hosts: milliseconds from a lock to the end of a sync after which its
	 * success is not believed. 0: JSONL_LATE_MS. */
	unsigned late_ms;
};

/* Servers give the lock of a host that they do not hear of to another (GlusterFS: after
 * 42 seconds), and what it sends then may come behind, or never. So a sync has half of
 * that time. */
#define JSONL_LATE_MS 21000

/* Makes a file of a readable descriptor, which it takes over. 0 or -errno. */
int jsonl_file_new(const struct jsonl_io *io, int fd,
		   const struct jsonl_file_options *opt,
		   const struct jsonl_file_events *events, void *ctx,
		   struct jsonl_file **file) jsonl_must_check;
/* Frees a file that nobody uses any more, after a last look at bytes that are not
 * durable. NULL is allowed. */
void jsonl_file_free(struct jsonl_file *file);

/* Returns the descriptor for reading; a reader stops at jsonl_file_visible. */
int jsonl_file_fd(const struct jsonl_file *file);
bool jsonl_file_can_append(struct jsonl_file *file);
/* Gives the file the descriptor that appends: O_RDWR | O_APPEND, or O_WRONLY if the
 * daemon may not read. Taken over; a second one is closed. `quiet`: nobody else has the
 * file open for writing at this moment, so a torn tail need not rest before it is
 * repaired. */
void jsonl_file_set_append_fd(struct jsonl_file *file, int fd, bool quiet);
/* Has a directory, in which the file's name is new, synced with the file's next sync.
 * `fd`: any descriptor that fsync accepts, taken over. */
void jsonl_file_set_directory(struct jsonl_file *file, int fd,
			      struct jsonl_file_user *user);

/* Returns the length that readers may see, which ends with a whole record. 0 or -errno.
 */
int jsonl_file_visible(struct jsonl_file *file, off_t *visible) jsonl_must_check;
/* Judges the `n` bytes that were read at `off` when the visible length was `visible`, of
 * `want` that there should be: on a file of several hosts pages may be older than the
 * length, which shows as NULs, a half or too few. How many to give to a reader; -EAGAIN:
 * look at the length and read again, the pages were dropped. `last`: not again; only
 * whole lines, but for NULs that have long been there. */
ssize_t jsonl_file_sound(struct jsonl_file *file, const char *bytes, size_t n,
			 size_t want, off_t off, off_t visible,
			 bool last) jsonl_must_check;
/* Compares bytes with the file at `off`: 1 the same, 0 not, -errno. */
int jsonl_file_equals(struct jsonl_file *file, const char *data, size_t len,
		      off_t off) jsonl_must_check;
/* Returns 1 when a record begins at `off` or the visible part ends there, 0 when not,
 * -errno. */
int jsonl_file_is_boundary(struct jsonl_file *file, off_t off) jsonl_must_check;

/* Appends whole records in one write. 0; -EAGAIN: somebody outside holds the lock or is
 * in the middle of a record, nothing has happened, try again; JSONL_UNKNOWN_TAIL: the end
 * of the file is not JSON Lines; -ENOSPC and others: nothing of it is in the file; -EIO:
 * an earlier sync failed and the disk could not be verified; -ESTALE: it has no name any
 * more (shared mode). `user` notes the sequence number; *end (may be NULL): the new
 * length. */
int jsonl_file_append(struct jsonl_file *file, const struct iovec *iov, int niov,
		      struct jsonl_file_user *user, off_t *end) jsonl_must_check;
/* Appends the end of a copy: the last record has no newline. The newline goes in front of
 * the next append, in the same write, unless that begins with it. */
int jsonl_file_append_open(struct jsonl_file *file, const struct iovec *iov, int niov,
			   struct jsonl_file_user *user, off_t *end) jsonl_must_check;
/* Takes the file's lock and flock for callers that must look at the end and act on it
 * undisturbed, brings the tail in order, and gives a last record its newline. 0 with the
 * length in *end, or as jsonl_file_append; pair with jsonl_file_unfreeze if 0. */
int jsonl_file_freeze(struct jsonl_file *file, off_t *end) jsonl_must_check;
/* Freezes for an append of this user. */
int jsonl_file_freeze_for(struct jsonl_file *file, struct jsonl_file_user *user,
			  off_t *end) jsonl_must_check;
/* Freezes to compare the content (truncate, rename onto): a last record without newline
 * stays as it is. */
int jsonl_file_freeze_as_is(struct jsonl_file *file, off_t *end) jsonl_must_check;
/* Freezes to replace all of the file: an end that is no JSON Lines stays as it is. With
 * JSONL_UNKNOWN_TAIL the file is frozen, too, and *end is the length of everything. */
int jsonl_file_freeze_any(struct jsonl_file *file, off_t *end) jsonl_must_check;
void jsonl_file_unfreeze(struct jsonl_file *file);
/* Ends what events->tenure began, if its time is over. False: call it again in as long.
 */
bool jsonl_file_tenure_finish(struct jsonl_file *file) jsonl_must_check;
/* Returns a descriptor on which the caller waits for flock(2), and then calls
 * jsonl_file_turn_end; `had`: the lock was had. -1: there is no need. Appends answer
 * -EAGAIN meanwhile. */
int jsonl_file_turn_begin(struct jsonl_file *file) jsonl_must_check;
void jsonl_file_turn_end(struct jsonl_file *file, bool had);
/* Finds out whether another program has the file open for writing. ask(fd), with a
 * descriptor for reading, says whether anybody has. Our own descriptor would count, so it
 * refers to a read-only one while ask() runs; appends block. Returns what ask() returned,
 * or -errno. */
int jsonl_file_ask_writers(struct jsonl_file *file, int (*ask)(int fd)) jsonl_must_check;
/* Cuts the file to nothing, while frozen. 0 or -errno. */
int jsonl_file_empty(struct jsonl_file *file) jsonl_must_check;
/* Appends while frozen; as jsonl_file_append. */
int jsonl_file_append_frozen(struct jsonl_file *file, const struct iovec *iov, int niov,
			     struct jsonl_file_user *user) jsonl_must_check;
int jsonl_file_append_frozen_open(struct jsonl_file *file, const struct iovec *iov,
				  int niov,
				  struct jsonl_file_user *user) jsonl_must_check;

/* Exchanges the backing file for another one, while frozen. `fd` and `append_fd` (as in
 * _new and _set_append_fd, taken over) refer to the new one; it holds everything that was
 * appended, durably, and append_fd has the flock, which _unfreeze releases. Syncs
 * `dir_fd` (taken over), since only the name is not durable yet. Handles, fragments and
 * those who wait for a sync continue with the new file. 0, or -errno: the name could not
 * be made durable, or the descriptors not be exchanged (which is tried again before the
 * next append), and everybody who had appended is told, as after any failed sync. */
int jsonl_file_switch(struct jsonl_file *file, int fd, int append_fd, off_t end,
		      int dir_fd) jsonl_must_check;

/* ---- making durable ---- */

struct jsonl_waiter {
	struct jsonl_waiter *next;
	struct jsonl_file_user *user;
	uint64_t seq, round; /* served when both are reached */
	/* Called once by the thread that ran the sync, which may hold file->lock. `rc`: 0
	 * or -errno. */
	void (*done)(struct jsonl_waiter *w, int rc);
};

/* Notes a change that is no append, of attributes: the next fsync by a program waits for
 * it. */
void jsonl_file_note_change(struct jsonl_file *file);

enum jsonl_wait {
	JSONL_WAIT_DONE,   /* *rc is the answer; done() is not called */
	JSONL_WAIT_QUEUED, /* done() will be called */
	JSONL_WAIT_LEAD,   /* the same, and the caller must call jsonl_file_lead now */
};

/* Waits until the appends of `user` are durable. -EIO, once per user and failure: a sync
 * failed over one of them. `force`: a program called fsync, so the disk is asked even if
 * everything is durable as far as known; but not if the user has appended since its last
 * fsync and a sync for somebody else has covered that. The kernel admits the fsyncs of
 * one file one by one; this makes a group of them all the same. */
enum jsonl_wait jsonl_file_wait(struct jsonl_file *file, struct jsonl_file_user *user,
				bool force, struct jsonl_waiter *w, int *rc);
/* Runs syncs until everybody who waits has been served. One thread at a time: only when
 * jsonl_file_wait or jsonl_file_wants_sync said so. */
void jsonl_file_lead(struct jsonl_file *file);
/* Returns true when so much is not durable that a sync should run although nobody waits
 * or, with `soon` (somebody is going to wait), when anything is not. The caller must then
 * call jsonl_file_lead. */
bool jsonl_file_wants_sync(struct jsonl_file *file, bool soon);
/* Waits and leads in one, blocking. 0 or -errno. */
int jsonl_file_sync(struct jsonl_file *file,
		    struct jsonl_file_user *user) jsonl_must_check;

struct jsonl_file_state {
	uint64_t appended, durable; /* sequence numbers */
	uint64_t syncs;
	bool poisoned; /* a sync failed, and the end is not verified yet */
};
void jsonl_file_get_state(struct jsonl_file *file, struct jsonl_file_state *state);

#endif
