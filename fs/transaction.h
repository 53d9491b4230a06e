/* commit=close: the records of one handle appear together, when whoever opened it closes
 * its last descriptor of it. Until then they are staged (stage.h) in memory and in
 * STATE/transactions/stage-*; the commit is commit.h's, with one intent file a log,
 * STATE/transactions/intent-DEVICE-INODE. Any thread. */
#ifndef FS_TRANSACTION_H
#define FS_TRANSACTION_H

#include "governed.h"
#include "lastclose.h"
#include "stage.h"

struct fs_transaction {
	struct fs_mount *m;	   /* constant, as the next but stage */
	struct jsonl_stage *stage; /* under the lock of the handle's writes */
	pid_t opener;		   /* the process; -1: of another PID namespace */
	ino_t ino;		   /* as programs see it */
	struct fs_ids ids;	   /* of whoever opened the file */
	/* Of a log alone: */
	_Atomic bool killed; /* whoever opened it was */
	_Atomic unsigned done, dropped;
};

/* For a handle that is being opened with commit=close, before its writer is made. 0 or
 * -errno. */
int fs_transaction_open(fuse_req_t req, struct governed *g,
			struct fs_inode *i) jsonl_must_check;
/* After the writer is gone. */
void fs_transaction_close(struct governed *g);
/* A FLUSH, after the writer's: true when this close ends the transaction, which then is
 * to be committed. Else *rc may become the error of making what is staged durable. */
bool fs_transaction_ends(struct governed *g, pid_t pid, int *rc);
/* 0; -EAGAIN: nothing has happened; or -errno, nothing is in the log and all is staged
 * still. */
int fs_transaction_commit(struct governed *g) jsonl_must_check;
/* RELEASE, after the writer's: commits what is left, or drops it. -EAGAIN unless `last`;
 * what cannot be committed then goes to the quarantine. */
int fs_transaction_release(struct governed *g, bool last) jsonl_must_check;
/* The session ends before the handle was closed. */
void fs_transaction_abandon(struct governed *g);
/* ftruncate: 0 or -errno when it takes back what is staged, else 1. */
int fs_transaction_truncate(struct governed *g, off_t size);

/* Another file has taken the place of the log, whose number was `from`: its intent goes
 * by the new one. While the log is frozen, so that nothing is under way. */
void fs_transaction_moved(struct fs_mount *m, struct fs_shared *s, ino_t from);
/* Nobody has the log open any more: its empty intent goes. */
void fs_transaction_forget(struct fs_mount *m, struct fs_shared *s);

/* ---- transaction_recover.c ---- */
/* Before the mount: what commits that were cut off have left is brought in order, and
 * what was staged is dropped or, with killed=commit, appended. */
void fs_transaction_recover(struct fs_mount *m);
/* The same for one log that was not found then. 0, -EAGAIN or -errno. */
int fs_transaction_recover_one(struct fs_mount *m, struct fs_shared *s) jsonl_must_check;

/* ---- for logs and class text ---- */
/* For a handle that is being opened: an empty stage, by `io`. 0 or -errno. */
int fs_transaction_begin(fuse_req_t req, struct fs_inode *i, const struct jsonl_io *io,
			 struct fs_transaction *t) jsonl_must_check;
/* What this FLUSH of a handle with these flags is to whoever opened it. */
enum fs_closing fs_transaction_closing(const struct fs_transaction *t, int flags,
				       pid_t pid);
/* Nobody is left who could be told that `code` keeps what is staged out of the file: it
 * goes to the quarantine, and the log says so. The stage stays as it is, unless, with
 * `leave`, the quarantine does not take it either: then its file is left for the next
 * mount, and the answer is true. */
bool fs_transaction_set_aside(struct fs_transaction *t, struct fs_inode *i, int file_fd,
			      int code, bool leave);

/* ---- for both files ---- */
void fs_transaction_intent_name(dev_t dev, ino_t ino, char buf[64]);
/* An intent file, made when it is missing: a descriptor, whose name is durable, or
 * -errno. */
int fs_transaction_intent_open(struct fs_mount *m, const char *name) jsonl_must_check;
/* For a staging file: never used before. */
void fs_transaction_stage_name(const struct fs_mount *m, char name[JSONL_STAGE_NAME]);
/* All that is staged as one piece of memory, until unmap, which is called in any case. 0
 * or -errno. */
struct fs_stage_map {
	void *at;
	size_t len;
};
int fs_transaction_map(struct jsonl_stage *stage, struct fs_stage_map *map,
		       struct iovec *iov) jsonl_must_check;
void fs_transaction_unmap(struct fs_stage_map *map);

#endif
