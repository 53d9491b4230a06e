/* Counters: of the mount, and per program and file (the writers report). The counters are
 * C11 atomics and may be bumped without a lock; the table behind fs_stats_writer has one
 * mutex and hands out pointers that stay valid until fs_stats_free. Bounded: after
 * FS_STATS_MAX_WRITERS pairs the rest is counted under program "(other)". */
#ifndef FS_STATS_H
#define FS_STATS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FS_STATS_MAX_WRITERS 10000

/* clang-format off */
#define FS_WRITER_COUNTERS(X)                                                              \
	X(opens)            /* handles opened for writing */                               \
	X(records)          /* appended */                                                 \
	X(bytes)                                                                           \
	X(oversize)         /* records of pipebuf bytes or more */                         \
	X(blank)            /* blank lines dropped */                                      \
	X(refused)          /* requests refused */                                         \
	X(fragments)        /* fragments set aside or lost at close */                     \
	X(opens_without_append)                                                            \
	X(closes_without_newline)                                                          \
	X(split_records)    /* records that came in more than one write */                 \
	X(closes_without_sync) /* closed after appending, no fsync by the program itself */ \
	X(rewrites)         /* whole files written anew that were taken */                  \
	X(rewrites_refused)                                                                \
	X(transactions)     /* of commit=close that appeared */                            \
	X(transactions_dropped)

#define FS_TOTAL_COUNTERS(X)                                                               \
	FS_WRITER_COUNTERS(X)                                                              \
	X(quarantined) X(quarantine_full) X(lost) X(lost_bytes) X(syncs) X(sync_failures)  \
	X(lost_updates) X(state_files_broken)                                              \
	X(repairs) X(repaired_bytes) X(archived) X(lock_timeouts) X(poisoned_files)        \
	X(prefix_renames) X(followed) X(denied)  /* operations that SEMANTICS section 3 refuses */
/* clang-format on */

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

int fs_stats_init(struct fs_stats *s);
void fs_stats_deinit(struct fs_stats *s);
/* Finds or makes the entry. Never NULL: out of memory yields the "(other)" entry. */
struct fs_writer_stats *fs_stats_writer(struct fs_stats *s, const char *program,
					uid_t uid, const char *path);
/* Calls fn for each entry, under the table's lock. */
void fs_stats_each(struct fs_stats *s,
		   void (*fn)(void *ctx, const struct fs_writer_stats *w), void *ctx);

/* The program behind a pid: /proc/PID/exe, and for a known interpreter the script
 * argument
 * ("/usr/bin/python3 /srv/audit.py"), its path made absolute; `-m MODULE` for a module,
 * `-c` alone for code, which is never shown, as no other argument is. "(NAME)" where the
 * executable may not be read, "(pid gone)" when the process is no longer there,
 * "(unknown)" for pid 0. Two to eight microseconds, and right after an exec; a cache by
 * pid and start time would have to read /proc/PID/stat, which takes six. Never looks at
 * the paths themselves, which may lead into our own mount. Any thread. */
void fs_program_name(pid_t pid, char *buf, size_t size);

#endif
