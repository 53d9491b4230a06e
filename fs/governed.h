/* What governed.c (the operations), governed_events.c (what the library tells of a
 * handle) and governed_wait.c (answers that come later) share. */
#ifndef FS_GOVERNED_H
#define FS_GOVERNED_H

#include "account.h"
#include "fs.h"
#include "ident.h"
#include "shared.h"
#include "writer.h"

struct fs_rewrite;

struct governed {
	struct fs_handle base; /* first: cast back */
	struct fs_mount *m;
	struct fs_shared *shared;
	const struct jsonl_settings *settings; /* constant, as they were at open */
	struct fs_account *account;  /* of whoever opened it */
	struct jsonl_writer *writer; /* NULL: opened for reading */
	struct jsonl_file_user reader;
	struct fs_rewrite *_Atomic rewrite; /* rewrite.h; set once, under inode->lock */
	_Atomic pid_t seen_pid;		    /* whose read met the end last, and where */
	_Atomic off_t seen_end;
	struct fs_ident_ring idents;   /* under the writer's mutex */
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

#endif
