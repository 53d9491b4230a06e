/* What governed.c (the operations), governed_events.c (what the library tells of a
 * handle) and governed_wait.c (answers that come later) share. */
#ifndef FS_GOVERNED_H
#define FS_GOVERNED_H

#include "account.h"
#include "fs.h"
#include "ident.h"
#include "shared.h"
#include "staging.h"
#include "writer.h"

struct fs_rewrite;
struct fs_transaction;

struct governed {
	struct fs_handle base; /* first: cast back */
	struct fs_mount *m;
	struct fs_ids opener;
	struct fs_shared *shared;
	const struct jsonl_settings *settings; /* constant, as they were at open */
	struct fs_account *account;  /* of whoever opened it */
	struct jsonl_writer *writer; /* NULL: opened for reading */
	struct jsonl_file_user reader;
	struct fs_rewrite *_Atomic rewrite; /* rewrite.h; set once, under inode->lock */
	struct fs_transaction *transaction; /* transaction.h; NULL: commit=line */
	_Atomic pid_t seen_pid;		    /* whose read met the end last, and where */
	_Atomic off_t seen_end;
	struct fs_follow *follow;      /* follow.c; NULL: stays with the file it opened */
	_Atomic bool moved;	       /* is on another file than its node in the kernel */
	struct fs_ident_ring idents;   /* under the writer's mutex */
	/* Under inode->lock: what was to be changed when a rewrite could not be begun. */
	struct fs_staged_failure failed;
	bool sync_each;		       /* answer a write when it is durable */
	_Atomic unsigned appends;
	_Atomic bool appended, synced; /* did it append, did the program fsync itself */
};

/* For the writer of a handle; ctx is the handle. */
extern const struct jsonl_writer_events fs_governed_events;

/* Replies to a WRITE (`written` bytes) or, with 0, to anything that answers with an error
 * code; rc is 0 or -errno. */
void fs_governed_answer(fuse_req_t req, size_t written, int rc);
/* The same, but not before what the handle has appended is durable; a failed sync is
 * answered with its error. `force`: ask the disk in any case (fsync). */
void fs_governed_answer_durable(fuse_req_t req, struct governed *g, bool force,
				size_t written, int rc);

/* The same for a FLUSH that fs_follow_flush_begins was called for. */
void fs_governed_answer_flush(fuse_req_t req, struct governed *g, int rc);

/* An operation that met a lock held outside and is tried again by another thread. */
struct fs_parked {
	struct fs_job job; /* first: cast back */
	/* -EAGAIN: once more; else it has been answered, and the handle may be gone. */
	int (*step)(struct fs_parked *p, bool last);
	struct governed *g;
	fuse_req_t req;
	struct fuse_ctx caller;
	struct fs_account *account; /* that the data weighs on */
	uint64_t owner;
	bool append;
	off_t off;
	size_t len;
	char data[];
};

/* Copies `proto` and the data and has it tried again until locktimeout. False without
 * memory or a thread: then the caller answers at once. */
bool fs_governed_park(struct governed *g, fuse_req_t req, const struct fs_parked *proto,
		      const char *data, size_t len) jsonl_must_check;
/* Takes note of whether the lock was had. */
void fs_governed_blocked(struct governed *g, bool blocked);
/* The wait was in vain: logs who holds the lock. */
void fs_governed_log_timeout(struct governed *g, const char *operation);

/* ---- follow.c: follow=path, handles that go on where their name leads to ---- */

/* For a handle that is open and linked; 0 or -errno. */
int fs_follow_new(struct governed *g) jsonl_must_check;
void fs_follow_free(struct governed *g);
/* Before a write: if the name that the handle was opened by leads to another log by now,
 * which the caller may write to, the handle goes over to that one. The kernel has one write
 * or fsync of a file under way at a time, so these may use g->shared as it is. */
void fs_follow_name(fuse_req_t req, struct governed *g);
/* What the other operations use meanwhile. *held is to be dropped with fs_shared_put, also
 * after the answer, when the handle may be gone; NULL where it cannot change. */
struct fs_shared *fs_follow_hold(struct governed *g, struct fs_shared **held);
/* From a FLUSH until just before its answer the handle stays where it is. */
void fs_follow_flush_begins(struct governed *g);
void fs_follow_flush_ends(struct governed *g);

#endif
