/* The writing side of one open handle: which bytes belong to whose record, where a write
 * may land, what is refused and how often. On top of frame (assembly) and file (appending).
 *
 * A handle may be shared by several processes (fork, dup). The kernel names the file table
 * that a WRITE or FLUSH comes from, the lock owner; unfinished records are kept per owner so
 * that halves of two processes never fuse. An owner is forgotten at its FLUSH, since the
 * numbers are reused; what it leaves unfinished becomes an orphan, which the next owner
 * without a fragment goes on with.
 *
 * A bad record is refused once per handle. Python keeps a refused buffer and sends it again
 * in front of what follows; stdio drops it and goes on in the middle of a record. So the
 * refused request is remembered: if the next one begins with the same bytes, its bad lines
 * count as reported and the good ones are appended; else, if the refused request ended in
 * mid-record, the bytes up to the next newline join it in the quarantine.
 *
 * Any thread; one mutex inside, held over an append. Nothing here touches the disk but
 * through the file and the events. */
#ifndef JSONL_WRITER_H
#define JSONL_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "commit.h"
#include "file.h"
#include "frame.h"
#include "quarantine.h"

struct jsonl_writer;

struct jsonl_set_aside {
	const char *event; /* "refused", "bad-record", "fragment" */
	int code;	   /* verdict, or -errno of the append that failed */
	uint64_t offset;   /* of the first wrong byte, within these bytes */
	int64_t at;	   /* where the bytes would have gone: the committed length */
	const struct iovec *iov;
	int niov;
	void *who; /* as identify() gave it; NULL when nobody wrote yet */
};

/* What became of records, for counters and log lines. */
struct jsonl_writer_note {
	uint64_t records, bytes, oversize, blank;
	uint64_t largest;
	bool split;	 /* a record came in more than one write */
	bool no_newline; /* its newline was added when it was closed */
};

/* ctx is given to jsonl_writer_new. Called with the writer's mutex held: must not call
 * back into it. */
struct jsonl_writer_events {
	/* The program behind an owner, asked at its first write: kept and given back as
	 * `who`. `caller` is what was given to jsonl_writer_write. */
	void *(*identify)(void *ctx, void *caller);
	/* Keep these bytes. Fills in the entry's name, "" when nothing was kept (the event
	 * has then said so itself). */
	void (*set_aside)(void *ctx, const struct jsonl_set_aside *what,
			  char name[JSONL_QUARANTINE_NAME]);
	void (*join)(void *ctx, const char *name, const struct iovec *iov, int niov, void *who);
	/* Memory for unfinished records grows (or shrinks) by this much: 0 or -ENOBUFS. */
	int (*charge)(void *ctx, int64_t bytes);
	void (*note)(void *ctx, const struct jsonl_writer_note *note, void *who);
};

struct jsonl_writer_options {
	struct jsonl_limits limits;
	int onbad;	    /* enum jsonl_onbad */
	/* Records go there instead of to the file, until jsonl_writer_commit; borrowed.
	 * NULL: to the file at once. */
	struct jsonl_stage *stage;
	bool settle_each;   /* O_SYNC, O_DSYNC, sync=write: settle after each write */
	size_t max_request; /* a longer write(2) arrives as several requests, bytes */
};

/* `size`: the visible length at open. The file is borrowed and must outlive the writer. */
int jsonl_writer_new(struct jsonl_file *file, const struct jsonl_writer_options *opt,
		     const struct jsonl_writer_events *events, void *ctx, off_t size,
		     struct jsonl_writer **writer) jsonl_must_check;
/* Call jsonl_writer_release first: what is pending is dropped here. */
void jsonl_writer_free(struct jsonl_writer *w);

/* One WRITE request. `append`: O_APPEND is set now, `off` is then ignored. 0: all of it is
 * taken. -EAGAIN: nothing has happened, come again (see jsonl_file_append). -EPERM: not an
 * append. -EBADMSG, -EMSGSIZE: a bad record, nothing of the request is in the file, the
 * bytes went to set_aside. -ENOBUFS: too much is pending. -EUCLEAN: see JSONL_UNKNOWN_TAIL.
 * Else the append's -errno. */
int jsonl_writer_write(struct jsonl_writer *w, uint64_t owner, void *caller, bool append,
		       off_t off, const char *data, size_t len) jsonl_must_check;
/* An owner closes one of its descriptors: its fragment is committed if it is a whole value
 * that cannot grow, else it becomes an orphan. 0, -EBADMSG for an incomplete one, -EAGAIN
 * (nothing has happened), or the append's -errno. */
int jsonl_writer_flush(struct jsonl_writer *w, uint64_t owner) jsonl_must_check;
/* fsync: commits every fragment that is a whole value and cannot grow. */
int jsonl_writer_settle(struct jsonl_writer *w) jsonl_must_check;
/* The handle is gone: commits what is valid, also bare numbers, sets the rest aside. With
 * `last` it always ends; without, -EAGAIN asks for another call. *committed tells whether
 * anything was appended. */
int jsonl_writer_release(struct jsonl_writer *w, bool last, bool *committed) jsonl_must_check;
/* From its next record on the writer appends to another file, of `size` visible bytes, which
 * is borrowed like the first; an unfinished record goes along. Nobody else may be in a call
 * with this writer or wait for a sync as its user. What it has appended to the old file is
 * made durable first (blocking), for a later fsync looks at the new one only; when that
 * fails, the next to wait for the writer's records is told. */
void jsonl_writer_retarget(struct jsonl_writer *w, struct jsonl_file *file, off_t size);
/* With a stage: how much is in it; appends it as one block (see commit.h; c->records is
 * filled in), or drops it with every unfinished record: 0, or -errno when a crash may
 * bring it back. `end`: where the program, which has cut back to there, goes on. */
void jsonl_writer_staged(struct jsonl_writer *w, uint64_t *records, uint64_t *bytes);
int jsonl_writer_commit(struct jsonl_writer *w,
			struct jsonl_transaction *c) jsonl_must_check;
int jsonl_writer_rollback(struct jsonl_writer *w, off_t end) jsonl_must_check;
/* Makes what is staged durable in the state directory. 0 or -errno. */
int jsonl_writer_stage_sync(struct jsonl_writer *w) jsonl_must_check;
/* Would cutting the file to `size` take back all that is staged: is it the length at
 * open, or where the last block ended? */
bool jsonl_writer_is_begin(struct jsonl_writer *w, off_t size);
/* For jsonl_file_wait; its use is serialized by the file. */
struct jsonl_file_user *jsonl_writer_user(struct jsonl_writer *w);

#endif
