/* SPDX-License-Identifier: MIT */
#include "tree/notify.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "rules/config.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "vault/deferred.h"

#define NOTES_WAIT_NS 100000000

void fs_attributes_changed(struct fs_mount *m, struct fs_inode *i)
{
	/* Only attributes: this takes no lock in the kernel that a request could
	 * hold. */
	fuse_lowlevel_notify_inval_inode(m->tree.se, fs_inode_number(m, i), -1, 0);
}

void fs_attributes_changed_as(struct fs_mount *m, struct fs_inode *i,
			      enum jsonl_class class)
{
	fuse_ino_t number = fs_inode_number_as(m, i, class);

	if (number)
		fuse_lowlevel_notify_inval_inode(m->tree.se, number, -1, 0);
}

/* ---- names ---- */

struct invalidation {
	struct fs_job job; /* first: cast back */
	struct fs_mount *m;
	struct fs_inode *parent;
	char name[];
};

static int invalidation_run(struct fs_job *job, bool last)
{
	struct invalidation *inv = (struct invalidation *)job;
	struct fs_mount *m = inv->m;

	if (!last)
		fuse_lowlevel_notify_inval_entry(m->tree.se,
						 fs_inode_number(m, inv->parent),
						 inv->name, strlen(inv->name));
	fs_inode_unref(m, inv->parent);
	free(inv);
	return 0;
}

void fs_invalidate_entry(struct fs_mount *m, struct fs_inode *parent, const char *name)
{
	size_t len = strlen(name) + 1;
	struct invalidation *inv = malloc(sizeof(*inv) + len);

	if (!inv)
		return;
	inv->job = (struct fs_job){.run = invalidation_run};
	inv->m = m;
	inv->parent = fs_inode_ref(m, parent);
	memcpy(inv->name, name, len);
	if (fs_defer_note(&m->vault, &inv->job)) {
		fs_inode_unref(m, parent);
		free(inv);
	}
}

/* ---- a file that was replaced ---- */

struct told {
	struct fs_job job; /* first: cast back */
	sem_t done;
	_Atomic unsigned users;
};

static void told_put(struct told *t)
{
	if (atomic_fetch_sub(&t->users, 1) > 1)
		return;
	sem_destroy(&t->done);
	free(t);
}

static int told_run(struct fs_job *job, bool last)
{
	struct told *t = (struct told *)job;

	(void)last;
	sem_post(&t->done);
	told_put(t);
	return 0;
}

/* Waits until the notes so far have been taken, but not for long: the kernel lets nobody
 * change a directory of which another request is under way. */
static void wait_for_notes(struct fs_mount *m)
{
	struct told *t = calloc(1, sizeof(*t));
	struct timespec until;

	if (!t)
		return;
	t->job.run = told_run;
	t->users = 2;
	sem_init(&t->done, 0, 0);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += NOTES_WAIT_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	if (fs_defer_note(&m->vault, &t->job))
		told_put(t);
	else
		while (sem_clockwait(&t->done, CLOCK_MONOTONIC, &until) &&
		       errno == EINTR)
			;
	told_put(t);
}

void fs_node_replaced(struct fs_mount *m, struct fs_inode *i, fuse_ino_t before, bool wait)
{
	cleanup_free char *name = NULL;
	struct fs_inode *dir;

	fs_attributes_changed(m, i);
	if (before == fs_inode_number(m, i))
		return;
	fuse_lowlevel_notify_inval_inode(m->tree.se, before, -1, 0);
	if (fs_inode_place(m, i, &dir, &name))
		return;
	fs_invalidate_entry(m, dir, name);
	fs_inode_unref(m, dir);
	if (wait)
		wait_for_notes(m);
}
