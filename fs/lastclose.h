/* What /proc tells of the process behind a request, where the request itself does not say
 * enough. FLUSH comes at the close of every duplicate of a descriptor, from a process
 * that ends as well as from one that was killed; what may be done only at the last close,
 * and not when its program was killed, asks here. Looks at /proc alone, never at a path
 * that could lead into our own mount. Any thread, no lock. */
#ifndef FS_LASTCLOSE_H
#define FS_LASTCLOSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fs_process {
	pid_t tgid;
	uint64_t start; /* clock ticks since boot: tells a process from a later one with
			 * its number */
};

/* The process that this thread (as requests name it) belongs to. False: it is gone, or
 * may not be looked at. */
bool fs_process_identify(pid_t pid, struct fs_process *p);
/* Is the process on its way out because of a signal? False where that cannot be told. */
bool fs_process_killed(pid_t pid);
/* Has the process a descriptor of this file, by the inode number that programs see, open
 * with this access mode and O_APPEND or not (of `flags`)? The one that is being closed is no
 * longer among them. Two independent opens that are alike look the same. `backing`: the
 * number of the mount below, whose files have the same numbers; -1: not known. False also
 * where it cannot be told, so that what waits for the last close is then done at each. */
bool fs_process_holds(pid_t pid, ino_t ino, int flags, int backing);

/* The process of a thread, also while it is in the middle of an exec; the thread's own
 * number when it is gone. */
pid_t fs_process_of(pid_t pid);

/* A FLUSH by a thread of process `pid`: is it the last close of this open file, as far as
 * the processes `who` (0: nobody) go? */
struct fs_closing_question {
	pid_t thread, pid;
	pid_t who[3];
	ino_t ino; /* the rest as fs_process_holds has it */
	int flags, backing;
};
enum fs_closing {
	FS_CLOSING_MORE,
	FS_CLOSING_LAST,
	FS_CLOSING_KILLED,
	FS_CLOSING_HIDDEN, /* its descriptors may not be looked at, and it does not end */
};
/* A process whose exec closes the descriptor holds a lock until we have answered, on which
 * the kernel has those wait who read its stat, exe, io and others in /proc: who asked there
 * would wait for ever. Here status and fdinfo are read, which need no lock, and stat only of
 * a thread that ends, which is in no exec. */
enum fs_closing fs_process_closing(const struct fs_closing_question *q);

#endif
