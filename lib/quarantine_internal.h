/* What the three files of the quarantine share: quarantine.c stores bytes,
 * quarantine_index.c keeps the index and takes stock of what is there, quarantine_table.c
 * counts in memory. For them alone. */
#ifndef JSONL_QUARANTINE_INTERNAL_H
#define JSONL_QUARANTINE_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "quarantine.h"
#include "quarantine_table.h"

struct jsonl_quarantine {
	const struct jsonl_io *io;
	int state_fd, dir_fd;
	pthread_mutex_t lock;
	pthread_cond_t stored; /* an entry is no longer busy */
	/* Under lock: */
	int index_fd;	       /* -1 until the first entry */
	bool index_new;	       /* made by us: its directory wants a sync */
	bool index_torn;       /* ends in half a line, which wants a newline first */
	uint64_t index_blocks; /* what it is charged for */
	unsigned inflight;     /* puts and joins that write at this moment */
	int64_t last_stamp;    /* nanoseconds: names never go back */
	int64_t last_recount;  /* CLOCK_MONOTONIC, seconds */
	struct jsonl_quarantine_table table;
};

/* A moment, in nanoseconds since the epoch, that no earlier name of this run has. */
int64_t jsonl_quarantine_stamp(struct jsonl_quarantine *q);
/* Formats the seconds of a stamp by strftime(3), UTC. */
void jsonl_quarantine_format(int64_t stamp, const char *format, char *buf, size_t size);

/* Takes stock anew from index and directory. Under lock, while nothing is in flight. */
int jsonl_quarantine_recount(struct jsonl_quarantine *q) jsonl_must_check;
/* The same, but only if it was not done lately: true when the table is fresh now. */
bool jsonl_quarantine_refresh(struct jsonl_quarantine *q);
/* Appends one line (with its newline) whole or not at all. Under lock. */
int jsonl_quarantine_index_append(struct jsonl_quarantine *q,
				  const char *line) jsonl_must_check;
/* Makes the lines of the index, and that it exists, durable. Without lock. */
int jsonl_quarantine_index_sync(struct jsonl_quarantine *q) jsonl_must_check;

static inline size_t jsonl_quarantine_bytes(const struct iovec *iov, int n)
{
	size_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

/* Writes the file of an entry under a name of its own, with the owner, mode and ACL of
 * the source; synced when the item asks for it. What failed is removed. Without lock. */
int jsonl_quarantine_file_store(struct jsonl_quarantine *q,
				const struct jsonl_quarantine_item *item, int64_t *stamp,
				char name[JSONL_QUARANTINE_NAME]) jsonl_must_check;
/* Does the file still hold these very bytes? `sync`: makes that durable. Without lock. */
bool jsonl_quarantine_file_holds(struct jsonl_quarantine *q, const char *name, bool sync,
				 const struct jsonl_quarantine_item *item);

#endif
