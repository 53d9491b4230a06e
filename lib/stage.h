/* Bytes that wait until they may be appended as one block: in memory up to
 * JSONL_STAGE_MEMORY, then in a file of the state directory. Nothing of it is in the log.
 * Not thread-safe: the owner locks. After a crash a file is what is left, if there was
 * one; what it holds beyond the last sync may be missing. */
#ifndef JSONL_STAGE_H
#define JSONL_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "io.h"

#define JSONL_STAGE_MEMORY (1u << 20) /* bytes */
#define JSONL_STAGE_NAME   64	      /* of a name, with its NUL */

struct jsonl_stage;

/* `dir_fd`: where a file may be made, borrowed; -1: nowhere. `name`: of that file;
 * a number is added for each that follows.
 * `path`: of the log, written in front of the content. `made` is called with the new
 * file's descriptor, 0 or -errno; may be NULL. */
int jsonl_stage_new(const struct jsonl_io *io, int dir_fd, const char *name,
		    const char *path, int (*made)(void *ctx, int fd), void *ctx,
		    struct jsonl_stage **stage) jsonl_must_check;
/* One that a crash has left, to be read and discarded: its whole records, up to the first
 * NUL, which is what a power cut leaves in place of bytes. *path is to be freed; NULL
 * (and the stage empty): the file does not tell what it is for. */
int jsonl_stage_open(const struct jsonl_io *io, int dir_fd, const char *name,
		     struct jsonl_stage **stage, char **path) jsonl_must_check;
/* Of such a one: all of it, whole records or not, but for the NULs at the end. 0 or
 * -errno. */
int jsonl_stage_take_all(struct jsonl_stage *s) jsonl_must_check;
/* Frees the memory. What is in it is dropped, unless it was left by a crash: then the
 * file stays. */
void jsonl_stage_free(struct jsonl_stage *s);

/* All or nothing: 0 or -errno. */
int jsonl_stage_add(struct jsonl_stage *s, const struct iovec *iov,
		    int n) jsonl_must_check;
/* Makes all of it durable in the state directory. */
int jsonl_stage_sync(struct jsonl_stage *s) jsonl_must_check;
uint64_t jsonl_stage_length(const struct jsonl_stage *s);
/* Bytes of it that are in memory. */
size_t jsonl_stage_memory(const struct jsonl_stage *s);
/* The name of its file, NULL: it has none. */
const char *jsonl_stage_file(const struct jsonl_stage *s);
/* Up to `len` bytes at `off`: a pointer into the memory, or into `buf`, which they are
 * read into. Returns how many, 0 at the end, or -errno. */
ssize_t jsonl_stage_read(struct jsonl_stage *s, uint64_t off, char *buf, size_t len,
			 const char **bytes) jsonl_must_check;
/* The descriptor of its file, borrowed, and where the content begins there; -1: in
 * memory, at *bytes. */
int jsonl_stage_place(struct jsonl_stage *s, off_t *at, const char **bytes);
/* Forgets everything: it is not to be appended. After a crash a file may be back. */
void jsonl_stage_clear(struct jsonl_stage *s);
/* The same, and a file does not come back. 0, or -errno: it may. */
int jsonl_stage_discard(struct jsonl_stage *s) jsonl_must_check;
/* The same, but its file stays as one that a crash has left. */
void jsonl_stage_leave(struct jsonl_stage *s);
/* Removes the file of one that is not open, for good. 0, also when it is gone, or
 * -errno. */
int jsonl_stage_remove(const struct jsonl_io *io, int dir_fd,
		       const char *name) jsonl_must_check;

#endif
