/* SPDX-License-Identifier: MIT */
/* Keeps bytes until they are appended as one block: in memory up to JSONL_STAGE_MEMORY,
 * then in a file of the state directory. Nothing of it is in the log. After a crash the
 * file is left, if there was one; bytes behind the last sync may be missing. Not
 * thread-safe: the owner locks. */
#ifndef JSONL_STAGE_H
#define JSONL_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"

#define JSONL_STAGE_MEMORY (1u << 20) /* bytes */
#define JSONL_STAGE_NAME   64	      /* of a name, with its NUL */

struct jsonl_stage;

/* Callbacks to the owner of a stage; any of them may be NULL. */
struct jsonl_stage_events {
	/* Called for each new file. 0 or -errno. */
	int (*made)(void *ctx, int fd);
	/* Accounts for memory; for negative `bytes`, which were taken before, it
	 * succeeds. 0 or -errno. */
	int (*charge)(void *ctx, int64_t bytes);
};

/* Makes an empty stage. `dir_fd`: the directory for its file, borrowed; -1: it stays in
 * memory. `name`: of the file, with a number for each further one. `path`: of the log,
 * written in front of the content. `events`: NULL, or what is called with `ctx` until the
 * stage is freed; an error of theirs is returned. 0 or -ENOMEM. */
int jsonl_stage_new(const struct jsonl_io *io, int dir_fd, const char *name,
		    const char *path, const struct jsonl_stage_events *events, void *ctx,
		    struct jsonl_stage **stage) jsonl_must_check;
/* Opens a stage that a crash has left, to be read and discarded: its whole records up to
 * the first NUL, which a power cut leaves in place of bytes. *path: of the log, to be
 * freed; NULL, and the stage empty: the file does not name a log. 0 or -errno. */
int jsonl_stage_open(const struct jsonl_io *io, int dir_fd, const char *name,
		     struct jsonl_stage **stage, char **path) jsonl_must_check;
/* Extends a stage from jsonl_stage_open to all its bytes except the NULs at the end,
 * whole records or not. 0 or -errno. */
int jsonl_stage_take_all(struct jsonl_stage *s) jsonl_must_check;
/* Frees a stage and drops its content, but leaves the file if a crash had left it. NULL
 * is allowed. */
void jsonl_stage_free(struct jsonl_stage *s);

/* Adds bytes, all or none. 0 or -errno. */
int jsonl_stage_add(struct jsonl_stage *s, const struct iovec *iov,
		    int n) jsonl_must_check;
/* Makes the content durable in the state directory. 0 or -errno. */
int jsonl_stage_sync(struct jsonl_stage *s) jsonl_must_check;
uint64_t jsonl_stage_length(const struct jsonl_stage *s);
/* Returns the name of its file; NULL: it has none. */
const char *jsonl_stage_file(const struct jsonl_stage *s);
/* Returns up to `len` bytes at `off`: *bytes points into the memory, or to `buf`, into
 * which they were read. Their number, 0 at the end, or -errno. */
ssize_t jsonl_stage_read(struct jsonl_stage *s, uint64_t off, char *buf, size_t len,
			 const char **bytes) jsonl_must_check;
/* Returns the descriptor of its file, borrowed, with *at, where the content begins there;
 * or -1 with *bytes, when it is in memory. */
int jsonl_stage_place(struct jsonl_stage *s, off_t *at, const char **bytes);
/* Drops the content, which is not to be appended. After a crash a file may be back. */
void jsonl_stage_clear(struct jsonl_stage *s);
/* Drops it durably: 0, or -errno when a crash may bring the file back. */
int jsonl_stage_discard(struct jsonl_stage *s) jsonl_must_check;
/* Drops it but leaves the file, as a crash would. */
void jsonl_stage_leave(struct jsonl_stage *s);
/* Removes, durably, the file of a stage that is not open. 0, also when it is gone
 * already, or -errno. */
int jsonl_stage_remove(const struct jsonl_io *io, int dir_fd,
		       const char *name) jsonl_must_check;

#endif
