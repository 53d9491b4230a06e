/* SPDX-License-Identifier: MIT */
/* Holds what the files of jsonl_file share; lib/block/ uses it, too. Each calls only
 * those above it:
 *
 *   file_view.c    the length that readers see
 *   file_kept.c    bytes in memory that are not durable yet
 *   file_sync.c    syncs: whose turn it is, whom they serve, what a failure means
 *   file_verify.c  after a failed sync: compares the disk with the kept bytes
 *   file_end.c     before an append: brings the end of the file in order
 *   file_lock.c    the locks
 *   file.c         appends
 *   file_wait.c    waiting for a sync */
#ifndef JSONL_FILE_INTERNAL_H
#define JSONL_FILE_INTERNAL_H

#include <pthread.h>
#include <time.h>

#include "file/file.h"

/* Retained bytes at which a sync is run without anybody waiting, and at which appends
 * wait for it. */
#define FILE_RETAIN_SOFT (256u << 10)
#define FILE_RETAIN_HARD (8u << 20)
/* Retained bytes of all files of the process together, above which every append has its
 * file synced, and an emptied buffer is freed. */
#define FILE_RETAIN_TOTAL (64u << 20)
/* From this length on room is reserved before the write, so that a full disk is met
 * before anything has been written. Below, undoing a short write is cheaper. */
#define FILE_RESERVE_FROM (64u << 10)
#define FILE_FAILURES	  8
#define FILE_PAGE	  4096 /* the page cache is dropped in whole pages */

/* A run of retained bytes: where they stand in the file. */
struct file_segment {
	off_t off;
	size_t len;
};

struct jsonl_file {
	const struct jsonl_io *io;
	const struct jsonl_file_events *events;
	void *ctx;
	struct jsonl_file_options opt;
	int fd; /* for reading; constant */

	pthread_mutex_t lock; /* held over an append; under it: */
	int append_fd;
	bool append_lost; /* it is open for reading only: see jsonl_file_ask_writers */
	/* The file that is to replace this one, while descriptors could not be
	 * exchanged: nothing is appended before they are. fd is -1 if there is none. */
	struct {
		int fd, append_fd;
		off_t end;
	} next;
	/* Size of the file when append_fd was opened and nobody else was writing; -1:
	 * others were, or the end has been repaired since. */
	off_t quiet_size;
	bool end_known; /* `end` has been verified to be the end of whole records */
	/* The last line is a whole value without its newline, which goes in front of the
	 * next append: a copy is kept byte for byte. */
	bool end_open;
	off_t end;
	struct {
		bool held;	/* the flock is held, after an append, too */
		bool fresh;	/* the flock was just taken: nothing has been read yet */
		bool waiting;	/* somebody waits for it: append_fd stays as it is */
		bool timed;	/* events->tenure has been called */
		int broken;	/* the error after which append_fd is not written to any more */
		int64_t since;	/* CLOCK_MONOTONIC, milliseconds */
		int64_t used;	/* the last time somebody had it; the same clock */
		off_t from;	/* the end at that time */
		struct stat st; /* at that time */
	} tenure;
	/* When the flock was had; 0: it is not held between hosts. Changed under the
	 * lock, read by the thread that syncs. */
	_Atomic int64_t locked_since;
	off_t undo_from; /* a short write that could not be undone begins here; else -1 */
	off_t undo_to;
	struct {
		off_t size;
		struct timespec mtime, since; /* since: CLOCK_MONOTONIC */
	} tail_seen;

	pthread_mutex_t view_lock; /* what readers see; under it: */
	bool view_held;		   /* an append is under way: `visible` stands */
	off_t view_size; /* size of the backing file for which `visible` is right */
	off_t visible;
	struct {
		bool known;
		off_t old, next; /* ends that were seen, the older two seconds before */
		int64_t since;	 /* of `next`; CLOCK_MONOTONIC, milliseconds */
	} ends;

	pthread_mutex_t sync_lock; /* under it: */
	pthread_cond_t sync_done;
	uint64_t appended, durable, changed; /* changed: see jsonl_file_note_change */
	bool syncing, poisoned;
	bool attributes; /* have changed since the last fsync */
	bool full;	 /* somebody who waits has asked for them, too */
	uint64_t rounds_begun, rounds_ended;
	uint64_t syncs;
	int dir_fd;
	struct jsonl_waiter *waiters, **waiters_tail;
	struct file_failure {
		uint64_t number, after, upto; /* sequence numbers after < seq <= upto */
	} failures[FILE_FAILURES];
	unsigned nfailures;
	/* Retained: the bytes of seg[0..nseg) one after another, from `head` on. */
	char *kept;
	size_t kept_head, kept_len, kept_cap;
	uint64_t kept_dropped; /* counter: bytes that have left at the front */
	struct file_segment *seg;
	size_t nseg, seg_cap;
};

static inline bool jsonl_file_is_shared(const struct jsonl_file *f)
{
	return f->opt.shared && *f->opt.shared;
}

/* Returns true for errors that say that there is no room. */
static inline bool jsonl_file_is_full(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG;
}

static inline bool jsonl_file_is_remote(const struct jsonl_file *f)
{
	return f->opt.remote && jsonl_file_is_shared(f);
}

/* ---- file_view.c: any lock may be held but view_lock ---- */

/* Makes readers see `visible` until _release; then the file itself is examined again. */
void jsonl_file_view_hold(struct jsonl_file *f, off_t visible);
void jsonl_file_view_release(struct jsonl_file *f);
/* Makes readers see all of a file of this size, which ends with a whole record. */
void jsonl_file_view_set(struct jsonl_file *f, off_t size);
/* Finds out whether the last record lacks its newline, when f->end was set to the end of
 * whole records. Under file->lock. */
void jsonl_file_end_look(struct jsonl_file *f);

/* ---- file_kept.c: under sync_lock ---- */

/* Keeps bytes that were appended at `off`. Without memory for them a failed sync is
 * still reported, but what the disk lost cannot be written again. */
void jsonl_file_kept_add(struct jsonl_file *f, const struct iovec *iov, int niov,
			 off_t off);
/* Drops the oldest `n` bytes, or all if there are fewer. */
void jsonl_file_kept_drop(struct jsonl_file *f, size_t n);
/* Frees the memory of the kept bytes. Also without sync_lock when nobody else has the
 * file. */
void jsonl_file_kept_free(struct jsonl_file *f);
/* Returns true when so much is kept that a sync should run although nobody waits. */
bool jsonl_file_kept_much(const struct jsonl_file *f);

/* ---- file_sync.c ---- */

/* Notes a successful append at `off`; with niov 0, that the file was emptied. Under
 * file->lock. */
void jsonl_file_note_append(struct jsonl_file *f, const struct iovec *iov, int niov,
			    off_t off, struct jsonl_file_user *user);
/* Returns true when a sync failed over an append of this user and it was not told yet; it
 * counts as told from now on. Under sync_lock. */
bool jsonl_file_failure_due(struct jsonl_file *f, struct jsonl_file_user *user);
/* Returns true after a failed sync until the end of the file is verified. */
bool jsonl_file_is_poisoned(struct jsonl_file *f);
/* Syncs, and serves those who wait for it. Returns 0 or -errno: then nothing is appended
 * before the end is verified. In a poisoned file success proves nothing about earlier
 * appends. Under file->lock. */
int jsonl_file_sync_frozen(struct jsonl_file *f, bool metadata) jsonl_must_check;
/* Exchanges the descriptors for those of f->next. 0, or -errno: it is to be tried again.
 * Under file->lock. */
int jsonl_file_switch_finish(struct jsonl_file *f) jsonl_must_check;
/* Does what jsonl_file_lead does, but a tenure stays as it is: file->lock may be
 * held. */
void jsonl_file_lead_rounds(struct jsonl_file *f);
/* Blocks while more is kept than FILE_RETAIN_HARD. Without locks. */
void jsonl_file_backpressure(struct jsonl_file *f);

/* Describes a sync, run by the thread that has the turn (f->syncing). Two syncs of a
 * file never run at once: the kernel reports a lost page only once, so the second would
 * take its own success for that of the page. */
struct file_round {
	uint64_t target; /* sequence number of the last append before it began */
	uint64_t mark;	 /* kept bytes up to here are durable if it succeeds */
	int dir_fd;	 /* a directory with a new name, or -1 */
	bool metadata;	 /* syncs mode, owner and attributes, too */
	bool verifies;	 /* its success clears `poisoned` */
};
/* Waits for the turn. */
void jsonl_file_turn_take(struct jsonl_file *f);
/* Begins a round, with the turn; later appends may not be in it. `dir_fd`: synced with
 * it, taken over; -1: the one that jsonl_file_set_directory left. `metadata`: syncs that
 * even if nobody asked for it. */
struct file_round jsonl_file_round_begin(struct jsonl_file *f, int dir_fd, bool metadata);
int jsonl_file_round_run(struct jsonl_file *f,
			 const struct file_round *r) jsonl_must_check;
/* Ends the round with the result `rc`, gives the turn back and answers those who waited.
 * Returns true when others have come meanwhile: the caller has the turn again and calls
 * jsonl_file_lead. */
bool jsonl_file_round_end(struct jsonl_file *f, struct file_round *r,
			  int rc) jsonl_must_check;

/* ---- file_verify.c ---- */

/* Makes a poisoned file good again: compares the disk with the kept bytes, writes lost
 * ones again, else cuts them off after they were set aside (DESIGN.md). 0 or -EIO. Under
 * file->lock and flock. */
int jsonl_file_verify(struct jsonl_file *f) jsonl_must_check;

/* ---- file_end.c ---- */

/* Makes sure that the file ends with a whole record. Returns 0 with f->end set; -EAGAIN:
 * somebody may be in the middle of a record; JSONL_UNKNOWN_TAIL: the file was left alone;
 * -errno. Under file->lock and flock. */
int jsonl_file_end_prepare(struct jsonl_file *f) jsonl_must_check;
/* Adds the newline that a whole last record lacks. 0 or -errno. Under the same locks. */
int jsonl_file_end_finish(struct jsonl_file *f) jsonl_must_check;

/* ---- file_lock.c ---- */

/* Freezes for an append of `user`, which may be NULL; `any` as jsonl_file_freeze_any,
 * `finish`: gives a last record its newline. */
int jsonl_file_freeze_user(struct jsonl_file *f, struct jsonl_file_user *user, bool any,
			   bool finish, off_t *end) jsonl_must_check;
/* Lets go of the flock, with everything durable. Under file->lock. */
void jsonl_file_tenure_end(struct jsonl_file *f);

#endif
