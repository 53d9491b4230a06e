/* A handle that writes a log anew, where `rewrite=` allows it. From an O_TRUNC or a
 * truncation on, its writes go to a staged content (staging.h), which it reads itself if
 * it may; everybody else goes on with the log as it is. At the last close the new content
 * is judged: with `extend` it must begin with what its program has seen of the log, and
 * the rest is appended; with `archive` any whole records replace the log, whose old
 * content is archived. What others have appended meanwhile stays, behind the new content.
 * What is refused goes to the quarantine, and close tells. */
#ifndef FS_REWRITE_H
#define FS_REWRITE_H

#include "governed.h"
#include "staging.h"

struct fs_rewrite {
	struct fs_staged staged;
	/* Under staged.lock: */
	ino_t ino;	 /* the version of the log that this is about */
	uint64_t generation; /* seen.h */
	bool outdated;	 /* its program has read an earlier one */
	off_t base;   /* bytes of the log that its program has seen */
	off_t done;   /* bytes of the staged content that are in the log; -1: none yet */
	bool newline; /* and one that they did not end with */
};

/* What `rewrite=` says of this file: enum jsonl_rewrite. */
int fs_rewrite_mode(const struct governed *g);
/* Begins, with the present content, for a change at `at`; or with `cut` for a truncation
 * to it, with as many bytes. 0 or -errno. The handle must be open for writing. Called for a
 * handle that has begun it does nothing. */
int fs_rewrite_begin(struct governed *g, const struct fuse_ctx *caller, off_t at,
		     bool cut) jsonl_must_check;
void fs_rewrite_end(struct governed *g);
/* Operations of a handle that has begun; each answers its request. */
void fs_rewrite_write(fuse_req_t req, struct governed *g, struct fuse_bufvec *in,
		      off_t off, struct fuse_file_info *fi);
void fs_rewrite_flush(fuse_req_t req, struct governed *g);
void fs_rewrite_fsync(fuse_req_t req, struct governed *g);
/* The handle goes. 0, or -EAGAIN: come again, unless `last`. */
int fs_rewrite_release(struct governed *g, bool last) jsonl_must_check;

/* ---- rewrite_archive.c ---- */
struct fs_new_content {
	int fd;		 /* readable */
	off_t size;
	bool unfinished; /* whole records, but the last one has no newline */
	ino_t ino;	 /* of the log that it is to replace */
	uint64_t generation; /* and seen.h */
	off_t base;	 /* bytes of the log that it stands for */
	int attributes;	 /* the file whose mode, owner, ACL and attributes it gets */
	bool times;	 /* and its times; else: */
	/* Those that it gets when nothing was appended; NULL: the present ones. */
	const struct timespec *old_times;
	bool any_end;	 /* also when the log's end is no JSON Lines, if base covers it */
};

/* Makes this the content of the log, atomically; the old one is archived, what was appended
 * behind `base` stays, behind the new content. *end: its length, or -1 when it is not in
 * place; after an error it may be, and may be gone after a power cut. 0; -EAGAIN: nothing
 * has happened, a lock is held outside; -ESTALE: the log has another name, or none; -EPERM
 * with *why; -errno. `archive` (NAME_MAX + 1 bytes, or NULL) gets the name of the old
 * content, "" when that was empty. */
int fs_rewrite_replace(struct fs_mount *m, struct fs_inode *i, struct fs_shared *s,
		       const struct fs_new_content *c, off_t *end, char *archive,
		       const char **why) jsonl_must_check;

/* A read of this process has met the end of the log, which `s` is. */
void fs_rewrite_seen(struct governed *g, const struct fs_shared *s, pid_t pid, off_t end);
/* The process has begun to append: from here on it knows what is in the log. */
void fs_rewrite_appends(struct governed *g, pid_t pid);
/* How much of the log the process has seen: where a read of it met the end. 1; 0: it has
 * read none of it, *base is `visible`; -ESTALE: what it has read has been replaced. */
int fs_rewrite_base(struct fs_shared *s, pid_t pid, off_t visible,
		    off_t *base) jsonl_must_check;
/* The process has written the log anew, and knows its first `end` bytes. */
void fs_rewrite_written(struct fs_shared *s, const struct fs_process *p, off_t end);

#endif
