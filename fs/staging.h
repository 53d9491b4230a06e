/* What a program writes to a file that is to change as a whole: it goes to a file without
 * a name in the state directory, which is the writer's own until its handle is closed. So
 * nothing is left of it when the writer is killed, the mount ends, or the power fails. It
 * belongs to the caller, so that quotas count.
 *
 * One struct per handle; `lock` is held by its owner over a commit, and taken inside by
 * the functions that say so. */
#ifndef FS_STAGING_H
#define FS_STAGING_H

#include "fs.h"
#include "lastclose.h"

/* What a change of the content met that no later one has made good. */
struct fs_staged_failure {
	int code; /* -errno; 0: nothing */
	off_t at;
	bool cut; /* a truncation, which no write makes good */
};

struct fs_staged {
	pthread_mutex_t lock;
	struct fs_process opener; /* constant; tgid 0: not known */
	char program[256]; /* constant: of whoever opened it */
	/* Under lock: */
	int fd;
	bool dirty;   /* changed since it was committed or refused last */
	bool killed;  /* the process that closed last was killed */
	off_t low;    /* the lowest byte that was changed since then */
	struct fs_staged_failure failed;
	pid_t writer; /* who wrote last */
	uid_t uid;
};

/* Makes the file, with the first `keep` bytes of `from`. 0 or -errno; pair with _deinit.
 */
int fs_staged_init(struct fs_mount *m, struct fs_staged *s, const struct fuse_ctx *caller,
		   int from, off_t keep) jsonl_must_check;
void fs_staged_deinit(struct fs_staged *s);
/* Of a change at this place; `cut`: of a truncation to it. Before there is a content, too:
 * a later one begins with what the earlier ones have met. */
void fs_staged_failed(struct fs_staged_failure *f, off_t at, bool cut, int code);
/* These take the lock. Length or -errno; `append`: at its end, whatever `off` says. */
ssize_t fs_staged_write(fuse_req_t req, struct fs_staged *s, struct fuse_bufvec *in,
			off_t off, bool append) jsonl_must_check;
int fs_staged_truncate(fuse_req_t req, struct fs_staged *s, off_t size) jsonl_must_check;
off_t fs_staged_size(struct fs_staged *s);
/* A FLUSH: is this when the content is complete? Not while its program, or whoever opened
 * it or wrote last, has another descriptor of it (`ino` as programs see it), and not when
 * the process was killed. Takes note for the release. */
bool fs_staged_closes(struct fs_mount *m, struct fs_staged *s, pid_t pid, ino_t ino,
		      int flags);
/* Takes the lock. Its program never closed it: it is not known to be complete. */
void fs_staged_abandon(struct fs_staged *s);
/* Under lock: nothing is to be done with this content any more, until it is changed. */
void fs_staged_settled(struct fs_staged *s);
/* Under lock. Keeps the content in the quarantine; `name` receives the entry's, "" when
 * nothing could be kept (then it is counted as lost if `reserved`). */
void fs_staged_set_aside(struct fs_mount *m, struct fs_staged *s, const char *event,
			 int code, off_t offset, const char *path, int source_fd,
			 bool reserved, char name[JSONL_QUARANTINE_NAME]);
/* Copies bytes from one descriptor behind what the other one's position is. 0 or -errno.
 */
int fs_copy_bytes(struct fs_mount *m, int from, off_t off, off_t len,
		  int to) jsonl_must_check;

#endif
