/* SPDX-License-Identifier: MIT */
#include "tree/listing.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/stamp.h"
#include "base/fuse.h"
#include "base/hash.h"
#include "rules/config.h"
#include "tree/inode.h"
#include "tree/mount.h"

/* Describes what the kernel keeps of a directory's names; under inode->lock. */
struct fs_listing {
	unsigned readers; /* open handles */
	bool stamped;	  /* the names are as of these times, or newer: */
	struct timespec mtime, ctime;
	int64_t filled;	  /* jsonl_now_ms when all attributes were last asked for, */
	uint32_t opens;	  /* the counter of opens then, */
	uint32_t entries; /* and how many came with the answer */
};

#define LISTINGS_MAX 1024 /* counters; directories share them */

struct fs_listings {
	_Atomic uint32_t opens[LISTINGS_MAX]; /* see fs_listing_opened */
};

int fs_listing_init(struct fs_mount *m)
{
	m->tree.listings = calloc(1, sizeof(*m->tree.listings));
	return m->tree.listings ? 0 : -ENOMEM;
}

void fs_listing_deinit(struct fs_mount *m)
{
	free(m->tree.listings);
	m->tree.listings = NULL;
}

void fs_listing_free(struct fs_listing *l)
{
	free(l);
}

static double names_timeout(const struct fs_mount *m)
{
	const struct jsonl_config *c = &m->vault.config;

	return c->attr_timeout < c->entry_timeout ? c->attr_timeout : c->entry_timeout;
}

/* Returns true when the directory has not changed since it was stamped. If it has, stamps
 * it anew; the caller must not hand older names to the kernel afterwards. */
static bool names_are_good(struct fs_listing *l, const struct stat *st)
{
	if (l->stamped && fs_same_time(l->mtime, st->st_mtim) &&
	    fs_same_time(l->ctime, st->st_ctim))
		return true;
	l->stamped = !l->readers && fs_stamp_is_old(st);
	l->mtime = st->st_mtim;
	l->ctime = st->st_ctim;
	return false;
}

uint16_t fs_listing_number(const struct fs_inode *dir)
{
	uint64_t ino = dir->ino;

	return 1 + jsonl_hash(JSONL_HASH_START, &ino, sizeof(ino)) % (LISTINGS_MAX - 1);
}

void fs_listing_opened(struct fs_mount *m, struct fs_inode *i)
{
	uint16_t number = i->priv->listed;

	if (number)
		m->tree.listings->opens[number]++;
}

/* Returns true unless so many files of the directory have been opened since their
 * attributes were asked for that it is cheaper to ask for all of them than for each. */
static bool attributes_are_good(const struct fs_mount *m, const struct fs_inode *dir,
				const struct fs_listing *l)
{
	return m->tree.listings->opens[fs_listing_number(dir)] - l->opens <=
	       l->entries / 4;
}

int fs_listing_join(const struct fs_mount *m, struct fs_inode *dir, int fd,
		    struct fuse_file_info *fi)
{
	const double timeout = dir->state ? 0 : names_timeout(m);
	struct fs_listing *l;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	pthread_mutex_lock(&dir->lock);
	l = dir->priv->listing;
	if (!l)
		l = dir->priv->listing = calloc(1, sizeof(*l));
	if (l) {
		fi->keep_cache =
		    names_are_good(l, &st) && attributes_are_good(m, dir, l) &&
		    (double)(jsonl_now_ms() - l->filled) < timeout * 1000 * 3 / 4;
		fi->cache_readdir = l->stamped && timeout > 0;
		l->readers++;
	}
	pthread_mutex_unlock(&dir->lock);
	return l ? 0 : -ENOMEM;
}

void fs_listing_leave(struct fs_inode *dir)
{
	pthread_mutex_lock(&dir->lock);
	dir->priv->listing->readers--;
	pthread_mutex_unlock(&dir->lock);
}

void fs_listing_filled(struct fs_mount *m, struct fs_inode *dir)
{
	struct fs_listing *l = dir->priv->listing;

	pthread_mutex_lock(&dir->lock);
	l->filled = jsonl_now_ms();
	l->opens = m->tree.listings->opens[fs_listing_number(dir)];
	l->entries = 0;
	pthread_mutex_unlock(&dir->lock);
}

void fs_listing_entries(struct fs_inode *dir, uint32_t entries)
{
	pthread_mutex_lock(&dir->lock);
	dir->priv->listing->entries += entries;
	pthread_mutex_unlock(&dir->lock);
}
