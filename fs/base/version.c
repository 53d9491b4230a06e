/* SPDX-License-Identifier: MIT */
#include "base/version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"

/* Returns a hash of the file handle. Inode numbers are used again at once, and times are
 * coarse; only the handle tells two files with one number apart. 0 on file systems
 * without handles. */
uint64_t fs_version_generation(int dir, const char *name)
{
	union {
		struct file_handle h;
		char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} buf;
	int id;

	buf.h.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(dir, name, &buf.h, &id, AT_EMPTY_PATH) < 0)
		return 0;
	return jsonl_hash(JSONL_HASH_START, buf.h.f_handle, buf.h.handle_bytes);
}

int fs_version_of(int dir, const char *name, struct fs_version *v, struct stat *st)
{
	if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0)
		return -errno;
	*v = (struct fs_version){.dev = st->st_dev,
				 .ino = st->st_ino,
				 .size = st->st_size,
				 .mtime = st->st_mtim,
				 .generation = fs_version_generation(dir, name)};
	return 0;
}

bool fs_version_same(const struct fs_version *a, const struct fs_version *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->generation == b->generation &&
	       a->size == b->size && fs_same_time(a->mtime, b->mtime);
}
