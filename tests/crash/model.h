/* SPDX-License-Identifier: MIT */
/* A file system in memory that stands behind struct jsonl_io, for tests of what a crash
 * leaves. It keeps apart what programs see (the page cache) and what is on the disk: the
 * bytes of each block, the size, the mark, and the directory entry. A sync carries one
 * over to the other; a failed sync marks blocks clean without having written them, as
 * Linux does. What a power cut may leave is enumerated by model_power_cuts().
 *
 * Each call is counted, and one or two of them can be made to fail, to come back short,
 * or to be the last that the process makes: from then on it is dead, every call fails and
 * changes nothing. One directory, a few small files, single-threaded. */
#ifndef TESTS_CRASH_MODEL_H
#define TESTS_CRASH_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"

#define MODEL_FILES    4
#define MODEL_FDS      32
#define MODEL_FIRST_FD 1000
#define MODEL_SIZES    64 /* sizes and marks between two syncs that are remembered */
#define MODEL_MARK_MAX 64 /* bytes of a mark */
#define MODEL_CALLS    512

enum model_op {
	MODEL_OPENAT,
	MODEL_PREAD,
	MODEL_WRITEV,
	MODEL_POSITION,
	MODEL_FSTAT,
	MODEL_FTRUNCATE,
	MODEL_RESERVE,
	MODEL_FDATASYNC,
	MODEL_FSYNC,
	MODEL_TRYLOCK,
	MODEL_UNLOCK,
	MODEL_DROP_CACHE,
	MODEL_RENAMEAT,
	MODEL_UNLINKAT,
	MODEL_MARK,
	MODEL_MARKED,
	MODEL_UNMARK,
	MODEL_SET_ASIDE, /* not a system call: what the owner of a file is asked for */
	MODEL_OPS
};

extern const char *const model_op_names[MODEL_OPS];

enum model_fault_kind {
	MODEL_NO_FAULT,
	MODEL_CUT_BEFORE, /* the process dies, the call has done nothing */
	MODEL_CUT_MIDDLE, /* a write: `keep` bytes of it are done */
	MODEL_CUT_AFTER,
	MODEL_FAIL,	  /* -code, nothing done */
	MODEL_FAIL_AFTER, /* -code, but all of it (a write: `keep` bytes) is done */
	MODEL_SHORT,	  /* a write does `keep` bytes and says so */
};

struct model_fault {
	unsigned at; /* number of the call, from 1; 0: never */
	enum model_fault_kind kind;
	int code;
	size_t keep;
};

/* What a failed sync leaves of the blocks that were dirty. */
enum model_loss {
	MODEL_LOSE_DATA, /* clean and not written, the size goes to the disk */
	MODEL_LOSE_ALL,	 /* the size does not go, either */
	MODEL_LOSE_NONE, /* still dirty */
};

/* Faults of the model itself: each breaks a promise that the library's code keeps, so
 * that a rig can be seen to notice. */
struct model_broken {
	bool no_undo;	     /* cutting back does nothing and says that it did */
	bool no_lock;	     /* the lock is always free */
	bool no_dir_sync;    /* syncing the directory does nothing */
	bool retried_sync;   /* a failed sync is tried again and believed */
	bool no_drop;	     /* verification reads the page cache */
	bool no_sync;	     /* syncs do nothing */
	bool no_intent_sync; /* nor do those of file 1 */
	bool no_unlink;	     /* a removed file stays */
	bool late_mark;	     /* marks get to the disk with a sync only, sizes before */
	bool late_save;	     /* bytes are set aside after the file has been cut */
};

/* Metadata of a file, which gets to the disk in the order in which it was changed. */
struct model_meta {
	size_t size, mark_len; /* 0: no mark */
	char mark[MODEL_MARK_MAX];
};

struct model_file {
	bool exists, exists_on_disk;
	char *data, *disk; /* `cap` bytes each, zero behind their sizes */
	size_t size, disk_size, cap;
	bool *dirty;			   /* per block of model->block bytes */
	struct model_meta meta, disk_meta; /* the mark alone counts: sizes are above */
	struct model_meta metas[MODEL_SIZES];
	unsigned nmetas; /* since the last sync, oldest first */
	int lock;	 /* descriptor that holds it, 0: free, -1: an outside program */
	struct timespec mtime;
};

struct model {
	struct jsonl_io io; /* first: cast back */
	size_t block;	    /* bytes */
	struct model_file files[MODEL_FILES];
	struct {
		bool used, dir;
		int file, flags;
		off_t pos;
	} fds[MODEL_FDS];
	struct model_broken broken;
	enum model_loss loss;
	bool fresh_times; /* files look just written: mtime is the present time */
	struct model_fault faults[2];
	unsigned calls;
	enum model_op trace[MODEL_CALLS]; /* what call n + 1 was */
	bool dead;
	/* Called before each call is done, not for a dead process. May be NULL. */
	void (*before)(struct model *m, enum model_op op);
	void *ctx;
};

void model_init(struct model *m);
/* Bytes of a block, 32 if not said; before there is any content. */
void model_set_block(struct model *m, size_t bytes);
void model_deinit(struct model *m);
/* A new descriptor; `dir`: of the directory. File 0 is made when it is missing. */
int model_open(struct model *m, int file, int flags, bool dir);
/* Files may be opened by this name, made anew and removed: 2. The others are opened by
 * the tests. */
#define MODEL_NAMED "stage"
/* A copy with buffers of its own. */
void model_copy(struct model *to, const struct model *from);
/* Content put there by nobody; `synced`: it is on the disk, too. */
void model_put(struct model *m, int file, const void *data, size_t len, bool synced);
/* An outside program appends. */
void model_outside(struct model *m, int file, const void *data, size_t len);
/* The process is gone, its descriptors and locks with it; a new one may begin. */
void model_restart(struct model *m);
/* Counts a call that is not a system call. 0 or the code it is to fail with; *after: done
 * all the same. */
int model_call(struct model *m, enum model_op op, bool *after);

/* Calls fn with a model of its own for every state of file 0 that the disk may be in when
 * the power goes now. In order: the size is one that the file has had, blocks are there
 * up to some byte and zero behind it. With `any`: every subset of the dirty blocks.
 * Returns how many states. */
unsigned model_power_cuts(const struct model *m, bool any,
			  void (*fn)(struct model *after, void *ctx), void *ctx);

#endif
