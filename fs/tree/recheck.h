/* SPDX-License-Identifier: MIT */
/* Checks, after a reload of the rules, whether a node still has the class of its file. */
#ifndef FS_TREE_RECHECK_H
#define FS_TREE_RECHECK_H

#include "base/error.h"

struct fs_inode;
struct fs_mount;

/* Checks a node. 0: its class is right; -ESTALE: the file is of another class now. */
int fs_recheck(struct fs_mount *m, struct fs_inode *i) jsonl_must_check;

#endif
