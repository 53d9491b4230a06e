/* libjsonl: keep a JSON Lines file whole, from any program, with or without jsonlfs.
 *
 * A record is one line: one JSON text (RFC 8259, UTF-8) and its newline. A record is written
 * by one append, under flock(2) on the file itself (LOCK_EX), which every other user of this
 * library, the file system and any program that takes the same lock respect; nothing that is
 * in the file is ever overwritten. A torn tail that a crash has left is moved into a file
 * beside (NAME.torn-UTCSTAMP) before the next append; a record that a full disk cut short is
 * taken back.
 *
 * Functions return 0, -errno when the system failed, or a positive verdict about the data;
 * jsonl_message says it in words. All are thread-safe; a struct jsonl_log may be shared by
 * threads. No global state, but for one counter of the memory that holds bytes not yet on
 * the disk. */
#ifndef JSONL_H
#define JSONL_H

#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define JSONL_API __attribute__((visibility("default")))

struct jsonl_log;

/* Is this one JSON text (without its newline)? 0 or a verdict; *offset (may be NULL) is the
 * first wrong byte. Allocates nothing. */
JSONL_API int jsonl_validate(const void *line, size_t len, size_t *offset);

/* A sentence for a code of this library. Of the calling thread until its next call. */
JSONL_API const char *jsonl_message(int code);

/* Opens a log for appending, creating it with `mode` (open(2)) if it does not exist; then its
 * directory is synced with the first jsonl_sync. */
JSONL_API int jsonl_open(const char *path, mode_t mode, struct jsonl_log **log);
/* Appends one record, which has no newline of its own: that is added. Waits up to five
 * seconds for a lock that another program holds, then -EAGAIN. On any failure nothing of the
 * record is in the file. */
JSONL_API int jsonl_append(struct jsonl_log *log, const void *record, size_t len);
/* Returns 0 when all that was appended through this log before is on the disk. -EIO: it is
 * not, and saying it again would be a lie; the next append looks at the disk first. */
JSONL_API int jsonl_sync(struct jsonl_log *log);
/* Closes without syncing; log may be NULL. */
JSONL_API void jsonl_close(struct jsonl_log *log);

/* All in one: open (mode 0666 less umask), append, sync, close. */
JSONL_API int jsonl_append_record(const char *path, const void *record, size_t len);

#ifdef __cplusplus
}
#endif
#endif
