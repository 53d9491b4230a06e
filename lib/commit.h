/* A block of records that appears in a log whole or not at all, also when the power goes.
 *
 * Under the log's lock an intent (length before, length and checksum of the block) is
 * made durable in a file of its own, then the block is appended and made durable, then
 * the file that it was staged in is removed for good, which the intent names, then the
 * intent is emptied. The lock is held until the end: no writer that takes it can have
 * a byte behind a block that is not durable yet. So after a crash at any point there is
 * either no intent, and the block is there whole or not begun; or an intent, and what
 * stands from its length on is the block, whole or in part. Recovery leaves a whole one,
 * whose stage it removes, and cuts a part back, after it has been set aside.
 *
 * Where the file system brings metadata to the disk in the order in which it was changed
 * (`ordered`), a block that was staged in memory has its intent in an attribute of the
 * log itself, a mark: the new length is never on the disk without it, so it needs no sync
 * of its own. The file then holds only the path of a log that may have a mark.
 *
 * A part is told by its first bytes, and by NULs, which is what a power cut leaves in
 * place of bytes; anything else is somebody else's and is left alone. Any thread; the
 * functions take the file's locks. */
#ifndef JSONL_COMMIT_H
#define JSONL_COMMIT_H

#include "file.h"
#include "stage.h"

/* The intents of one log: zero but for the descriptor, then used under the file's lock.
 */
struct jsonl_intent {
	int fd;	    /* O_RDWR | O_APPEND, in the state directory; -1: none yet. Atomic */
	off_t head; /* length of what the file always begins with; 0: not written yet */
	uint64_t path;	     /* hash of the one in there */
	bool marked, filled; /* a mark, or the rest of the file, is to be cleared */
};

struct jsonl_transaction {
	const struct jsonl_io *io;
	struct jsonl_intent *intent;
	const char *path; /* of the log, kept in the intent for recovery */
	bool ordered;	  /* the log's file system: see above */
	bool durable; /* false: the intent holds against the death of the daemon alone */
	uint64_t records; /* in the block; 0: not known */
};

/* Appends what is staged and clears the stage. 0; -EAGAIN: a lock is held outside,
 * nothing has happened; -EBADF: the same, and an intent is needed: all but one record
 * alone that is in no file of its own; else as jsonl_file_append, and nothing of the
 * block is in the log. Without an intent the record is appended as any other: `user`
 * takes note of it, and it is durable when the file's sync has said so; with one, it is
 * durable at once. */
int jsonl_commit_run(const struct jsonl_transaction *c, struct jsonl_file *file,
		     struct jsonl_stage *stage,
		     struct jsonl_file_user *user) jsonl_must_check;

/* The path of the log that an intent's file is for, to be freed, and the name of the
 * stage's file, "": none. NULL when it holds none (*rc is 0) or could not be read
 * (-errno). */
char *jsonl_commit_pending(const struct jsonl_io *io, int intent_fd,
			   char stage[JSONL_STAGE_NAME], int *rc);

enum jsonl_recovered {
	JSONL_RECOVERED_NONE,	/* no intent, or nothing of its block is there */
	JSONL_RECOVERED_WHOLE,	/* the block is there, and durable now */
	JSONL_RECOVERED_CUT,	/* a part was there */
	JSONL_RECOVERED_TORN,	/* less than a record is there: a torn tail, see tail.h */
	JSONL_RECOVERED_UNSURE, /* what is there is not the block's: left alone */
};
/* Before anything else is appended: brings in order what a crash in the middle of a
 * commit left, and empties the intent. `dir_fd`: where stages are. What is in the stage
 * of a block that is not there is for the caller, see jsonl_stage_open(). 0 with *what;
 * -EAGAIN: a lock is held outside; -errno: the intent stays. */
int jsonl_commit_recover(const struct jsonl_io *io, int dir_fd, int intent_fd,
			 struct jsonl_file *file,
			 enum jsonl_recovered *what) jsonl_must_check;

#endif
