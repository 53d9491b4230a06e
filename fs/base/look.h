/* SPDX-License-Identifier: MIT */
/* Looks at other processes, and at descriptors that they send, by a child process. A
 * process decides how long reading its /proc/PID/cmdline (mmap_lock) or /proc/PID/fdinfo
 * (the mutex of an epoll descriptor) takes, and a thread that waits for the latter cannot
 * even be killed: the daemon would keep its mount and its descriptors for as long. So the
 * daemon asks a child, which holds nothing but its end of a socket, and gives up after a
 * second.
 *
 * Once a few questions about a uid take longer, the child serves no other question of
 * that uid. After a name could not be found out in time, that uid gets no names for some
 * seconds: the kernel lets nobody else write to a file while a WRITE of it waits.
 *
 * These functions wait up to a second and are for threads of the pool alone (fs_defer).
 * Any such thread, no lock. */
#ifndef FS_BASE_LOOK_H
#define FS_BASE_LOOK_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/process.h"
#include "rules/limits.h"

/* Starts the child, which closes every descriptor of the daemon. Call it before the first
 * thread. If it fails, no other process can be looked at; the syslog says so. */
void fs_look_start(void);
/* Ends the child; does not wait for it. */
void fs_look_end(void);
/* Asks fs_process_closing on behalf of `uid`. FS_CLOSING_MORE if that cannot be found
 * out. */
enum fs_closing fs_look_closing(uid_t uid, const struct fs_closing_question *q);
/* Asks fs_program_name on behalf of `uid`. False: it cannot be found out, and `buf` has
 * not changed. */
bool fs_look_program(uid_t uid, pid_t pid, char *buf, size_t size);

/* Receives the descriptors that a client has sent with its request from `client`: first
 * the new content of a log; then, if there is a second descriptor, the beginning of the
 * log that the content is made from. Any operation on such a descriptor, even close(2),
 * can take for ever. */
struct fs_look_content {
	uid_t uid; /* of the client, whose rights, quota and blocks count */
	gid_t gid;
	int client;
	/* gets the new content, up to a line that is no record and some bytes more */
	int staged;
	int log;
	const struct jsonl_limits *limits;
};
/* Returns 0 with the length of the log's beginning in *base (INT64_MAX: none was sent),
 * and in *unended whether its last newline is missing. -ESTALE: the log begins otherwise;
 * -EXDEV: a file of a FUSE mount; -EUSERS: too many at a time; -ETIMEDOUT: nothing came
 * for ten seconds; -ECANCELED: stopping(ctx) returned true; or another -errno. Not for
 * the pool: it takes as long as the copy. */
int fs_look_content(const struct fs_look_content *c, bool (*stopping)(void *ctx), void *ctx,
		    off_t *base, bool *unended) jsonl_must_check;

#endif
