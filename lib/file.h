/* A governed file: the descriptor that appends, the length that readers may see, what is
 * durable, and who waits for that. One struct for all handles of a backing file.
 *
 * Appends are serialized by the file's own lock and by flock(2) on the backing file, so
 * that programs that come round the mount and take the lock are safe, too; a byte that
 * somebody else added is never overwritten (every write is O_APPEND). After a crash the
 * backing file holds every record that was made durable, whole; behind them there may be a
 * torn tail, which is repaired before the next append (see tail.h).
 *
 * All functions may be called by any thread. Lock order: file->lock, then view_lock, then
 * sync_lock; callbacks are called without view_lock and sync_lock. */
#ifndef JSONL_FILE_H
#define JSONL_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "io.h"

struct jsonl_file;

/* What a file asks of its owner. ctx is given to jsonl_file_new. */
struct jsonl_file_events {
	/* Store these bytes, durably, before they are cut off the file: 0 or -errno, then
	 * the file is left alone. `at`: where they stood. */
	int (*set_aside)(void *ctx, const char *event, int code, const struct iovec *iov,
			 int niov, off_t at, uint64_t offset);
	/* Something that a person must hear of: "repaired", "undo-failed", "fused-outside",
	 * "sync-failed", "sync-verified" ... with place and length. */
	void (*report)(void *ctx, const char *event, int code, off_t at, uint64_t len);
};

/* One handle's share in a file; zero-initialized by its owner, who serializes its use. */
struct jsonl_file_user {
	uint64_t first, last; /* sequence numbers of its appends not known durable */
	uint64_t asked;	      /* `last` as of the latest fsync by the program */
	uint64_t seen;	      /* sync failures up to this one have been reported to it */
	bool failed;	      /* one more is to be reported */
};

struct jsonl_file_options {
	uint64_t maxrecord;
	unsigned maxdepth;
	bool retain; /* keep bytes in memory until they are durable (not with sync=none) */
};

/* `fd`: a readable descriptor, taken over. 0 or -errno. */
int jsonl_file_new(const struct jsonl_io *io, int fd, const struct jsonl_file_options *opt,
		   const struct jsonl_file_events *events, void *ctx,
		   struct jsonl_file **file) jsonl_must_check;
/* Nobody may use it any more. What is not durable by then is synced (a last time). */
void jsonl_file_free(struct jsonl_file *file);

/* The descriptor for reading. Clamp to jsonl_file_visible. */
int jsonl_file_fd(const struct jsonl_file *file);
bool jsonl_file_can_append(struct jsonl_file *file);
/* Gives the file a descriptor that is O_RDWR | O_APPEND (or O_WRONLY, if the daemon may not
 * read), taken over; a second one is closed. `quiet`: at this moment nobody else has the
 * file open for writing, so a torn tail need not rest before it is repaired. */
void jsonl_file_set_append_fd(struct jsonl_file *file, int fd, bool quiet);
/* A directory to be synced with the file's next sync, since its name is new there: taken
 * over (any descriptor that fsync accepts). */
void jsonl_file_set_directory(struct jsonl_file *file, int fd, struct jsonl_file_user *user);

/* The length that readers may see: whole records only. 0 or -errno. */
int jsonl_file_visible(struct jsonl_file *file, off_t *visible) jsonl_must_check;
/* Are these bytes what is stored at `off`? 1 yes, 0 no, -errno. */
int jsonl_file_equals(struct jsonl_file *file, const char *data, size_t len,
		      off_t off) jsonl_must_check;
/* Does a record begin at `off`, or the file end there? 1 yes, 0 no, -errno. */
int jsonl_file_is_boundary(struct jsonl_file *file, off_t off) jsonl_must_check;

/* Appends whole records in one write. -EAGAIN: somebody outside holds the lock or is in
 * the middle of a record: nothing has happened, come again. JSONL_UNKNOWN_TAIL: the end of
 * the file is not JSON Lines. -ENOSPC and the like: undone, nothing of it is in the file.
 * -EIO: an earlier sync failed and what is on disk cannot be made sure of. `user` takes
 * note of the sequence number; *end (may be NULL) is the new length. */
int jsonl_file_append(struct jsonl_file *file, const struct iovec *iov, int niov,
		      struct jsonl_file_user *user, off_t *end) jsonl_must_check;
/* For what must look at the end and act on it undisturbed (truncate, rename onto): takes
 * the file's lock and flock, brings the tail in order. 0 with the length in *end, or as
 * jsonl_file_append; pair with jsonl_file_unfreeze if 0. */
int jsonl_file_freeze(struct jsonl_file *file, off_t *end) jsonl_must_check;
/* The same for what replaces all of the file: an end that is no JSON Lines is left as it is.
 * Also JSONL_UNKNOWN_TAIL then is frozen, with the length of everything in *end. */
int jsonl_file_freeze_any(struct jsonl_file *file, off_t *end) jsonl_must_check;
void jsonl_file_unfreeze(struct jsonl_file *file);
/* Has somebody else the file open for writing? ask(fd) says, of a descriptor for reading,
 * whether anybody at all has; while it is called the descriptor for appending is none, and
 * appends wait. What ask() says, or -errno. */
int jsonl_file_ask_writers(struct jsonl_file *file, int (*ask)(int fd)) jsonl_must_check;
/* While frozen. Cuts to nothing; 0 or -errno. */
int jsonl_file_empty(struct jsonl_file *file) jsonl_must_check;
/* While frozen. */
int jsonl_file_append_frozen(struct jsonl_file *file, const struct iovec *iov, int niov,
			     struct jsonl_file_user *user) jsonl_must_check;

/* While frozen. The file is another one from now on: `fd` and `append_fd` (as in _new and
 * _set_append_fd, taken over) refer to it, it holds everything that has been appended and
 * is durable, and append_fd has the lock, which _unfreeze lets go. Only its name is not
 * durable yet: that is done here, by `dir_fd` (taken over). Handles, fragments and who waits for
 * a sync go on with the new file. 0, or -errno when the name could not be made durable:
 * then everybody who had appended is told, as after any failed sync. */
int jsonl_file_switch(struct jsonl_file *file, int fd, int append_fd, off_t end,
		      int dir_fd) jsonl_must_check;

/* ---- making durable: file_sync.c ---- */

struct jsonl_waiter {
	struct jsonl_waiter *next;
	struct jsonl_file_user *user;
	uint64_t seq, round; /* served when both are reached */
	/* Called once by the thread that ran the sync, which may hold the file's lock: 0
	 * or -errno. */
	void (*done)(struct jsonl_waiter *w, int rc);
};

/* Something of the file that no append tells of has changed (attributes): the next fsync
 * by a program waits for it, too. */
void jsonl_file_note_change(struct jsonl_file *file);

enum jsonl_wait {
	JSONL_WAIT_DONE,   /* *rc is the answer; done() is not called */
	JSONL_WAIT_QUEUED, /* done() will be called */
	JSONL_WAIT_LEAD,   /* the same, and the caller must call jsonl_file_lead now */
};

/* Waits until what `user` has appended is durable. Fails with -EIO, once per user and
 * failure, when a sync failed over any of it. `force`: an fsync by the program: asks the
 * disk even if we know of nothing to sync, unless the user has appended since its last one
 * and a sync for somebody else has covered that: the kernel lets the fsyncs of one file in
 * one by one, and this is what makes them one group all the same. */
enum jsonl_wait jsonl_file_wait(struct jsonl_file *file, struct jsonl_file_user *user,
				bool force, struct jsonl_waiter *w, int *rc);
/* Runs syncs until nobody waits that an earlier one did not serve. One thread at a time,
 * as jsonl_file_wait and jsonl_file_wants_sync arrange it. */
void jsonl_file_lead(struct jsonl_file *file);
/* True when so much is not durable that a sync should be run without anybody waiting, or,
 * with `soon`, because somebody is going to wait: when anything is not. The caller then must
 * call jsonl_file_lead. */
bool jsonl_file_wants_sync(struct jsonl_file *file, bool soon);
/* The same as wait and lead, but blocking; for shutdown, tools and tests. 0 or -errno. */
int jsonl_file_sync(struct jsonl_file *file, struct jsonl_file_user *user) jsonl_must_check;

struct jsonl_file_state {
	uint64_t appended, durable; /* sequence numbers */
	uint64_t syncs, sync_failures;
	uint64_t retained; /* bytes in memory that are not durable */
	bool poisoned;	   /* a sync failed, and the end is not verified yet */
};
void jsonl_file_get_state(struct jsonl_file *file, struct jsonl_file_state *state);

#endif
