/* libjsonl: keep a JSON Lines file whole, from any program, with or without jsonlfs.
 *
 * A record is one line: one JSON text (RFC 8259, UTF-8) and its newline. A record is written
 * by one append, under flock(2) on the file itself (LOCK_EX), which every other user of this
 * library, the file system and any program that takes the same lock respect (docs/LOCKING.md);
 * nothing that is in the file is ever overwritten. A torn tail that a crash has left is moved
 * into a file beside (NAME.torn-UTCSTAMP) before the next append; a record that a full disk
 * cut short is taken back.
 *
 * Functions return 0, -errno when the system failed, or a positive verdict about the data;
 * jsonl_message says it in words. All are thread-safe; a struct jsonl_log may be shared by
 * threads, a struct jsonl_records is one thread's at a time. No global state, but for one
 * counter of the memory that holds bytes not yet on the disk. A record, and a document, is
 * less than 16 MiB long where nothing else is said, and nested 128 deep at most. */
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

/* Is this one JSON text (without its newline)? 0 or a verdict; *offset (may be NULL) is the
 * first wrong byte. Allocates nothing. */
JSONL_API int jsonl_validate(const void *line, size_t len, size_t *offset);

/* A sentence for a code of this library. Of the calling thread until its next call. */
JSONL_API const char *jsonl_message(int code);

/* ---- appending ---- */

struct jsonl_log;

/* Opens a log for appending, creating it with `mode` (open(2)) if it does not exist; then its
 * directory is synced with the first jsonl_sync. */
JSONL_API int jsonl_open(const char *path, mode_t mode, struct jsonl_log **log);
/* Appends one record, which has no newline of its own: that is added. Waits up to five
 * seconds for a lock that another program holds, then -EAGAIN. On any failure nothing of the
 * record is in the file. When the name stands for another file by now (it was rotated, or
 * replaced), or for none, what was appended is synced, and the record goes to the file of
 * that name; a relative path means the directory that it meant when it was opened. */
JSONL_API int jsonl_append(struct jsonl_log *log, const void *record, size_t len);
/* Returns 0 when all that was appended through this log before is on the disk. -EIO: it is
 * not, and saying it again would be a lie; the next append looks at the disk first. */
JSONL_API int jsonl_sync(struct jsonl_log *log);
/* Closes without syncing; log may be NULL. */
JSONL_API void jsonl_close(struct jsonl_log *log);

/* All in one: open (mode 0666 less umask), append, sync, close. */
JSONL_API int jsonl_append_record(const char *path, const void *record, size_t len);

/* Brings the end of a file in order, as the next append would, and syncs it: a torn tail is
 * moved into NAME.torn-UTCSTAMP, a last record that has no newline gets one. Waits up to five
 * seconds, -EAGAIN, while somebody else writes. A verdict: the file is no JSON Lines file, and
 * was left alone. */
JSONL_API int jsonl_repair_tail(const char *path);

/* ---- reading what may be damaged ---- */

struct jsonl_records;

struct jsonl_record {
	const char *data; /* not terminated; until the next call; NULL: the end */
	size_t len;	  /* without the newline */
	uint64_t offset;  /* of data in the file */
	uint64_t line;	  /* from 1 */
};

/* Reads a file from its start to its size as of now. */
JSONL_API int jsonl_records_open(const char *path, struct jsonl_records **records);
/* The next record: 0; or bytes that are no record, with a verdict: what is left of a line that
 * is invalid, torn, not UTF-8, too long (then in several pieces) or a run of NULs. Records that
 * share a line are handed out one by one when all of them are valid. Nothing is joined over a
 * gap, and a number that may be cut off is no record. Blank lines are skipped. At the end 0, and
 * record->data is NULL. */
JSONL_API int jsonl_records_next(struct jsonl_records *records, struct jsonl_record *record);
/* records may be NULL. */
JSONL_API void jsonl_records_close(struct jsonl_records *records);

/* ---- whole files ---- */

/* Replaces the content of a file: a new one is written in the same directory, gets mode,
 * owner, ACL and attributes of the old one, is synced, and takes the name; then the directory is
 * synced. Readers see the old content or the new, whole, also after a crash. A file that does
 * not exist is made with `mode` (open(2)). A symbolic link is followed. The lock of the old file
 * is held meanwhile (five seconds, then -EAGAIN), so appends by this library are not lost: they
 * wait, and go to the new file. */
JSONL_API int jsonl_replace_file(const char *path, const void *data, size_t len, mode_t mode);

/* Reads a file that holds one JSON text (any number of lines, less than 256 MiB): *text, with a
 * NUL behind it that *len (may be NULL) does not count, is for the caller to free. A file that
 * does not exist reads as `fallback`: 0. One that is not JSON is moved aside, as
 * NAME.bad-UTCSTAMP, and reads as `fallback`, too: the verdict is returned, and *aside (may be
 * NULL) is the path that it has now, to be freed. On -errno *text is NULL. */
JSONL_API int jsonl_load(const char *path, const char *fallback, char **text, size_t *len,
			 char **aside);

#ifdef __cplusplus
}
#endif
#endif
