/* SPDX-License-Identifier: MIT */
/* Remembers the processes that write by an open handle, for counters and log lines. A ring is
 * guarded by its handle's writer; the counters are atomic. */
#ifndef FS_BASE_IDENT_H
#define FS_BASE_IDENT_H

#include <stdbool.h>
#include <sys/types.h>

#include "tools/check.h"

struct fs_stats;
struct fs_writer_stats;
struct jsonl_writer_note;

/* A handle that more processes share than this forgets the oldest: only the attribution
 * of a late log line suffers. */
#define FS_IDENTS 16

struct fs_ident {
	pid_t pid;     /* of the thread that wrote */
	pid_t process; /* process of that thread; 0: not asked for yet */
	uid_t uid;
	struct fs_writer_stats *stats;
};

struct fs_ident_ring {
	struct fs_ident idents[FS_IDENTS];
	unsigned long count;
};

/* Returns the entry of this process, or NULL. */
struct fs_ident *fs_ident_find(struct fs_ident_ring *ring, pid_t pid);
/* Makes an entry, for which it finds out the program. */
struct fs_ident *fs_ident_add(struct fs_ident_ring *ring, struct fs_stats *stats,
			      pid_t pid, uid_t uid, const char *path);
/* Counts appended records. Returns true when an oversize line is due (once a minute). */
bool fs_ident_note(struct fs_stats *total, struct fs_writer_stats *w,
		   const struct jsonl_writer_note *note);
void fs_ident_closed_without_sync(struct fs_stats *total, struct fs_ident_ring *ring);
/* Counts the transactions of a handle that is closed. */
void fs_ident_transactions(struct fs_ident_ring *ring, unsigned done, unsigned dropped);
/* Counts bytes that could be kept nowhere, and logs their length and hash. `code`: why,
 * -errno. */
void fs_ident_lost(struct fs_stats *total, const char *path, const struct iovec *iov,
		   int niov, int code);
/* Writes "PID (program)" of the process that holds flock on this file, from /proc/locks;
 * if it is not there, a guess. For threads of the pool. */
void fs_ident_lock_holder(int fd, char *buf, size_t size);

#endif
