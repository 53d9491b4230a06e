/* SPDX-License-Identifier: MIT */
/* Makes the text of writers.json: programs and the files they append to. It is made while
 * it is read, entry by entry, and never kept as a whole, because it may be megabytes long
 * and anybody may open it as often as he likes. Each part shows the counters of the
 * moment in which it was made; reading backwards makes it again from the start. One
 * thread at a time for each reader. */
#ifndef FS_VIRTUAL_WRITERS_H
#define FS_VIRTUAL_WRITERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_mount;
struct fs_writers;

/* Makes a reader that shows what belongs to this uid, or to everybody. NULL: out of
 * memory. */
struct fs_writers *fs_writers_new(struct fs_mount *m, uid_t uid, bool everybody);
void fs_writers_free(struct fs_writers *w);
/* Fills buf; fewer bytes than `size` mean the end. Length or -ENOMEM. */
ssize_t fs_writers_read(struct fs_writers *w, uint64_t off, char *buf,
			size_t size) jsonl_must_check;
/* Returns the present length of the text. */
uint64_t fs_writers_length(struct fs_writers *w);

#endif
