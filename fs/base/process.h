/* SPDX-License-Identifier: MIT */
/* Reads from /proc what a request does not say about its process. FLUSH comes at the
 * close of every duplicate of a descriptor, from a process that exits as well as from one
 * that was killed; an operation that must run only at the last close, and not after the
 * program was killed, asks here. Reads /proc alone, never a path that could lead into the
 * mount itself. Any thread, no lock. */
#ifndef FS_BASE_PROCESS_H
#define FS_BASE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fs_process {
	pid_t tgid;
	/* start time in clock ticks since boot: differs from that of a later process with
	 * the same number */
	uint64_t start;
};

/* Asks about a FLUSH by a thread of process `pid`: is it the last close of this open file
 * among the processes `who` (0: none)? */
#define FS_CLOSING_NUMBERS 5
struct fs_closing_question {
	pid_t thread, pid;
	pid_t who[3];
	/* The numbers that the kernel may show for the file (0: none): those of all files
	 * that it has been; see fs_handle_numbers. */
	ino_t numbers[FS_CLOSING_NUMBERS];
	/* Device of the mount, as programs see it: files of other mounts have the same
	 * numbers. 0: not known. */
	dev_t device;
	int flags; /* access mode and O_APPEND */
};
enum fs_closing {
	FS_CLOSING_MORE,
	FS_CLOSING_LAST,
	FS_CLOSING_KILLED,
	/* its descriptors may not be looked at, and it is not exiting */
	FS_CLOSING_HIDDEN,
};

/* Finds the process that this thread (as requests name it) belongs to. False: it is gone,
 * or may not be looked at. */
bool fs_process_identify(pid_t pid, struct fs_process *p);
/* Returns the process of a thread, even in the middle of an exec; the thread's own number
 * when it is gone. */
pid_t fs_process_of(pid_t pid);
/* Returns the same from a cache that is a moment old at most. */
pid_t fs_process_lately(pid_t pid);
/* Answers the question. Two independent opens with the same flags look the same. A
 * process whose descriptors cannot be looked at counts as one that has none, except the
 * closing one. Never hangs: while an exec closes a descriptor the kernel holds a lock
 * until the daemon has answered, and reading stat, exe or io of that process would wait
 * for it. So it reads status and fdinfo, which need no lock, and stat only of a thread
 * that is exiting. */
enum fs_closing fs_process_closing(const struct fs_closing_question *q);

#endif
