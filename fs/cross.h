/* What cross.c (unlink, link) and cross_rename.c share: judging content that is about to
 * become governed, and taking a plain file out of its writers' hands. */
#ifndef FS_CROSS_H
#define FS_CROSS_H

#include "file.h"
#include "fs.h"

/* Is `parent` (or the name in it) part of the state directory, which nobody changes? */
bool fs_cross_is_state(struct fs_mount *m, const struct fs_inode *parent, const char *name);
/* Checks bytes [from, size) of a descriptor as whole records. 0, a verdict (with *at, the
 * offset of the first wrong byte in the file), or -errno. *unfinished: the last record is
 * valid but has no newline. */
int fs_cross_validate(struct fs_mount *m, const struct jsonl_limits *lim, int fd,
		      off_t from, off_t size, off_t *at,
		      bool *unfinished) jsonl_must_check;
/* Marks an inode stale, so that nobody opens it for writing any more, whoever looks its
 * name up meanwhile, and waits until no handle is open for that: RELEASE comes some time
 * after close(2). Ends with _mark_stale or _unseize. 0 or -ETXTBSY, then the inode is as
 * it was. */
int fs_cross_seize(struct fs_mount *m, struct fs_inode *i) jsonl_must_check;
/* Undoes fs_cross_seize, after a rename that came to nothing. */
void fs_cross_unseize(struct fs_mount *m, struct fs_inode *i);
/* The file has left its class: OPEN of this inode answers ESTALE from now on. */
void fs_cross_mark_stale(struct fs_mount *m, struct fs_inode *i);
/* Validates all of a plain file that is to get a governed name. Logs what is wrong. 0,
 * -EBADMSG and the like, or -errno. */
int fs_cross_admit(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
		   const char *newpath) jsonl_must_check;
/* Does `src` hold the log's bytes [from, to)? 0, -EPERM, or -errno. */
int fs_cross_compare(struct fs_mount *m, struct jsonl_file *file, int src, off_t from,
		     off_t to) jsonl_must_check;
/* While the log is frozen. Appends bytes [from, size) of `src`, which have been validated;
 * `unfinished`: with a newline behind them. 0 or -errno. */
int fs_cross_append_rest(struct fs_mount *m, struct jsonl_file *file, int src, off_t from,
			 off_t size, bool unfinished,
			 struct jsonl_file_user *user) jsonl_must_check;
/* Moves a governed file with records into the archive. 0, -EPERM, or -errno. */
int fs_cross_archive(fuse_req_t req, struct fs_mount *m, int dir_fd, const char *name,
		     const char *path, off_t size) jsonl_must_check;


/* ---- the archive, for a copy that is made in steps ---- */
#define FS_ARCHIVE_FULL                                                                  \
	"the archive is full (archive_max): jsonlfsctl archive drop what is no longer "  \
	"needed, or mount with a larger archive_max"
/* Counts these bytes in, to be taken off m->archive_bytes if they do not get there. 0 or
 * -EPERM, which is logged when there is a request. */
int fs_cross_archive_reserve(fuse_req_t req, struct fs_mount *m, const char *operation,
			     const char *path, uint64_t bytes) jsonl_must_check;
/* The name that the archive gives to what stands at this path now. */
void fs_cross_archive_name(const char *path, char *buf, size_t size);
/* A new file of the archive: descriptor or -errno. */
int fs_cross_archive_open(struct fs_mount *m, const char *to) jsonl_must_check;
/* Gives the copy `out` what belongs to `in`, and makes it durable with its name. */
int fs_cross_archive_finish(struct fs_mount *m, int in, int out) jsonl_must_check;

#endif
