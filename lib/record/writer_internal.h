/* SPDX-License-Identifier: MIT */
/* Defines what the files of the writer share: writer.c (writes), writer_slot.c
 * (unfinished records), writer_owner.c (processes and their debts), writer_append.c
 * (where records go), writer_refuse.c (bad lines), writer_close.c (flush, fsync, release)
 * and writer_stage.c (blocks). Everything here is under the writer's mutex. */
#ifndef JSONL_WRITER_INTERNAL_H
#define JSONL_WRITER_INTERNAL_H

#include <pthread.h>

#include "record/writer.h"

/* One process behind the handle: what it has done, and what must be reported to it. It
 * stays when the process closes a descriptor, and differs from a later one with its
 * number. */
struct jsonl_owner {
	struct jsonl_owner *next;
	uint64_t owner, process;
	bool writing;  /* it has a slot of its own */
	bool accepted; /* a record of it was appended */
	bool synced;   /* an fsync has told it of its bad lines */
	int debt;      /* verdict of its first bad line; 0: none */
};

/* The last refused request of a slot. */
struct jsonl_refused {
	bool active;
	bool open;     /* its last line had outgrown maxrecord without ending */
	bool one_line; /* that line is all of it */
	size_t len;
	uint64_t hash;
	size_t skip; /* bytes at its front that ended an older line */
	/* The bytes in front of it: they are in the quarantine with the request, and come
	 * back if the request is sent again. */
	struct jsonl_frame fragment;
};

/* A line whose beginning is in the quarantine: the rest belongs there, too, up to its
 * newline. */
struct jsonl_aside {
	bool active;
	uint64_t
	    head; /* hash of its first maxrecord bytes; 0: the line is not too long */
	char name[JSONL_QUARANTINE_NAME]; /* "": not kept */
};

struct jsonl_slot {
	struct jsonl_slot *next;
	uint64_t owner;
	struct jsonl_owner *by; /* NULL: an orphan */
	void *who;
	struct jsonl_frame frame;
	struct jsonl_refused refused;
	struct jsonl_aside aside;
	bool adopted; /* the frame's fragment, or the line, was another owner's */
	/* -errno that its close has reported: it is not in the file */
	int told;
	size_t fixed; /* bytes that the slot itself takes */
	size_t charged; /* bytes that were charged by events->charge */
};

struct jsonl_writer {
	struct jsonl_file *file;
	struct jsonl_writer_options opt;
	const struct jsonl_writer_events *events;
	void *ctx;
	pthread_mutex_t lock;
	struct jsonl_file_user user;
	off_t open_size;
	off_t begin;	 /* with a stage: the length when the first staged record came */
	uint64_t staged; /* records */
	/* End of the last accepted write, counting pending and dropped bytes. */
	off_t virtual_end;
	bool wrote; /* something was written */
	/* end of the last write of bytes that were stored already; 0: none */
	off_t stored_end;
	/* The handle writes a new file, and nobody else has appended: its bytes are kept
	 * as they are. */
	bool copy;
	off_t copied; /* bytes that it has appended */
	bool noted;   /* its close without a last newline was noted */
	struct jsonl_slot *slots;
	struct jsonl_slot *orphans; /* oldest first */
	size_t norphans;
	size_t nslots; /* orphans among them */
	struct jsonl_owner *owners; /* latest first */
	size_t nowners;
	int spoiled; /* verdict of the first bad line of the block */
};

struct jsonl_request {
	const char *data;
	size_t len;
	size_t skip;  /* bytes at the front that are not offered: stored, or of `aside` */
	size_t again; /* bytes at the front that were refused the last time, too */
	bool stored;  /* nothing to do at all */
	bool below;   /* the skipped bytes are stored already */
	bool ends;    /* they end with a line whose newline is missing */
	bool join;    /* the skipped bytes belong to the slot's `aside` */
};

/* ---- writer_slot.c ---- */

struct jsonl_slot **jsonl_slot_find(struct jsonl_writer *w, uint64_t owner);
/* Returns true when the slot has more than a newline to swallow. */
bool jsonl_slot_has_bytes(const struct jsonl_slot *s);
/* Charges the slot's present memory. Growth has been charged before, so this cannot fail.
 */
void jsonl_slot_charge(struct jsonl_writer *w, struct jsonl_slot *s);
void jsonl_slot_free(struct jsonl_writer *w, struct jsonl_slot *s);
/* Returns the owner's slot, with its `who`; an owner without one continues the oldest
 * orphan. NULL: too many, or no memory. */
struct jsonl_slot *jsonl_slot_get(struct jsonl_writer *w, uint64_t owner, void *caller);
/* Charges the memory of a fragment that grows by `rest` bytes: 0 or -ENOBUFS. */
int jsonl_slot_reserve(struct jsonl_writer *w, struct jsonl_slot *s,
		       size_t rest) jsonl_must_check;

/* ---- writer_append.c ---- */

/* Appends whole records, or stages them. As jsonl_file_append; `open`: as _open. */
int jsonl_writer_append(struct jsonl_writer *w, const struct iovec *iov, int niov,
			uint64_t records, bool open) jsonl_must_check;
/* Returns true while the handle writes a copy. */
bool jsonl_writer_is_copy(struct jsonl_writer *w);
/* Converts a verdict or -errno to the -errno that a program gets. */
int jsonl_writer_errno(int rc);

/* ---- writer_owner.c ---- */

/* Returns the process behind a caller that writes for the first time. NULL: no memory. */
struct jsonl_owner *jsonl_owner_get(struct jsonl_writer *w, uint64_t owner,
				    uint64_t process);
void jsonl_owner_free_all(struct jsonl_writer *w);
/* Cancels all debts: the bad lines have been taken back. */
void jsonl_owner_forgive(struct jsonl_writer *w);
void jsonl_owner_owes(struct jsonl_owner *by, int verdict);
/* Return what a close, or an fsync, reports to the process of `caller`: 0 or -errno. */
int jsonl_owner_close(struct jsonl_writer *w, uint64_t owner, void *caller);
int jsonl_owner_fsync(struct jsonl_writer *w, void *caller);

/* ---- writer_refuse.c ---- */

void jsonl_refused_clear(struct jsonl_refused *r);
/* Gives up a fragment: no process is left that could complete it. */
void jsonl_slot_give_up(struct jsonl_writer *w, struct jsonl_slot *s, int code,
			size_t offset);
/* Returns true when line[0..len) is a whole object or array. */
bool jsonl_line_is_whole(const struct jsonl_writer *w, const char *line, size_t len);
/* Finds out how this request begins: with the request that was refused last, or with the
 * rest of a line that is set aside. Changes nothing. */
void jsonl_refused_recall(const struct jsonl_writer *w, const struct jsonl_slot *s,
			  struct jsonl_request *r);
/* Exchanges the frame, which is empty then, with the fragment that stood in front of the
 * refused request, when this request is that one again. True when there was a fragment.
 */
bool jsonl_refused_exchange(struct jsonl_slot *s, const struct jsonl_request *r);
/* Returns the bad line for which the request must be refused, or NULL. */
const struct jsonl_bad_line *jsonl_refused_reason(const struct jsonl_writer *w,
						  struct jsonl_slot *s,
						  const struct jsonl_request *r,
						  const struct jsonl_cut *cut);
/* Refuses the request for `bad`, a line of the cut: sets its bytes aside and remembers
 * it. Returns the -errno for the program. */
int jsonl_refused_enter(struct jsonl_writer *w, struct jsonl_slot *s,
			const struct jsonl_request *r, const struct jsonl_cut *cut,
			const struct jsonl_bad_line *bad);
/* Ends or continues the line that is set aside, after success: bytes that belong to it
 * join it. It ends with its newline, or because the request begins with something else.
 */
void jsonl_aside_settle(struct jsonl_writer *w, struct jsonl_slot *s,
			const struct jsonl_request *r);
/* Sets the cut's bad lines aside that are not known, after that. */
void jsonl_bad_set_aside(struct jsonl_writer *w, struct jsonl_slot *s,
			 const struct jsonl_request *r, const struct jsonl_cut *cut,
			 const char *event);

/* ---- writer_close.c ---- */

/* Commits the fragment if it is whole and cannot grow. Returns 0, a verdict that says why
 * it was left (JSONL_OK also for a number or nothing), or -errno. */
int jsonl_slot_settle(struct jsonl_writer *w, struct jsonl_slot *s) jsonl_must_check;
int jsonl_fragment_commit(struct jsonl_writer *w, struct jsonl_slot *s) jsonl_must_check;

#endif
