/* SPDX-License-Identifier: MIT */
#include "tree/stale.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "tree/inode.h"
#include "tree/mount.h"
#include "vault/deferred.h"

#define CROSS_WAIT_MS 500

static void set_stale(struct fs_mount *m, struct fs_inode *i, bool stale, bool seized)
{
	pthread_rwlock_wrlock(&m->tree.lock);
	pthread_mutex_lock(&i->lock);
	i->stale = stale;
	i->seized = seized;
	pthread_mutex_unlock(&i->lock);
	pthread_rwlock_unlock(&m->tree.lock);
}

void fs_stale_release(struct fs_mount *m, struct fs_inode *i)
{
	set_stale(m, i, false, false);
}

void fs_stale_mark(struct fs_mount *m, struct fs_inode *i)
{
	set_stale(m, i, true, false);
}

int fs_stale_seize(struct fs_mount *m, struct fs_inode *i)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	const int patience = fs_defer_here() ? CROSS_WAIT_MS : 1;

	set_stale(m, i, true, true);
	for (int waited = 0; waited < patience; waited++) {
		unsigned writers;

		pthread_mutex_lock(&i->lock);
		writers = i->writers;
		pthread_mutex_unlock(&i->lock);
		if (!writers)
			return 0;
		if (fs_defer_here())
			nanosleep(&pause, NULL);
	}
	set_stale(m, i, false, false);
	return fs_defer_here() ? -ETXTBSY : -EINPROGRESS;
}

bool fs_inode_refuses(struct fs_inode *i, int flags)
{
	bool refuses;

	pthread_mutex_lock(&i->lock);
	refuses = i->stale && !(i->seized && (flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY);
	pthread_mutex_unlock(&i->lock);
	return refuses;
}
