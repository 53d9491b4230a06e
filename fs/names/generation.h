/* SPDX-License-Identifier: MIT */
/* Handles generations: files that a rotation or a backup has left of a log. They are
 * plain files, but some are archived when their name is removed. Any thread. */
#ifndef FS_NAMES_GENERATION_H
#define FS_NAMES_GENERATION_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fuse.h"

struct fs_inode;
struct fs_mount;
struct fs_renaming;

/* Returns false, by the name alone and at little cost, when it is certainly no
 * generation. */
bool fs_generation_may_be(struct fs_mount *m, const char *name);
/* Removes the name, or moves its file to the archive: while a program has it open for
 * writing, and when it is a backup whose content is neither in its log nor in the
 * archive. 0 or -errno. */
int fs_generation_unlink(fuse_req_t req, struct fs_inode *dir, int dir_fd,
			 const char *name) jsonl_must_check;
/* Archives such a generation under a second name, before a rename replaces it. `kept`
 * (JSONL_ARCHIVED_NAME bytes) receives that name, "" when there is nothing to keep; drop
 * it again when the rename fails. 0 or -errno. */
int fs_generation_replace(struct fs_renaming *r, char *kept) jsonl_must_check;

/* Renames a log onto another one of its rotation chain, which no program has open: the
 * target goes to the archive or, without room there, to a free name of a generation.
 * -EPERM: it is no such chain. Else 0 or -errno. */
int fs_generation_chain(struct fs_renaming *r) jsonl_must_check;

/* Logs once that a file made by open(2) with these flags will be appended to under a name
 * like a generation's, if no pattern names it. */
void fs_generation_created(fuse_req_t req, struct fs_inode *dir, const char *name,
			   int flags);

#endif
