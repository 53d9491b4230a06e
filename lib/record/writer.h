/* SPDX-License-Identifier: MIT */
/* Decides for one open handle which bytes belong to whose record, where a write may land,
 * what is refused and how often. Built on frame (assembly) and file (appending).
 *
 * A handle may be shared by several processes (fork, dup). The kernel names the file
 * table that a WRITE or FLUSH comes from, the lock owner; unfinished records are kept for
 * each owner, so that halves of two processes never fuse. An owner is forgotten at its
 * FLUSH, since the numbers are reused; its unfinished record becomes an orphan, which the
 * next owner without a fragment continues.
 *
 * Each line is judged by itself (writer_refuse.c has the rules). Good lines are appended,
 * bad ones are set aside. By default (onbad=report) a request fails only if it holds
 * nothing but bad lines and its owner has had no record appended yet; every bad line is a
 * debt of the process that wrote it, reported at each of its closes. A whole line that
 * the same process sends again is set aside without a second report.
 *
 * Any thread; one mutex inside, held over an append. Nothing here touches the disk except
 * through the file and the events. */
#ifndef JSONL_WRITER_H
#define JSONL_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "block/commit.h"
#include "file/file.h"
#include "record/frame.h"
#include "quarantine/quarantine.h"

struct jsonl_writer;

struct jsonl_set_aside {
	const char *event; /* "refused", "bad-record", "fragment" */
	int code; /* verdict of the first line, or -errno of the append that failed */
	uint64_t offset;   /* of the first wrong byte, within these bytes */
	unsigned lines;	   /* the number of bad lines in these bytes */
	/* where the bytes would have been appended: the committed length */
	int64_t at;
	const struct iovec *iov;
	int niov;
	void *who; /* from identify(); NULL when no process has written yet */
};

/* Counts of appended records, for counters and log lines. */
struct jsonl_writer_note {
	uint64_t records, bytes, oversize, blank, marks;
	uint64_t largest;
	bool split;	 /* a record came in more than one write */
	bool no_newline; /* its newline was added when it was closed */
	bool end_open;	 /* at the end of a copy: none was added */
};

/* Callbacks; ctx is given to jsonl_writer_new. They run with the writer's mutex held, and
 * must not call back into it. */
struct jsonl_writer_events {
	/* Returns the program behind an owner, at its first write; kept and passed on as
	 * `who`. `caller`: as given to jsonl_writer_write. */
	void *(*identify)(void *ctx, void *caller);
	/* Returns a number for the process of a caller; 0: not known. */
	uint64_t (*process)(void *ctx, void *caller);
	/* Returns true when this process has sent this bad line to the file before.
	 * `add`: it has from now on. `len`: bytes; the hash begins with options.seed. */
	bool (*known)(void *ctx, uint64_t process, uint64_t hash, size_t len, bool add);
	/* Returns true when a program that runs already goes on in this file (a log that
	 * it has rotated). Asked when the file was empty at open, and `who` begins it
	 * with a bad line. NULL: never. */
	bool (*goes_on)(void *ctx, void *who);
	/* Keeps these bytes. Fills in the entry's name, or "" when nothing was kept (and
	 * has reported that). */
	void (*set_aside)(void *ctx, const struct jsonl_set_aside *what,
			  char name[JSONL_QUARANTINE_NAME]);
	void (*join)(void *ctx, const char *name, const struct iovec *iov, int niov, void *who);
	/* Charges memory for unfinished records, or gives it back: 0 or -ENOBUFS. */
	int (*charge)(void *ctx, int64_t bytes);
	void (*note)(void *ctx, const struct jsonl_writer_note *note, void *who);
};

struct jsonl_writer_options {
	struct jsonl_limits limits;
	int onbad;	    /* enum jsonl_onbad */
	uint64_t seed;	    /* see jsonl_known_seed() */
	/* Records go there instead of to the file, until jsonl_writer_commit; borrowed.
	 * NULL: to the file at once. */
	struct jsonl_stage *stage;
	bool copy;	  /* no O_APPEND, and the file was empty: kept byte for byte */
	bool settle_each; /* O_SYNC, O_DSYNC, sync=write: settle after each write */
};

/* Makes the writer. `size`: the visible length at open. The file is borrowed and must
 * outlive the writer. */
int jsonl_writer_new(struct jsonl_file *file, const struct jsonl_writer_options *opt,
		     const struct jsonl_writer_events *events, void *ctx, off_t size,
		     struct jsonl_writer **writer) jsonl_must_check;
/* Frees the writer, and drops unfinished records: call jsonl_writer_release first. */
void jsonl_writer_free(struct jsonl_writer *w);

/* Takes one WRITE request. `append`: O_APPEND is set now, `off` is then ignored. 0: all
 * of it is accepted, which does not mean that each line was good. -EAGAIN: nothing has
 * happened, call again (see jsonl_file_append). -EPERM: not an append. -EBADMSG,
 * -EMSGSIZE: bad lines, nothing of the request is in the file, the bytes went to
 * set_aside. -ENOBUFS: too many unfinished bytes. -EUCLEAN: see JSONL_UNKNOWN_TAIL. Else
 * the append's -errno. */
int jsonl_writer_write(struct jsonl_writer *w, uint64_t owner, void *caller, bool append,
		       off_t off, const char *data, size_t len) jsonl_must_check;
/* Closes one descriptor of an owner: its fragment is committed if it is a whole value
 * that cannot grow, else it becomes an orphan. 0, -EBADMSG for an incomplete one, -EAGAIN
 * (nothing has happened), or the append's -errno. If all is well, and the process of
 * `caller` has written bad lines: -EBADMSG or -EMSGSIZE. */
int jsonl_writer_flush(struct jsonl_writer *w, uint64_t owner,
		       void *caller) jsonl_must_check;
/* Settles for fsync: commits every fragment that is a whole value and cannot grow. 0; the
 * append's -errno; or, once until the next bad line, the error for the bad lines of the
 * process of `caller`. */
int jsonl_writer_settle(struct jsonl_writer *w, void *caller) jsonl_must_check;
/* Ends the handle: commits fragments that are valid, also bare numbers, and sets the rest
 * aside. With `last` it always ends; without, -EAGAIN asks for another call. *committed:
 * something was appended. */
int jsonl_writer_release(struct jsonl_writer *w, bool last, bool *committed) jsonl_must_check;
/* Makes the writer append to another file, of `size` visible bytes, from its next record
 * on; borrowed like the first; an unfinished record goes along. Nobody else may be in a
 * call with this writer or wait for a sync as its user. Its appends to the old file are
 * made durable first (blocking), because a later fsync looks at the new one only; if that
 * fails, the next wait for the writer's records reports it. */
void jsonl_writer_retarget(struct jsonl_writer *w, struct jsonl_file *file, off_t size);
/* Returns true when this length is the end of what the program has written through this
 * handle. */
bool jsonl_writer_ends_at(struct jsonl_writer *w, off_t size);
/* Returns true when the handle writes a copy, which stays byte for byte. */
bool jsonl_writer_copies(struct jsonl_writer *w);
/* _staged returns how much is in the stage; _commit appends it as one block (see
 * commit.h; c->records is filled in); _rollback drops it with every unfinished record: 0,
 * or -errno when a crash may bring it back. `end`: where the program, which has cut back
 * to there, goes on. */
void jsonl_writer_staged(struct jsonl_writer *w, uint64_t *records, uint64_t *bytes);
int jsonl_writer_commit(struct jsonl_writer *w,
			struct jsonl_transaction *c) jsonl_must_check;
/* Returns the verdict of the first bad line since the stage was empty, for which it must
 * not be appended (onbad=report); JSONL_OK: there is none. */
int jsonl_writer_spoiled(struct jsonl_writer *w);
int jsonl_writer_rollback(struct jsonl_writer *w, off_t end) jsonl_must_check;
/* Makes what is staged durable in the state directory. 0 or -errno. */
int jsonl_writer_stage_sync(struct jsonl_writer *w) jsonl_must_check;
/* Returns true when cutting the file to `size` would take back all that is staged: it is
 * the length at open, or the end of the last block. */
bool jsonl_writer_is_begin(struct jsonl_writer *w, off_t size);
/* Returns the user for jsonl_file_wait; the file serializes its use. */
struct jsonl_file_user *jsonl_writer_user(struct jsonl_writer *w);

#endif
