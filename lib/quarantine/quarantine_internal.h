/* SPDX-License-Identifier: MIT */
/* Defines what the files of the quarantine share. Each uses only those before it:
 * quarantine_name.c makes names, quarantine_line.c writes the lines of the index,
 * quarantine_table.c counts in memory, quarantine_file.c makes the files of entries,
 * quarantine_index.c appends lines, quarantine_stock.c finds the present entries,
 * quarantine_compact.c counts them and writes the index anew, quarantine_store.c stores
 * bytes, quarantine_join.c adds to entries, quarantine.c has the public functions. */
#ifndef JSONL_QUARANTINE_INTERNAL_H
#define JSONL_QUARANTINE_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "quarantine/quarantine.h"
#include "quarantine/quarantine_table.h"
/* Length of a line of the index, about. */
#define JSONL_QUARANTINE_LINE 512
#define JSONL_QUARANTINE_TIME 48

struct jsonl_quarantine {
	const struct jsonl_io *io;
	int state_fd, dir_fd;
	bool shared; /* the index is locked for each line */
	pthread_mutex_t lock;
	pthread_cond_t stored; /* an entry is no longer busy */
	/* Under lock: */
	int index_fd;	      /* -1 until the first entry */
	bool index_new;	      /* made by this process: its directory must be synced */
	bool index_torn;      /* ends in half a line, which needs a newline first */
	uint64_t index_bytes; /* its lines, all of them charged to somebody */
	unsigned inflight;    /* puts and joins that are writing at this moment */
	int64_t last_stamp;   /* nanoseconds: names never go back */
	int64_t last_recount; /* CLOCK_MONOTONIC, seconds */
	struct jsonl_quarantine_table table;
};

/* Returns a moment, in nanoseconds since the epoch, that no earlier name of this run has.
 */
int64_t jsonl_quarantine_stamp(struct jsonl_quarantine *q);
/* Converts it for stamp.h. */
struct timespec jsonl_quarantine_moment(int64_t stamp);

/* Make lines of the index, with their newline, to be freed: for bytes that were stored,
 * which begin at `from` in the entry; for bytes that were joined to it, of this uid; for
 * records that were appended again. NULL: no memory. */
char *jsonl_quarantine_line_stored(const struct jsonl_quarantine_item *item,
				   int64_t stamp, uint64_t hash, const char *name,
				   int64_t from);
char *jsonl_quarantine_line_joined(const char *time, const char *name, uid_t uid,
				   uint64_t bytes);
char *jsonl_quarantine_line_restored(int64_t stamp, const char *name, uint64_t records);
/* 2026-11-20T10:11:12.123456789Z */
void jsonl_quarantine_line_time(int64_t stamp, char text[JSONL_QUARANTINE_TIME]);

/* The entries that counting finds. */
struct jsonl_quarantine_stock {
	struct jsonl_quarantine_stocked {
		uint64_t name; /* its hash */
		uint64_t blocks;
		uid_t uid;	/* that of the index, else the file's */
		uint64_t bytes; /* bytes were joined, says the index */
		unsigned joins; /* lines of the index that say so */
	} * list;		/* sorted by name */
	size_t count, cap;
	uint64_t dead; /* bytes of lines that a new index would not have */
};

/* Returns the entry of this name, or NULL. */
struct jsonl_quarantine_stocked *
jsonl_quarantine_stock_find(const struct jsonl_quarantine_stock *s, const char *name);
/* Opens the index for reading; NULL with *rc, which is 0 when there is none. */
FILE *jsonl_quarantine_index_read(struct jsonl_quarantine *q, int *rc);

/* Fills the stock, of which `list` is to be freed, and charges the table, which is empty,
 * with all of it. Under lock, while no put or join is writing. */
int jsonl_quarantine_take_stock(struct jsonl_quarantine *q,
				struct jsonl_quarantine_stock *s) jsonl_must_check;
/* Counts anew from index and directory, and writes the index anew when many of its lines
 * are of removed entries; `all`: when any line is. Under lock, while no put or join is
 * writing. */
int jsonl_quarantine_recount(struct jsonl_quarantine *q, bool all) jsonl_must_check;
/* Does the same, but only if it was not done lately: true when the table is correct now.
 */
bool jsonl_quarantine_refresh(struct jsonl_quarantine *q);
/* Appends one line (with its newline) whole or not at all, and charges it. Under lock. */
int jsonl_quarantine_index_append(struct jsonl_quarantine *q, const char *line,
				  uid_t uid) jsonl_must_check;
/* Does the same without lock, for a text that it frees; NULL: -ENOMEM. */
int jsonl_quarantine_index_add(struct jsonl_quarantine *q, char *line,
			       uid_t uid) jsonl_must_check;
/* Makes the lines of the index, and its name, durable. Without lock. */
int jsonl_quarantine_index_sync(struct jsonl_quarantine *q) jsonl_must_check;

static inline bool jsonl_quarantine_is_entry(const char *name)
{
	return name[0] != '\0' && name[0] != '.' && !strchr(name, '/');
}

static inline int64_t jsonl_quarantine_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* Writes the file of an entry under a name of its own, with the owner, mode and ACL of
 * the source; synced when the item asks for it. After a failure the file is removed.
 * Without lock. */
int jsonl_quarantine_file_store(struct jsonl_quarantine *q,
				const struct jsonl_quarantine_item *item, int64_t *stamp,
				char name[JSONL_QUARANTINE_NAME]) jsonl_must_check;
/* Returns true when the file still holds these very bytes, from `at` on (-1: and nothing
 * else). `sync`: makes them durable. Without lock. */
bool jsonl_quarantine_file_holds(struct jsonl_quarantine *q, const char *name, int64_t at,
				 bool sync, const struct jsonl_quarantine_item *item);
/* Hashes the owner, mode and ACL of the source: who may read it. */
uint64_t jsonl_quarantine_file_readers(uint64_t hash, int source_fd);

/* Returns true when an entry stands for these bytes; `name` receives its name. Under
 * lock, which is released meanwhile. */
bool jsonl_quarantine_known(struct jsonl_quarantine *q, uint64_t hash,
			    const struct jsonl_quarantine_item *item,
			    char name[JSONL_QUARANTINE_NAME]);
/* Stores the bytes in an entry of their own. Under lock, which is released meanwhile. */
int jsonl_quarantine_store(struct jsonl_quarantine *q,
			   const struct jsonl_quarantine_item *item, uint64_t hash,
			   char name[JSONL_QUARANTINE_NAME]) jsonl_must_check;
/* Stores them behind other bytes of the same program, if there are any. */
int jsonl_quarantine_gather(struct jsonl_quarantine *q,
			    const struct jsonl_quarantine_item *item, uint64_t hash,
			    char name[JSONL_QUARANTINE_NAME]) jsonl_must_check;

#endif
