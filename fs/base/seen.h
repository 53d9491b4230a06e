/* SPDX-License-Identifier: MIT */
/* Remembers which version of a file a process has seen, for files that may be written
 * anew: new content cannot be meant to replace bytes that its program has not seen. A
 * process counts as having seen a file up to where one of its reads met the end. Bounded:
 * FS_SEEN_SETS times FS_SEEN_WAYS pairs of file and process. A full set drops the oldest
 * pair of the user who has most pairs in it, so that nobody can push out those of others;
 * a forgotten pair counts as never seen. Any thread; one mutex inside, a leaf. */
#ifndef FS_BASE_SEEN_H
#define FS_BASE_SEEN_H

#include <stdbool.h>
#include <sys/types.h>

struct fs_mount;
struct fs_process;
struct fs_seen;
struct fs_version;

#define FS_SEEN_SETS 512
#define FS_SEEN_WAYS 8

/* Makes an empty memory. NULL: out of memory. */
struct fs_seen *fs_seen_new(void);
void fs_seen_free(struct fs_seen *t);
/* Notes which version the process has seen. `path`: relative to the vault; `uid`: of the
 * process. */
void fs_seen_note(struct fs_seen *t, const char *path, const struct fs_process *p,
		  uid_t uid, const struct fs_version *v);
bool fs_seen_find(struct fs_seen *t, const char *path, const struct fs_process *p,
		  struct fs_version *v);
/* Notes that the process has added to the file itself: from then on it knows that part.
 */
void fs_seen_forget(struct fs_seen *t, const char *path, const struct fs_process *p);

#endif
