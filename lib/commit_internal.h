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

/* As it lies in the file, in the byte order of the machine; see FORMAT. */
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
/* As good as it can: a failure leaves the intent. */
void jsonl_commit_intent_clear(const struct jsonl_io *io, int fd, bool durable);

#endif
