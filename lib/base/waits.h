/* SPDX-License-Identifier: MIT */
/* Tells whoever runs the threads that one of them is about to wait.
 *
 * The loop of jsonlfs (fs/start/loop.c) has one thread that reads requests; before that
 * thread waits, another one takes over. The library knows when it waits and does not know
 * the loop, hence the function that is handed in. */
#ifndef JSONL_WAITS_H
#define JSONL_WAITS_H

/* Call this before a system call or a condition that may take longer than a hand-over of
 * some microseconds: a sync, a lock, a read from the disk. Does nothing where nobody has
 * asked to be told. May be called with any lock held: it takes none but the loop's own.
 */
void jsonl_waits(void);

/* Makes each jsonl_waits() call `told` from now on, in the thread that is about to wait;
 * NULL: nothing is called. Any thread. */
void jsonl_waits_tell(void (*told)(void));

#endif
