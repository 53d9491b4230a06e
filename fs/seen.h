/* Which version of a file a process has seen, for files that may be written anew: what a
 * program has not seen, its new content cannot be meant to replace. A process counts as
 * having seen a file up to where a read of it met the end. Bounded: FS_SEEN_SETS times
 * FS_SEEN_WAYS pairs of file and process, the oldest of a set goes; what is forgotten
 * counts as never seen. Any thread; one mutex inside, a leaf. */
#ifndef FS_SEEN_H
#define FS_SEEN_H

#include "fs.h"
#include "lastclose.h"

#define FS_SEEN_SETS 512
#define FS_SEEN_WAYS 8

struct fs_version {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime;
	uint64_t generation; /* which file of this number */
};

struct fs_seen;

/* statefile_lost.c. Of `name` in `dir`, or with "" of the descriptor itself. */
uint64_t fs_version_generation(int dir, const char *name);

int fs_seen_init(struct fs_mount *m) jsonl_must_check;
void fs_seen_deinit(struct fs_mount *m);
/* `path` is relative to the vault. */
void fs_seen_note(struct fs_mount *m, const char *path, const struct fs_process *p,
		  const struct fs_version *v);
bool fs_seen_find(struct fs_mount *m, const char *path, const struct fs_process *p,
		  struct fs_version *v);
/* The process has added to the file by itself: from here on it knows what it does. */
void fs_seen_forget(struct fs_mount *m, const char *path, const struct fs_process *p);

#endif
