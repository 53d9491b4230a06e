/* What file.c (the end of the file) and file_sync.c (what is durable) share. */
#ifndef JSONL_FILE_INTERNAL_H
#define JSONL_FILE_INTERNAL_H

#include <pthread.h>
#include <time.h>

#include "file.h"

/* Retained bytes at which a sync is run without anybody waiting, and at which appends
 * wait for it. */
#define FILE_RETAIN_SOFT (256u << 10)
#define FILE_RETAIN_HARD (8u << 20)
/* Of all files of the process together: above it every append has its file synced, and an
 * emptied buffer is given back. */
#define FILE_RETAIN_TOTAL (64u << 20)
/* From this length on room is reserved before the write, so that a full disk is met
 * before anything has been written. Below, undoing a short write is cheaper. */
#define FILE_RESERVE_FROM  (64u << 10)
#define FILE_STILL_SECONDS 2
#define FILE_FAILURES	   8
#define FILE_PAGE	   4096 /* the page cache drops no less */

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
	off_t quiet_size; /* of the file when append_fd was opened and nobody else was
			   * writing; -1: others were, or the end has been brought in
			   * order since */
	bool end_known;	  /* `end` has been verified to be the end of whole records */
	off_t end;
	off_t undo_from; /* a short write that could not be undone begins here; else -1 */
	off_t undo_to;
	struct {
		off_t size;
		struct timespec mtime, since; /* since: CLOCK_MONOTONIC */
	} tail_seen;

	pthread_mutex_t view_lock; /* what readers see; under it: */
	bool view_held;		   /* an append is under way: `visible` stands */
	off_t view_size;	   /* of the backing file, for which `visible` is right */
	off_t visible;

	pthread_mutex_t sync_lock; /* under it: */
	pthread_cond_t sync_done;
	uint64_t appended, durable, changed; /* changed: see jsonl_file_note_change */
	bool syncing, poisoned;
	uint64_t rounds_begun, rounds_ended;
	uint64_t syncs, sync_failures;
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

/* Under file->lock. Notes a successful append at `off`, or with niov 0 that the file was
 * emptied. Without memory the bytes are not retained, and a failed sync cannot be mended.
 */
void jsonl_file_note_append(struct jsonl_file *f, const struct iovec *iov, int niov,
			    off_t off, struct jsonl_file_user *user);
/* Under file->lock and flock. A sync has failed: find out what the disk holds, see
 * DESIGN. 0: verified, the file is good again. -EIO: not. */
int jsonl_file_verify(struct jsonl_file *f) jsonl_must_check;
bool jsonl_file_is_poisoned(struct jsonl_file *f);
/* Under file->lock: a sync that those who wait have their share in. 0 or -errno: nothing
 * is appended any more before the end is verified. In a file that waits for that, success
 * is proof of nothing that was appended before. */
int jsonl_file_sync_frozen(struct jsonl_file *f, bool metadata) jsonl_must_check;
/* Readers keep seeing `visible` until the release, which has them look at the file again.
 */
void jsonl_file_view_hold(struct jsonl_file *f, off_t visible);
void jsonl_file_view_release(struct jsonl_file *f);
/* They see all of a file of this size, which ends with a whole record. */
void jsonl_file_view_set(struct jsonl_file *f, off_t size);
/* Gives the retained bytes' memory back. Under sync_lock, or when nobody else has the
 * file. */
void jsonl_file_kept_free(struct jsonl_file *f);
/* Blocks while more is retained than FILE_RETAIN_HARD. */
void jsonl_file_backpressure(struct jsonl_file *f);

#endif
