/* SPDX-License-Identifier: MIT */
/* Runs operations that need the whole name of a program, which a thread that serves
 * requests may not find out (base/look.h): the pool asks, and goes on from there. */
#ifndef FS_VAULT_NAMED_H
#define FS_VAULT_NAMED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fuse.h"
#include "base/syslog.h"

struct fs_handle;
struct fs_vault;

/* Remembers the processes that have written to a handle, so that only the first WRITE of
 * each is examined. */
struct fs_known {
	_Atomic pid_t pids[8];
	_Atomic unsigned next;
};

typedef void fs_write_op(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			 off_t off, struct fuse_file_info *fi);

/* Takes over the first WRITE of a process by this handle. `write` is called while
 * fs_program_short knows the name: by the pool, with a copy of the data, when the name of
 * a script has to be found out. False: it is not the first, and the caller goes on. */
bool fs_named_write(fuse_req_t req, struct fs_handle *h, struct fs_known *known,
		    struct fuse_bufvec *in, off_t off, struct fuse_file_info *fi,
		    fs_write_op *write);

/* Holds a program whose name is being found out. */
struct fs_program;
/* Begins to find out the name. NULL: no memory. */
struct fs_program *fs_program_ask(struct fs_vault *v, const struct fuse_ctx *caller);
void fs_program_put(struct fs_program *p);
/* Writes the name as far as it is known; a thread of the pool waits for it, up to a
 * second. */
void fs_program_get(struct fs_program *p, char *buf, size_t size);

/* Stands for the name in the fields of fs_named_log. */
extern const char fs_named_here[];
/* Logs an event of this caller with fs_syslog, at once or as soon as its program is
 * known. */
void fs_named_log(struct fs_vault *v, int priority, const struct fuse_ctx *caller,
		  const char *event, const struct fs_field *fields);
#define FS_NAMED_LOG(v, priority, caller, event, ...)                                      \
	fs_named_log((v), (priority), (caller), (event),                                   \
		     (const struct fs_field[]){__VA_ARGS__, {.key = NULL}})

#endif
