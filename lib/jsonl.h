/* SPDX-License-Identifier: MIT */
/* libjsonl keeps a JSON Lines file whole, from any program, with or without jsonlfs.
 *
 * A record is one line: one JSON text (RFC 8259, UTF-8) and its newline. It is written by
 * one append under flock(2) (LOCK_EX) on the file itself, which every user of this
 * library, the file system and any program that takes the same lock respect
 * (docs/LOCKING.md). Bytes in the file are never overwritten. Before the next append, a
 * torn tail that a crash left is moved to a file beside it, NAME.torn-UTCSTAMP; a record
 * that a full disk cut short is taken back.
 *
 * Functions return 0, -errno when the system failed, or a positive verdict about the
 * data; jsonl_message puts any of them into words. All are thread-safe: threads may share
 * a struct jsonl_log, but a struct jsonl_records is for one thread at a time. The only
 * global state is a counter of the memory that holds bytes not yet on the disk. Where
 * nothing else is said, a record or document is shorter than 16 MiB and nested at most
 * 128 deep. */
#ifndef JSONL_H
#define JSONL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define JSONL_API __attribute__((visibility("default")))

/* ---- one record ---- */

/* Checks that these bytes are one JSON text, without its newline. 0, or a verdict with
 * the first wrong byte in *offset, which may be NULL. Allocates nothing. */
JSONL_API int jsonl_validate(const void *line, size_t len, size_t *offset);

/* Returns a sentence for a code of this library, valid until the next call by the same
 * thread. */
JSONL_API const char *jsonl_message(int code);

/* ---- appending ---- */

struct jsonl_log;

/* Opens a log for appending. If it does not exist it is created with `mode` (open(2)),
 * and the first jsonl_sync syncs its directory, too. */
JSONL_API int jsonl_open(const char *path, mode_t mode, struct jsonl_log **log);
/* Appends one record and its newline; the record itself has none. -EAGAIN: another
 * program has held the lock for five seconds. After any failure nothing of the record is
 * in the file. When the name stands for another file by now (it was rotated or replaced),
 * or for none, the earlier records are synced and this one goes to the file of that name;
 * a relative path means the directory as of jsonl_open. */
JSONL_API int jsonl_append(struct jsonl_log *log, const void *record, size_t len);
/* Makes durable all records that were appended through this log. -EIO: they may be lost,
 * and a second sync would prove nothing; the next append looks at the disk first. */
JSONL_API int jsonl_sync(struct jsonl_log *log);
/* Closes the log without syncing it. `log` may be NULL. */
JSONL_API void jsonl_close(struct jsonl_log *log);

/* Opens (mode 0666 less umask), appends, syncs and closes. */
JSONL_API int jsonl_append_record(const char *path, const void *record, size_t len);

/* Repairs the end of a file, as the next append would, and syncs it: a torn tail is moved
 * to NAME.torn-UTCSTAMP, a last record without newline gets one. -EAGAIN: somebody else
 * has been writing for five seconds. A verdict: the file is no JSON Lines file and was
 * left alone. */
JSONL_API int jsonl_repair_tail(const char *path);

/* ---- reading what may be damaged ---- */

struct jsonl_records;

struct jsonl_record {
	const char *data; /* valid until the next call; no NUL behind it; NULL: the end */
	size_t len;	  /* without the newline */
	uint64_t offset;  /* of data in the file */
	uint64_t line;	  /* from 1 */
};

/* Opens a file for reading, from its start to its size as of now. */
JSONL_API int jsonl_records_open(const char *path, struct jsonl_records **records);
/* Reads the next record: 0. A verdict: bytes that are no record, from a line that is
 * invalid, torn, not UTF-8 or too long (then in several pieces), or a run of NULs.
 * Records that share a line come one by one when all of them are valid. Nothing is joined
 * over a gap, and a number that may be cut off is no record. Blank lines are skipped. At
 * the end 0 with record->data NULL. */
JSONL_API int jsonl_records_next(struct jsonl_records *records, struct jsonl_record *record);
/* `records` may be NULL. */
JSONL_API void jsonl_records_close(struct jsonl_records *records);

/* ---- whole files ---- */

/* Replaces the content of a file. A new file is written in the same directory, gets mode,
 * owner, ACL and attributes of the old one, is synced and takes the name; then the
 * directory is synced. Readers see the old content or the new one, whole, also after a
 * crash. A file that does not exist is created with `mode` (open(2)). A symbolic link is
 * followed. The old file is locked meanwhile (-EAGAIN after five seconds), so appends by
 * this library are not lost: they wait, and go to the new file. */
JSONL_API int jsonl_replace_file(const char *path, const void *data, size_t len, mode_t mode);

/* Reads a file that holds one JSON text of less than 256 MiB, on any number of lines.
 * *text, to be freed, has a NUL behind it, which *len (may be NULL) does not count. A
 * file that does not exist reads as `fallback`: 0. A file that is not JSON is renamed to
 * NAME.bad-UTCSTAMP and reads as `fallback`, too: the verdict is returned, and *aside
 * (may be NULL) is its new path, to be freed. After -errno *text is NULL. */
JSONL_API int jsonl_load(const char *path, const char *fallback, char **text, size_t *len,
			 char **aside);

#ifdef __cplusplus
}
#endif
#endif
