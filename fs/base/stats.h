/* SPDX-License-Identifier: MIT */
/* Counts events of the mount, and per program and file (the writers report). The counters
 * are C11 atomics and may be changed without a lock; the table behind fs_stats_writer has
 * one mutex and returns pointers that stay valid until fs_stats_deinit. Bounded by
 * FS_STATS_MAX_WRITERS pairs; an ordinary user gets at most as many as are left for the
 * next user. Further writers are counted under program "(other)" of their user. */
#ifndef FS_BASE_STATS_H
#define FS_BASE_STATS_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct fs_stats;
struct fs_stats_table;

#define FS_STATS_MAX_WRITERS 10000
/* clang-format off */
#define FS_WRITER_COUNTERS(X)                                                              \
	X(opens)            /* handles opened for writing */                               \
	X(records)          /* appended */                                                 \
	X(bytes)                                                                           \
	X(oversize)         /* records of pipebuf bytes or more */                         \
	X(blank)            /* blank lines dropped */                                      \
	X(marks)            /* byte order marks dropped */                                 \
	X(refused)          /* bad lines that were set aside */                            \
	X(fragments)        /* fragments set aside or lost at close */                     \
	X(opens_without_append)                                                            \
	X(closes_without_newline)                                                          \
	X(split_records)    /* records that came in more than one write */                 \
	X(closes_without_sync) /* closed after appending, no fsync by the program itself */ \
	X(rewrites)         /* whole files written anew that were accepted */               \
	X(rewrites_refused)                                                                \
	X(transactions)     /* of commit=close, that were appended */                      \
	X(transactions_dropped)
#define FS_TOTAL_COUNTERS(X)                                                               \
	FS_WRITER_COUNTERS(X)                                                              \
	X(quarantined) X(quarantine_full) X(lost) X(lost_bytes) X(syncs) X(sync_failures)  \
	X(lost_updates) X(state_files_broken)                                              \
	X(repairs) X(repaired_bytes) X(archived) X(evicted) X(ungoverned) X(lock_timeouts) X(lost_locks) X(poisoned_files)        \
	X(prefix_renames) X(followed) X(denied)  /* operations that the rules refuse */

struct fs_writer_stats {
	const char *program; /* executable, plus the script of a known interpreter */
	const char *path;
	uid_t uid;
#define X(name) _Atomic uint64_t name;
	FS_WRITER_COUNTERS(X)
#undef X
	_Atomic uint64_t largest; /* longest record in bytes */
	_Atomic int64_t first,
	    last;		/* seconds since the epoch of first and last append */
	_Atomic int64_t warned; /* second of the last oversize log line */
};

struct fs_stats {
#define X(name) _Atomic uint64_t name;
	FS_TOTAL_COUNTERS(X)
#undef X
	struct fs_stats_table *table;
};

/* Makes the table. `owner` may use the whole bound, like root. 0 or -errno. */
int fs_stats_init(struct fs_stats *s, uid_t owner);
void fs_stats_deinit(struct fs_stats *s);
/* Finds or makes the entry. Never returns NULL: without memory everybody shares one
 * "(other)". */
struct fs_writer_stats *fs_stats_writer(struct fs_stats *s, const char *program,
					uid_t uid, const char *path);
/* Returns the newest entry, or the one that is older than `w`; NULL: there is none.
 * Entries made meanwhile are not among them. */
const struct fs_writer_stats *fs_stats_first(struct fs_stats *s);
const struct fs_writer_stats *fs_stats_next(struct fs_stats *s,
					    const struct fs_writer_stats *w);

#endif
