/* SPDX-License-Identifier: MIT */
#include "tree/mount.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>

#include "tree/descriptor.h"
#include "tree/handles.h"
#include "tree/identity.h"
#include "tree/inode.h"
#include "tree/listing.h"

static_assert(offsetof(struct fs_mount, vault) == 0, "fs_vault_of");

int fs_tree_init(struct fs_mount *m)
{
	int r;

	pthread_rwlock_init(&m->tree.lock, NULL);
	r = fs_handles_init(m);
	if (!r)
		r = fs_listing_init(m);
	if (!r)
		r = fs_identity_init(m);
	if (!r)
		r = fs_descriptor_init(m);
	if (!r)
		r = fs_inode_table_init(m);
	return r;
}

void fs_tree_deinit(struct fs_mount *m)
{
	fs_inode_table_deinit(m);
	fs_descriptor_deinit(m);
	fs_identity_deinit(m);
	fs_listing_deinit(m);
	fs_handles_deinit(m);
}
