/* SPDX-License-Identifier: MIT */
/* Stores bytes with the reason for which they were set aside. STATE/quarantine/ has one
 * file for each event, named UTCSTAMP.NANOSECONDSZ.RANDOM-BASENAME (the same form as in
 * the archive; unique, and not to be guessed), and the index STATE/quarantine.jsonl one
 * JSON line for each event. Bounded by quarantine_max: every file counts in whole blocks
 * of 4 KiB, every line of the index with its bytes, both for the uid that wrote, which
 * has a share of a quarter (1 MiB at least). A part is kept for bytes that no caller can
 * be refused. Lines of removed entries are dropped when entries are dropped, when room is
 * needed, and at the start, by writing the index anew. Thread-safe: one mutex inside, not
 * held while bytes are written or synced, but for a line of the index between hosts.
 * After a crash of the process there may be a file without an index line, never a line
 * without its file; after a power cut the same holds for items that were to be `durable`,
 * and their files are whole. */
#ifndef JSONL_QUARANTINE_H
#define JSONL_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/io.h"

#define JSONL_QUARANTINE_NAME 256 /* bytes of a name, NUL included */
#define JSONL_QUARANTINE_RESERVE                                                         \
	(32ULL << 20) /* bytes kept for what has no caller to refuse: fragments,         \
		       * repairs, bad lines beside good ones, onbad=quarantine */
#define JSONL_QUARANTINE_GATHER_MAX                                                      \
	(1U << 20) /* bytes that are gathered in one entry                               \
		    */
#define JSONL_QUARANTINE_GATHER_SECONDS 60

struct jsonl_quarantine;

struct jsonl_quarantine_item {
	const struct iovec *iov;
	int niov;
	const char *event; /* "refused", "fragment", "torn-tail", "sync-failed" ... */
	int code;	   /* verdict or -errno: the reason */
	uint64_t offset;   /* index of the first wrong byte within these bytes */
	/* committed length of the file when it happened; -1: unknown */
	int64_t at;
	const char *path;  /* relative to the vault */
	const char *program; /* may be NULL */
	pid_t pid;	     /* 0: unknown */
	uid_t uid;	     /* of the writer; counts against its share */
	int source_fd; /* its owner, mode and ACL are taken over; -1: root only, 0600 */
	bool reserved; /* may use the reserved part */
	bool durable;  /* file, index and directory are synced before returning */
	/* joins what the same program, uid and path had set aside in this way within a
	 * minute, in one entry, each on lines of its own; not together with joinable */
	bool gather;
	/* jsonl_quarantine_join may follow: the entry is never shared with one of the
	 * same bytes, so that two remainders cannot mix */
	bool joinable;
};

/* Opens the quarantine. `state_fd`: descriptor of the state directory (duplicated), or -1
 * for a vault that cannot be written: then put() answers -EROFS. Creates quarantine/ when
 * it is missing and counts what is there. 0 or -errno. */
int jsonl_quarantine_new(const struct jsonl_io *io, int state_fd, uint64_t max_bytes,
			 struct jsonl_quarantine **q) jsonl_must_check;
/* Makes each line of the index wait for the lock of the index: for file systems of several
 * hosts where O_APPEND may write over what another host has just appended. Before the
 * first use. */
void jsonl_quarantine_share(struct jsonl_quarantine *q);
/* Sets the bound. Entries that are there already stay. */
void jsonl_quarantine_bound(struct jsonl_quarantine *q, uint64_t max_bytes);
void jsonl_quarantine_free(struct jsonl_quarantine *q);

/* Stores the bytes; name (may be NULL) receives the file's name. The same bytes of the
 * same path and uid are stored once: a second put returns the first name. -ENOSPC when
 * the bound or the caller's share is reached, else 0 or -errno. */
int jsonl_quarantine_put(struct jsonl_quarantine *q,
			 const struct jsonl_quarantine_item *item,
			 char name[JSONL_QUARANTINE_NAME]) jsonl_must_check;
/* Adds bytes to an entry: the rest of a record whose beginning was refused. */
int jsonl_quarantine_join(struct jsonl_quarantine *q, const char *name,
			  const struct iovec *iov, int niov,
			  bool durable) jsonl_must_check;
/* Removes an entry. 0 or -errno. _settle makes removals durable and counts what is left;
 * call it once after many. */
int jsonl_quarantine_drop(struct jsonl_quarantine *q, const char *name) jsonl_must_check;
int jsonl_quarantine_settle(struct jsonl_quarantine *q) jsonl_must_check;
/* Notes in the index that the records of an entry were appended to the log after all. */
int jsonl_quarantine_restored(struct jsonl_quarantine *q, const char *name,
			      uint64_t records) jsonl_must_check;
/* Returns the bytes and entries that are stored now. */
void jsonl_quarantine_usage(struct jsonl_quarantine *q, uint64_t *bytes,
			    uint64_t *entries);

#endif
