/* What writer.c (slots and writes), writer_refuse.c (bad records) and writer_close.c
 * (flush, fsync, release) and writer_stage.c (blocks) share. Everything here is under the
 * writer's mutex. */
#ifndef JSONL_WRITER_INTERNAL_H
#define JSONL_WRITER_INTERNAL_H

#include <pthread.h>

#include "writer.h"

/* The last refused request of an owner. */
struct jsonl_refused {
	bool active;
	char *bytes; /* as it was sent; NULL: only what follows it matters still */
	size_t len;
	size_t head; /* bytes at its front that ended an older fragment's line */
	bool mid;    /* its last line is not finished: what follows belongs to it */
	bool
	    unheard; /* the kernel may have reported a short write instead of the error */
	int code;    /* verdict */
	/* What stood in front of it, when the line that this began was good: it is in the
	 * quarantine with the request, and counts again only if that is sent again. */
	struct jsonl_frame fragment;
	char name[JSONL_QUARANTINE_NAME];
};

struct jsonl_slot {
	struct jsonl_slot *next;
	uint64_t owner;
	void *who;
	struct jsonl_frame frame;
	struct jsonl_refused refused;
	bool after_full; /* the last request was as long as requests get */
	bool adopted;	 /* the frame's fragment was another owner's */
	int told;	 /* -errno for which its close has said that it is not in the file */
	size_t fixed;	 /* bytes that it weighs by itself */
	size_t charged;	 /* bytes, as told to events->charge */
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
	size_t staged_charged; /* bytes of memory, as told to events->charge */
	off_t virtual_end; /* of the last accepted write, pending and dropped bytes
			      counted */
	struct jsonl_slot *slots;
	struct jsonl_slot *orphans; /* oldest first */
	size_t norphans;
	size_t nslots; /* orphans among them */
};

struct jsonl_request {
	const char *data;
	size_t len;
	size_t
	    skip; /* bytes at the front that are not offered: known, or already stored */
	size_t reported; /* bytes at the front whose bad lines were reported before */
	bool stored;	 /* nothing to do at all */
	bool join;	 /* the skipped bytes belong to the refused request's last line */
};

/* ---- writer.c ---- */

struct jsonl_slot **jsonl_slot_find(struct jsonl_writer *w, uint64_t owner);
/* Has it more to say than that a newline is to be swallowed? */
bool jsonl_slot_has_bytes(const struct jsonl_slot *s);
/* Tells what the slot weighs now; growth has been asked for before, so this cannot fail
 * for want of memory. */
void jsonl_slot_charge(struct jsonl_writer *w, struct jsonl_slot *s);
void jsonl_slot_free(struct jsonl_writer *w, struct jsonl_slot *s);
/* Appends whole records, or stages them. As jsonl_file_append. */
int jsonl_writer_append(struct jsonl_writer *w, const struct iovec *iov, int niov,
			uint64_t records) jsonl_must_check;
/* A verdict or -errno as the -errno that a program gets. */
int jsonl_writer_errno(int rc);

/* ---- writer_refuse.c ---- */

void jsonl_refused_clear(struct jsonl_refused *r);
void jsonl_slot_set_aside(struct jsonl_writer *w, struct jsonl_slot *s, const char *event,
			  int code, uint64_t offset, const struct iovec *iov, int niov,
			  char name[JSONL_QUARANTINE_NAME]);
/* Gives up a fragment: nobody is left who could go on with it. */
void jsonl_slot_give_up(struct jsonl_writer *w, struct jsonl_slot *s, int code,
			size_t offset);
/* Is line[0..len) a record that cannot be the rest of this unfinished one? An unfinished
 * text has a bracket or a string open, and a whole object or array does not close it. */
bool jsonl_refused_starts_afresh(const struct jsonl_writer *w, const char *unfinished,
				 size_t unfinished_len, const char *line, size_t len);
/* Looks at what was refused last and finds out what this request is to it. Returns 0, or
 * the -errno that must be given again because it was not heard. Changes nothing. */
int jsonl_refused_recall(const struct jsonl_writer *w, const struct jsonl_slot *s,
			 struct jsonl_request *r);
/* Refuses the request for `bad`, a line of the cut: sets its bytes aside, remembers it.
 * The -errno for the program. */
int jsonl_refused_enter(struct jsonl_writer *w, struct jsonl_slot *s,
			const struct jsonl_request *r, const struct jsonl_cut *cut,
			const struct jsonl_bad_line *bad);
/* The first bad line that was not reported before; NULL: none. */
const struct jsonl_bad_line *jsonl_refused_first_new(const struct jsonl_slot *s,
						     const struct jsonl_request *r,
						     const struct jsonl_cut *cut);
/* When this request is the refused one again: exchanges the frame, which is empty then,
 * with the fragment that stood in front of it. True when there was one. */
bool jsonl_refused_exchange(struct jsonl_slot *s, const struct jsonl_request *r);
/* Is the last bad line one that has outgrown maxrecord without ending? */
bool jsonl_refused_is_unfinished(const struct jsonl_slot *s,
				 const struct jsonl_request *r,
				 const struct jsonl_cut *cut);
/* onbad=quarantine: each bad line becomes an entry of its own. */
void jsonl_refused_set_aside_each(struct jsonl_writer *w, struct jsonl_slot *s,
				  const struct jsonl_request *r,
				  const struct jsonl_cut *cut,
				  const struct jsonl_bad_line *from);
/* After success: the refused request has been dealt with, as far as this one reached. */
void jsonl_refused_settle(struct jsonl_writer *w, struct jsonl_slot *s,
			  const struct jsonl_request *r);

/* ---- writer_close.c ---- */

/* Commits the fragment if it is whole and cannot grow. Returns 0, a verdict that says why
 * it was left (JSONL_OK also for a number or nothing), or -errno. */
int jsonl_slot_settle(struct jsonl_writer *w, struct jsonl_slot *s) jsonl_must_check;

#endif
