/* SPDX-License-Identifier: MIT */
/* Keeps files open after the last close, because programs that open, append and close do
 * so again soon, and opening and closing the backing file costs as much as a request of
 * the kernel. There is a limit to their number and to the time, and each is closed when
 * the kernel forgets the file: one deleted outside the mount must not keep its room on
 * the disk. */
#include "log/idle.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "log/openlog.h"
#include "tree/inode.h"
#include "tree/mount.h"

#define IDLE_FILES_MAX 64
#define IDLE_PART      64 /* this part of all descriptors, two a file */

int fs_idle_init(struct fs_mount *m)
{
	struct fs_idle *l = calloc(1, sizeof(*l));
	struct rlimit limit = {.rlim_cur = 1024};

	if (!l)
		return -ENOMEM;
	getrlimit(RLIMIT_NOFILE, &limit);
	l->max = limit.rlim_cur / IDLE_PART < IDLE_FILES_MAX
		     ? (unsigned)(limit.rlim_cur / IDLE_PART)
		     : IDLE_FILES_MAX;
	pthread_mutex_init(&l->lock, NULL);
	l->end = &l->first;
	m->idle = l;
	return 0;
}

void fs_idle_deinit(struct fs_mount *m)
{
	if (!m->idle)
		return;
	pthread_mutex_destroy(&m->idle->lock);
	free(steal_ptr(&m->idle));
}

/* Takes `s` out of the list, under its lock. The list counts as a user of `s`, so nobody
 * frees it meanwhile. */
static struct fs_openlog *idle_remove(struct fs_idle *l, struct fs_openlog *s)
{
	*s->idle_pprev = s->idle_next;
	*(s->idle_next ? &s->idle_next->idle_pprev : &l->end) = s->idle_pprev;
	l->count--;
	s->idle = false;
	return s;
}

struct fs_openlog *fs_idle_add(struct fs_mount *m, struct fs_openlog *s)
{
	struct fs_idle *l = m->idle;
	struct fs_openlog *victim = NULL;

	pthread_mutex_lock(&l->lock);
	s->idle = true;
	s->idle_since = jsonl_now_ms();
	s->idle_next = NULL;
	s->idle_pprev = l->end;
	*l->end = s;
	l->end = &s->idle_next;
	if (++l->count > l->max)
		victim = idle_remove(l, l->first);
	pthread_mutex_unlock(&l->lock);
	return victim;
}

struct fs_openlog *fs_idle_take(struct fs_idle *l, const struct fs_inode *i,
				int64_t before)
{
	struct fs_openlog *s;

	pthread_mutex_lock(&l->lock);
	s = l->first;
	while (s && i && s->inode != i)
		s = s->idle_next;
	if (s)
		s = s->idle_since < before ? idle_remove(l, s) : NULL;
	pthread_mutex_unlock(&l->lock);
	return s;
}
