/* SPDX-License-Identifier: MIT */
/* What the crash tests share: programs that append records to one governed file over the
 * model, a ledger of what they were told, and the check of what is left after a fault.
 *
 * The invariant: every record that was acknowledged as durable is in the file once and
 * whole, in the order of its writer; every line is a valid record; what a write
 * acknowledged and the file does not hold was set aside or reported; what was refused is
 * not there. */
#ifndef TESTS_CRASH_RIG_H
#define TESTS_CRASH_RIG_H

#include "file/file.h"
#include "model.h"
#include "record/writer.h"

#define RIG_RECORDS 48
#define RIG_USERS   3
#define RIG_SAVED   1048576 /* bytes */

enum rig_state {
	RIG_TRIED,   /* the fault came while it was being written */
	RIG_WRITTEN, /* write returned 0 */
	RIG_SYNCED,  /* and so did close or fsync */
	RIG_TOLD,    /* written, and then the writer was told that a sync had failed */
	RIG_FAILED,  /* write returned an error */
	RIG_KEPT,    /* a value without its newline: in the file, or set aside */
};

struct rig_record {
	char *text; /* with its newline */
	size_t len;
	int writer; /* -1: was there before or came from outside */
	enum rig_state state;
};

struct rig {
	struct model m;
	struct jsonl_file *file;
	struct jsonl_writer *writer; /* of user 0, when a scenario uses one */
	struct jsonl_file_user users[RIG_USERS];
	struct rig_record records[RIG_RECORDS];
	unsigned nrecords;
	char *saved; /* set aside, durably */
	size_t nsaved;
	char *late; /* broken.late_save: not yet saved */
	size_t nlate;
	char torn[64]; /* a torn tail that was there: it must be saved */
	size_t ntorn;
	bool tail; /* the file began with a tail that has no newline */
	unsigned reports, sync_reports, undo_reports;
	unsigned next; /* number of the next record */
	int64_t charged;
	unsigned retries; /* appends that were asked to come again */
	/* A program outside: at call `outside_at` it appends. With the lock it takes it,
	 * if it is free, appends in two halves some calls apart, and lets go. */
	unsigned outside_at;
	bool outside, outside_locks, outside_half;
};

struct rig_scenario {
	const char *name;
	void (*run)(struct rig *r);
};

extern const struct rig_scenario rig_scenarios[];
extern const unsigned rig_nscenarios;

void rig_init(struct rig *r);
void rig_deinit(struct rig *r);

/* What programs do; nothing for a dead process. */
void rig_open(struct rig *r, bool quiet);
void rig_close(struct rig *r);
/* Appends `n` records of `len` bytes at least, in one request. True when acknowledged. */
bool rig_append(struct rig *r, int user, int n, size_t len);
void rig_sync(struct rig *r, int user);
/* A descriptor that goes through a writer: pieces of records, as write(2) sends them.
 * Each record is noted before with rig_expect. */
void rig_write(struct rig *r, uint64_t owner, const char *bytes);
struct rig_record *rig_expect(struct rig *r, const char *text);
/* What close(2) does: flush, then sync. Records up to this one count as acknowledged when
 * both say so. */
void rig_flush(struct rig *r, uint64_t owner);
void rig_release(struct rig *r);
/* Notes a record that is there already or comes from outside. */
void rig_note(struct rig *r, const char *text, enum rig_state state);

/* A new process over what is there now: it appends one record and makes it durable, which
 * must work, then the content is judged. `power`: only what was durable counts. Returns
 * NULL or what is wrong, in words; static text. The rig's model is used up. */
const char *rig_recover(struct rig *r, bool power);
/* The same over a copy that a power cut left. */
const char *rig_recover_from(const struct rig *r, struct model *after, bool any);

/* Prints a file's bytes so that a failure can be read. */
void rig_print(const struct model *m, const struct rig *r);

#endif
