/* Bytes set aside with their reason: STATE/quarantine/ holds one file per event, named
 * UTCSTAMP.NANOSECONDS-BASENAME (never colliding), and the index STATE/quarantine.jsonl
 * one JSON line per event. Bounded by quarantine_max (every file counts in whole blocks
 * of 4 KiB), with a share of a quarter per uid (1 MiB at least) and a part kept for
 * fragments and repairs, which have no caller to refuse. Thread-safe: one mutex inside,
 * not held while bytes are written or synced. After a crash of the process a file without
 * an index line is possible, an index line without its file is not; a power cut respects
 * the same for what put() was asked to make `durable`, and those files are whole. */
#ifndef JSONL_QUARANTINE_H
#define JSONL_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "error.h"
#include "io.h"

#define JSONL_QUARANTINE_NAME 256 /* bytes of a name, NUL included */
#define JSONL_QUARANTINE_RESERVE                                                         \
	(32ULL << 20) /* bytes kept for fragments and repairs                            \
		       */

struct jsonl_quarantine;

struct jsonl_quarantine_item {
	const struct iovec *iov;
	int niov;
	const char *event; /* "refused", "fragment", "torn-tail", "sync-failed" ... */
	int code;	   /* verdict or -errno: the reason */
	uint64_t offset;   /* index of the first wrong byte within these bytes */
	int64_t at;	   /* committed length of the file when it happened, -1 unknown */
	const char *path;  /* relative to the vault */
	const char *program; /* may be NULL */
	pid_t pid;	     /* 0 unknown */
	uid_t uid;	     /* of the writer; counts against its share */
	int source_fd; /* takes over owner, mode and ACL of it; -1: root only, 0600 */
	bool reserved; /* may use the reserved part */
	bool durable;  /* fsync file, index and directory before returning */
	bool joinable; /* jsonl_quarantine_join may follow: never shared with an entry
			* of the same bytes, so that two remainders cannot mix */
};

/* `state_fd`: descriptor of the state directory (duplicated), or -1 for a vault that
 * cannot be written: then put() answers -EROFS. Creates quarantine/ when it is missing
 * and counts what is there. 0 or -errno. */
int jsonl_quarantine_new(const struct jsonl_io *io, int state_fd, uint64_t max_bytes,
			 struct jsonl_quarantine **q) jsonl_must_check;
/* From now on this is the bound. What lies there already stays. */
void jsonl_quarantine_bound(struct jsonl_quarantine *q, uint64_t max_bytes);
void jsonl_quarantine_free(struct jsonl_quarantine *q);

/* Stores the bytes; name (may be NULL) receives the file's name. The same bytes of the
 * same path are stored once: a second put returns the first name. -ENOSPC when the bound
 * or the caller's share is reached, else 0 or -errno. */
int jsonl_quarantine_put(struct jsonl_quarantine *q,
			 const struct jsonl_quarantine_item *item,
			 char name[JSONL_QUARANTINE_NAME]) jsonl_must_check;
/* Adds bytes to an entry: the rest of a record whose beginning was refused. */
int jsonl_quarantine_join(struct jsonl_quarantine *q, const char *name,
			  const struct iovec *iov, int niov,
			  bool durable) jsonl_must_check;
/* Removes an entry. 0 or -errno; _settle makes it durable and takes stock anew, once
 * after many. */
int jsonl_quarantine_drop(struct jsonl_quarantine *q, const char *name) jsonl_must_check;
int jsonl_quarantine_settle(struct jsonl_quarantine *q) jsonl_must_check;
/* Notes in the index that the records of an entry were appended again. */
int jsonl_quarantine_restored(struct jsonl_quarantine *q, const char *name,
			      uint64_t records) jsonl_must_check;
/* Bytes and entries that are stored now. */
void jsonl_quarantine_usage(struct jsonl_quarantine *q, uint64_t *bytes,
			    uint64_t *entries);

#endif
