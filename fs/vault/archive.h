/* SPDX-License-Identifier: MIT */
/* Keeps removed and replaced logs in a bounded trash on the vault's file system. Names
 * are those of base/archived.h. If there is no room, older entries of the user who
 * removes are deleted, by the deferred pool. An entry that a program has open for writing
 * stays, and its growth is counted. Thread-safe: one mutex inside, a leaf but for locks
 * that is_open() takes. */
#ifndef FS_VAULT_ARCHIVE_H
#define FS_VAULT_ARCHIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/archived.h"
#include "base/error.h"
#include "base/fuse.h"

struct fs_archive_claim;
struct fs_vault;

#define FS_ARCHIVE_FULL                                                                  \
	"the archive has no room for it (archive_max), and nothing of yours in it that " \
	"could go: jsonlfsctl archive drop what is no longer needed, let the owner or "  \
	"root remove it, or mount with a larger archive_max"

/* Counts the entries. 0 or -errno. Call it after v->archive_fd is open; -1 is an archive
 * that accepts nothing. is_open() returns true when a program has the file open for
 * writing. */
int fs_archive_init(struct fs_vault *v, bool (*is_open)(struct fs_vault *v, dev_t dev,
							ino_t ino)) jsonl_must_check;
/* Deletes entries that are older than archive_age: at the mount, and every hour. Threads
 * may be started by then. */
void fs_archive_expire(struct fs_vault *v);
void fs_archive_deinit(struct fs_vault *v);
/* Sets the bound. Entries stay until room is needed. */
void fs_archive_bound(struct fs_vault *v, uint64_t max, uint64_t days);

/* Charges `bytes`, and deletes entries that may make room. `entries`: 1 with the first
 * bytes of a file, then 0. 0, -EDQUOT or -EROFS. Logs nothing. */
int fs_archive_reserve(struct fs_vault *v, const struct fs_archive_claim *claim,
		       uint64_t bytes, unsigned entries) jsonl_must_check;
/* Gives back bytes that were not stored. */
void fs_archive_release(struct fs_vault *v, const struct fs_archive_claim *claim,
			uint64_t bytes, unsigned entries);
/* Enters a stored file under this name. `ino`: of a file that was moved; 0: it is a copy.
 */
void fs_archive_entered(struct fs_vault *v, const struct fs_archive_claim *claim,
			const char *name, uint64_t bytes, ino_t ino);
/* Makes the name of the entry for the file at `path`. 0 or -errno. */
int fs_archive_name(const struct fs_archive_claim *claim, const char *path,
		    char name[JSONL_ARCHIVED_NAME]) jsonl_must_check;
/* Creates a file of the archive; _whole gives it owner, mode, ACL and times of `in`,
 * durably, once it is complete. Descriptor, 0 or -errno. */
int fs_archive_open(struct fs_vault *v, const char *name) jsonl_must_check;
int fs_archive_finish(struct fs_vault *v, int in, int out) jsonl_must_check;

/* Moves a file into the archive, and logs it. -EDQUOT is logged as a denial of
 * `operation`. 0 or -errno. */
int fs_archive_move(fuse_req_t req, const char *operation, int dir_fd, const char *name,
		    const char *path, const struct stat *st) jsonl_must_check;
/* Archives a file by a second name, so that the first one can be replaced in one step; by
 * a copy where that is not possible. `kept` gets the entry's name. With `operation` NULL
 * -EDQUOT is not logged. _unlink undoes it. */
int fs_archive_link(fuse_req_t req, const char *operation, int dir_fd, const char *name,
		    const char *path, const struct stat *st,
		    char kept[JSONL_ARCHIVED_NAME]) jsonl_must_check;
void fs_archive_unlink(struct fs_vault *v, const char *kept);
/* Archives a whole copy of the file. Else as above. */
int fs_archive_copy(fuse_req_t req, const char *operation, int fd, const char *path,
		    const struct stat *st) jsonl_must_check;
/* Returns true when an entry has exactly the content of `fd`, `size` bytes. */
bool fs_archive_holds(struct fs_vault *v, int fd, off_t size);
/* Removes an entry; *bytes receives its length. 0 or -errno. */
int fs_archive_drop(struct fs_vault *v, const char *name,
		    uint64_t *bytes) jsonl_must_check;
struct fs_archive_usage {
	uint64_t bytes, entries, max;
	unsigned percent; /* the share of the user who has least room left */
};
void fs_archive_usage(struct fs_vault *v, struct fs_archive_usage *usage);

#endif
