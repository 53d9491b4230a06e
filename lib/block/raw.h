/* SPDX-License-Identifier: MIT */
/* Appends a stage to a file of any content by one write. No lock is needed: the file
 * system lets nobody else write meanwhile. There is no intent, because a part of the
 * block could not be told from other text: after a crash in the middle of the write it
 * stays. Not thread-safe: the owner of the stage locks, and appends one block at a time
 * to a file, so that a short one can be cut back. */
#ifndef JSONL_RAW_H
#define JSONL_RAW_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/io.h"
#include "block/stage.h"

/* Maps all that is staged as one piece of memory. */
struct jsonl_stage_map {
	struct iovec iov; /* the staged bytes */
	void *at;
	size_t len;
};
/* Maps the stage. 0 or -errno. Pair with jsonl_stage_unmap, also after a failure; the
 * stage must not change in between. */
int jsonl_stage_map(struct jsonl_stage *s, struct jsonl_stage_map *map) jsonl_must_check;
void jsonl_stage_unmap(struct jsonl_stage_map *map);

/* Appends the staged bytes, all or none, and leaves the stage as it is. `fd` needs no
 * O_APPEND. `readers` is held for writing as long as only a part of the block may be in
 * the file, not during the sync: a reader that holds it sees all of the block or nothing.
 * 0; or -errno, and then *stays says that the whole block is in the file nevertheless: it
 * could neither be made durable nor cut off. */
int jsonl_raw_append(const struct jsonl_io *io, int fd, struct jsonl_stage *s,
		     bool durable, pthread_rwlock_t *readers,
		     bool *stays) jsonl_must_check;
/* Appends what a crash has left staged, unless the file ends with it already, and makes
 * it durable. 0 or -errno. */
int jsonl_raw_recover(const struct jsonl_io *io, int fd,
		      struct jsonl_stage *s) jsonl_must_check;

#endif
