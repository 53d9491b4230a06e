/* SPDX-License-Identifier: MIT */
/* Describes the intent of a block: commit.c writes it, commit_recover.c reads it,
 * commit_mark.c keeps it in an attribute. */
#ifndef JSONL_COMMIT_INTERNAL_H
#define JSONL_COMMIT_INTERNAL_H

#include <stddef.h>

#include "block/commit.h"
#include "file/file_internal.h"

#define COMMIT_CHUNK (1u << 20) /* bytes read and written at once */
#define COMMIT_HEAD  256	/* first bytes of the block, kept in the intent */
#define COMMIT_PATH  4096
#define COMMIT_MAGIC UINT64_C(0x325f4c4e4f534a2e)

/* The bytes in the file, in the byte order of the machine (docs/FORMAT.md). The file
 * begins with one of length 0, which tells the path; the intent, if there is one, is
 * behind it. */
struct intent {
	uint64_t magic;
	uint64_t before, length; /* bytes */
	uint64_t sum;		 /* of the block */
	uint64_t check;		 /* of all else here */
	uint32_t path_len, stage_len, head_len, zero;
	/* The path, the name of the stage's file if there is one, the head. */
	char bytes[COMMIT_PATH + JSONL_STAGE_NAME + COMMIT_HEAD];
};

#define INTENT_FIXED offsetof(struct intent, bytes)

uint64_t jsonl_commit_intent_check(const struct intent *i);
size_t jsonl_commit_intent_size(const struct intent *i);
/* Cuts the file to its `head`. False: the intent may still be there. */
bool jsonl_commit_intent_clear(const struct jsonl_io *io, int fd, off_t head,
			       bool durable);

/* ---- commit_mark.c ---- */

/* Is an intent in an attribute of the log. It fits into an inode of 256 bytes: a larger
 * one would cost one more block of the journal each time. So it has length and sum of
 * the block's first value instead of its first bytes. */
struct mark {
	uint32_t magic, first_len; /* without white space behind it */
	uint64_t before, length;   /* bytes */
	uint64_t sum, first_sum;   /* of the block, of the value */
	uint64_t check;		   /* of all else here, and the inode's number */
};

/* Sets the mark for a block in memory. 0, or -errno: the mark is as it was. */
int jsonl_commit_mark_set(struct jsonl_file *f, const char *block,
			  size_t len) jsonl_must_check;
/* Reads the mark: 1; 0: the file has none of its own; -errno. */
int jsonl_commit_mark_read(struct jsonl_file *f, struct mark *m) jsonl_must_check;
/* Judges the `len` bytes where the block begins: *what. 0 or -errno. */
int jsonl_commit_mark_tells(struct jsonl_file *f, const struct mark *m, uint64_t len,
			    enum jsonl_recovered *what) jsonl_must_check;

#endif
