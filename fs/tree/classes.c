/* SPDX-License-Identifier: MIT */
#include "tree/classes.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "vault/statedir.h"

const struct jsonl_settings *fs_settings_of(struct fs_mount *m, struct fs_inode *i)
{
	char path[PATH_MAX];

	fs_path_of(m, i, path, sizeof(path));
	return jsonl_policy_settings(m->vault.policy, path);
}

bool fs_name_is_state(struct fs_mount *m, const struct fs_inode *parent, const char *name)
{
	return parent->state ||
	       (parent == &m->tree.root && strcmp(name, FS_STATE_NAME) == 0);
}
