/* SPDX-License-Identifier: MIT */
#include "tree/virtual.h"

#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "tree/inode.h"
#include "tree/mount.h"

static const char *const virtual_names[] = {
    [FS_VIRTUAL_STATUS] = "status.json",
    [FS_VIRTUAL_WRITERS] = "writers.json",
};

const char *fs_virtual_name(enum fs_virtual what)
{
	return virtual_names[what];
}

enum fs_virtual fs_virtual_of(const struct fs_mount *m, const struct fs_inode *dir,
			      const char *name)
{
	if (dir->dev != m->vault.state_dev || dir->ino != m->vault.state_ino)
		return FS_VIRTUAL_NONE;
	for (int i = FS_VIRTUAL_STATUS; i <= FS_VIRTUAL_WRITERS; i++)
		if (strcmp(name, virtual_names[i]) == 0)
			return i;
	return FS_VIRTUAL_NONE;
}

void fs_virtual_stat(struct fs_mount *m, const struct fs_inode *i, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	/* Numbers from the upper end, which no file system uses. */
	st->st_ino = ~(ino_t)0 - (ino_t)i->virtual;
	st->st_mode = S_IFREG | 0444;
	st->st_nlink = 1;
	st->st_uid = m->vault.uid;
	st->st_gid = getegid();
	st->st_blksize = 4096;
	clock_gettime(CLOCK_REALTIME, &st->st_mtim);
	st->st_atim = st->st_ctim = st->st_mtim;
	/* Size 0, as files in /proc have it: the text does not exist before it is opened.
	 */
}
