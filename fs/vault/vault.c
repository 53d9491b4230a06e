/* SPDX-License-Identifier: MIT */
#include "vault/vault.h"

#include "base/path.h"

int fs_open_beneath(struct fs_vault *v, const char *path, int flags)
{
	return fs_openat_beneath(v->root_fd, *path ? path : ".", flags);
}
