/* SPDX-License-Identifier: MIT */
/* What a writer of the crash rigs was told, kept where a crash of the disk under test
 * does not reach: a file elsewhere, mapped by all writers, one byte a record. A byte is
 * changed before a system call to what may have happened and after it to what was said,
 * so a writer that is killed in between leaves the weaker of the two. */
#ifndef TESTS_CRASH_LEDGER_H
#define TESTS_CRASH_LEDGER_H

#include <stdint.h>

enum ledger_state {
	LEDGER_UNTRIED,
	LEDGER_TRIED,	/* no call has said anything about it */
	LEDGER_PART,	/* its beginning was accepted, or all but its newline */
	LEDGER_WRITTEN, /* write returned 0 */
	LEDGER_DURABLE, /* and so did close or fsync */
	LEDGER_REFUSED, /* write failed */
	LEDGER_TOLD,	/* write returned 0, close or fsync failed */
	LEDGER_STATES
};

struct ledger {
	uint32_t writers, records; /* of each writer */
	uint32_t files, size;	   /* log0.jsonl ...; mean bytes of a record */
	_Atomic uint32_t stop;	   /* writers end at their next record */
	uint32_t errors[134];	   /* failed calls by errno */
	_Atomic uint8_t state[];   /* [writer * records + record] */
};

/* Bytes of a record, newline included; its text is written to buf (`size` bytes at
 * least, see ledger_longest). A function of its numbers alone. */
unsigned ledger_record(const struct ledger *l, uint32_t writer, uint32_t record,
		       char *buf);
unsigned ledger_longest(const struct ledger *l);
/* Bytes up to which a record tells which one it is: its numbers are of one length. */
#define LEDGER_HEAD   32
#define LEDGER_WRITER 100000U
#define LEDGER_RECORD 1000000000U

#endif
