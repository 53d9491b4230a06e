/* SPDX-License-Identifier: MIT */
/* Appends a block of records so that it appears in a log whole or not at all, also when
 * the power goes.
 *
 * Under the log's lock an intent (length of the log, length and checksum of the block) is
 * made durable in a file of its own. Then the block is appended and made durable, the
 * file that it was staged in, which the intent names, is removed for good, and the intent
 * is emptied. The lock is held until the end, so nobody can append behind a block that is
 * not durable. After a crash at any point there is either no intent, and the block is
 * whole or not begun; or an intent, and the bytes from its length on are the block, whole
 * or in part. Recovery keeps a whole block and removes its stage; it sets a part aside
 * and cuts it off.
 *
 * On a file system that writes metadata in the order of the changes (`ordered`), the
 * intent of a block that was staged in memory is an attribute of the log itself, a mark:
 * the disk never has the new length without it, so it needs no sync. The intent file then
 * holds only the path of a log that may have a mark.
 *
 * A part is recognised by its first bytes, and by NULs, which a power cut leaves in place
 * of bytes; any other bytes are somebody else's and are left alone. Any thread; takes the
 * file's locks. */
#ifndef JSONL_COMMIT_H
#define JSONL_COMMIT_H

#include "file/file.h"
#include "block/stage.h"

/* The intents of one log. Zeroed by its owner, but for fd; then used under file->lock. */
struct jsonl_intent {
	int fd; /* O_RDWR | O_APPEND; -1: none yet. Atomic */
	/* Length of the beginning, which tells the path; 0: not written yet. */
	off_t head;
	uint64_t path;	     /* hash of the path in it */
	bool marked, filled; /* the mark, the rest of the file, must be cleared */
};

struct jsonl_transaction {
	const struct jsonl_io *io;
	struct jsonl_intent *intent;
	const char *path; /* of the log, kept in the intent for recovery */
	bool ordered;	  /* whether the log's file system is ordered, see above */
	bool durable; /* false: the intent protects only from the death of the daemon */
	uint64_t records; /* in the block; 0: not known */
};

/* Appends the staged bytes and clears the stage. 0; -EAGAIN: somebody outside holds a
 * lock, nothing has happened; -EBADF: the same, and c->intent needs a descriptor; else as
 * jsonl_file_append, and nothing of the block is in the log. One record that is in no
 * file needs no intent: it is appended like any other, `user` notes it, and it is durable
 * after the file's next sync. A block with an intent is durable at once. */
int jsonl_commit_run(const struct jsonl_transaction *c, struct jsonl_file *file,
		     struct jsonl_stage *stage,
		     struct jsonl_file_user *user) jsonl_must_check;

/* Returns the path of the log that an intent's file is for, to be freed, with the name of
 * the stage's file or "" in `stage`. NULL: it holds none (*rc is 0), or could not be read
 * (-errno). */
char *jsonl_commit_pending(const struct jsonl_io *io, int intent_fd,
			   char stage[JSONL_STAGE_NAME], int *rc);

enum jsonl_recovered {
	JSONL_RECOVERED_NONE,	/* no intent, or nothing of its block is there */
	JSONL_RECOVERED_WHOLE,	/* the block is there, and durable now */
	JSONL_RECOVERED_CUT,	/* a part was there, and is cut off */
	JSONL_RECOVERED_TORN,	/* less than a record is there: a torn tail (tail.h) */
	JSONL_RECOVERED_UNSURE, /* other bytes are there: left alone */
};
/* Undoes or completes a commit that a crash cut off, and empties the intent. Call it
 * before anything else is appended. `dir_fd`: the directory of the stages. The caller
 * deals with the stage of a block that is not there (jsonl_stage_open). 0 with *what;
 * -EAGAIN: somebody outside holds a lock; -errno: the intent stays. */
int jsonl_commit_recover(const struct jsonl_io *io, int dir_fd, int intent_fd,
			 struct jsonl_file *file,
			 enum jsonl_recovered *what) jsonl_must_check;

#endif
