/* SPDX-License-Identifier: MIT */
/* Keeps the bytes that a program writes to a file which must change as a whole. They are
 * in a file without a name in the state directory, one for each handle, until the handle
 * is closed. So nothing is left of them when the writer is killed, the mount ends, or the
 * power fails. The file belongs to the caller, so that quotas count.
 *
 * `lock` is held by the owner over a commit, and taken inside by the functions that say
 * so. */
#ifndef FS_VAULT_STAGED_H
#define FS_VAULT_STAGED_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fuse.h"
#include "base/process.h"
#include "quarantine/quarantine.h"
#include "vault/named.h"

struct fs_staged;
struct fs_ids;
struct fs_vault;

/* Holds the error of a failed change, until a later change repairs it. */
struct fs_staged_failure {
	int code; /* -errno; 0: nothing */
	off_t at;
	bool cut; /* it was a truncation, which no write repairs */
};

struct fs_staged {
	pthread_mutex_t lock;
	struct fs_process opener;   /* constant; tgid 0: not known */
	struct fs_program *program; /* of whoever opened it; NULL: not known */
	struct fs_account *payer;   /* pays for the descriptor */
	/* Under lock: */
	int fd;
	bool dirty;  /* changed since it was committed or refused last */
	bool killed; /* the last close was that of a process that was killed */
	off_t low;   /* the lowest byte that was changed since then */
	struct fs_staged_failure failed;
	pid_t writer; /* the process that wrote last */
	uid_t uid;
};

/* Makes a file without a name in STATE/daemon, for which `owner` pays; where the file
 * system has none, one whose name is removed at once. Descriptor or -errno. */
int fs_staged_open(struct fs_vault *v, const struct fs_ids *owner) jsonl_must_check;
/* Makes the staged file with the first `keep` bytes of `from`. 0 or -errno; pair with
 * _deinit. */
int fs_staged_init(struct fs_vault *v, struct fs_staged *s, const struct fuse_ctx *caller,
		   int from, off_t keep) jsonl_must_check;
void fs_staged_deinit(struct fs_staged *s);
/* Notes a failed change at this place; `cut`: of a truncation to it. May be called before
 * there is content: content that is begun later has the failures of before. */
void fs_staged_failed(struct fs_staged_failure *f, off_t at, bool cut, int code);
/* These take the lock and return a length or -errno. `append`: at the end, whatever `off`
 * says. */
ssize_t fs_staged_write(fuse_req_t req, struct fs_staged *s, struct fuse_bufvec *in,
			off_t off, bool append) jsonl_must_check;
int fs_staged_truncate(fuse_req_t req, struct fs_staged *s, off_t size) jsonl_must_check;
off_t fs_staged_size(struct fs_staged *s);
/* Returns true when this FLUSH completes the content: neither its program nor the process
 * that opened the file or wrote last has another descriptor of it (`numbers`:
 * fs_handle_numbers), and the process was not killed. Notes the result for the release.
 * For threads of the pool. */
bool fs_staged_closes(struct fs_vault *v, struct fs_staged *s,
		      const struct fuse_ctx *caller,
		      const ino_t numbers[FS_CLOSING_NUMBERS], int flags);
/* Notes that its program never closed it, so that it may be incomplete. Takes the
 * lock. */
void fs_staged_abandon(struct fs_staged *s);
/* Marks the content as done with until it is changed again. Under lock. */
void fs_staged_settled(struct fs_staged *s);
/* Keeps the content in the quarantine, under lock; `name` receives the entry's, or ""
 * when nothing could be kept (then it is counted as lost if `reserved`). */
void fs_staged_set_aside(struct fs_vault *v, struct fs_staged *s, const char *event,
			 int code, off_t offset, const char *path, int source_fd,
			 bool reserved, char name[JSONL_QUARANTINE_NAME]);

#endif
