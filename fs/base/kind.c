/* SPDX-License-Identifier: MIT */
#include "base/kind.h"

#include <linux/magic.h>
#include <stddef.h>

static const struct {
	unsigned long magic;
	struct fs_kind kind;
} kinds[] = {
    {EXT4_SUPER_MAGIC,
     {.local = true, .keeps_back = true, .ordered = true, .journal = true}},
    {F2FS_SUPER_MAGIC, {.local = true, .keeps_back = true}},
    {XFS_SUPER_MAGIC, {.local = true, .ordered = true}},
    {BTRFS_SUPER_MAGIC, {.local = true}},
    {TMPFS_MAGIC, {.local = true}},
    {OVERLAYFS_SUPER_MAGIC, {.stacked = true}},
    {FUSE_SUPER_MAGIC, {.fuse = true}},
};

const struct fs_kind *fs_kind_of(const struct statfs *st)
{
	static const struct fs_kind unknown;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].magic == (unsigned long)st->f_type)
			return &kinds[i].kind;
	return &unknown;
}
