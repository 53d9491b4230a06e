/* The intent of a commit as commit.c writes and commit_recover.c reads it. */
#ifndef JSONL_COMMIT_INTERNAL_H
#define JSONL_COMMIT_INTERNAL_H

#include <stddef.h>

#include "commit.h"
#include "file_internal.h"

#define COMMIT_CHUNK (1u << 20) /* bytes read and written at once */
#define COMMIT_HEAD  256	/* first bytes of the block, kept in the intent */
#define COMMIT_PATH  4096
#define COMMIT_MAGIC UINT64_C(0x325f4c4e4f534a2e)

/* As it lies in the file, in the byte order of the machine; see FORMAT. First one of no
 * length, which only tells the path, then the intent, if there is one. */
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
/* Cuts the file to its `head`. As good as it can: false leaves the intent. */
bool jsonl_commit_intent_clear(const struct jsonl_io *io, int fd, off_t head,
			       bool durable);

/* ---- commit_mark.c ---- */

/* An intent in an attribute of the log. It has to fit into an inode of 256 bytes, or each
 * costs a block of the journal more: instead of the first bytes of the block the length
 * and the sum of its first value. */
struct mark {
	uint32_t magic, first_len; /* without white space behind it */
	uint64_t before, length;   /* bytes */
	uint64_t sum, first_sum;   /* of the block, of the value */
	uint64_t check;		   /* of all else here, and the inode's number */
};

/* For a block that is in memory. 0 or -errno: then the mark is as it was. */
int jsonl_commit_mark_set(struct jsonl_file *f, const char *block,
			  size_t len) jsonl_must_check;
/* 1: there is one, 0: none of this file, -errno. */
int jsonl_commit_mark_read(struct jsonl_file *f, struct mark *m) jsonl_must_check;
/* What are the `len` bytes that stand where the block begins? 0: they are not the
 * block's, or -errno. */
int jsonl_commit_mark_tells(struct jsonl_file *f, const struct mark *m, uint64_t len,
			    enum jsonl_recovered *what) jsonl_must_check;

#endif
