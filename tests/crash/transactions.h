/* SPDX-License-Identifier: MIT */
/* What test_transaction.c cuts at every call: a log with two transactions and other
 * appends, what a mount does after a crash, and a judgement of what is then there. File 0
 * of the model is the log, 1 its intent, 2 the file that the first transaction is staged
 * in, 3 an intent that nobody looks for. */
#ifndef TESTS_CRASH_TRANSACTIONS_H
#define TESTS_CRASH_TRANSACTIONS_H

#include "block/commit.h"
#include "file/file.h"
#include "model.h"

/* How a run differs, and how it is broken on purpose. */
struct run_options {
	bool keep;	  /* what a crash leaves staged is appended: killed=commit */
	bool ordered;	  /* the disk gets metadata in order: intents may be marks */
	bool in_memory;	  /* nothing is synced before its end */
	bool rolled_back; /* the first transaction is taken back at its end */
	bool no_recovery;
	bool lost_intent; /* recovery appends under an intent that it does not know */
	bool careless;	  /* a stage is removed though it was not kept */
	struct model_broken broken; /* of the model, in recovery too */
};

struct run {
	struct model m;
	const struct run_options *opt;
	struct jsonl_file *file;
	struct jsonl_intent intent;
	struct jsonl_file_user user;
	bool other_done[2], block_done[2], block_failed[2];
	bool staged;	  /* the first block was made durable where it is staged */
	bool rolled_back; /* and is gone from there for good */
	bool wide;	  /* blocks of the disk get there in any order */
	bool hindered;	  /* a call of the recovery was made to fail */
	bool told;	  /* something was put off or could not be made sure of */
	char saved[8192];
	size_t nsaved;
};

void run_init(struct run *r, const struct run_options *opt);
/* The same state with nothing open, for a process that begins. */
void run_restart(struct run *to, const struct run *from);
void run_deinit(struct run *r);

void run_programs(struct run *r);
/* What the next mount does. False: the process died, or could not do all of it. */
bool run_recover(struct run *r);
/* Then: what is wrong, or NULL. `power`: some of it was cut off from the disk. */
const char *run_judge(struct run *r, bool power);

#endif
