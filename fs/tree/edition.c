/* SPDX-License-Identifier: MIT */
#include "tree/edition.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/fuse.h"
#include "tree/handles.h"
#include "tree/inode.h"

unsigned char fs_inode_edition(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? 0 : (unsigned char)(ino & FS_EDITION_MASK);
}

/* Chooses the next edition that no handle has; if each is in use, the present one stays.
 * Under inode->lock. */
static void next_edition(struct fs_inode *i)
{
	unsigned used = 1u << i->edition;

	for (const struct fs_handle *h = i->handles; h; h = h->next_of_inode)
		used |= 1u << h->edition;
	for (unsigned n = 1; n < FS_EDITIONS; n++) {
		unsigned edition = (i->edition + n) % FS_EDITIONS;

		if (used & 1u << edition)
			continue;
		i->edition = (unsigned char)edition;
		break;
	}
}

struct fs_handle *fs_edition_find(struct fs_inode *i, unsigned char edition,
				  struct stat *st)
{
	struct fs_handle *h = edition == i->edition ? NULL : i->handles;

	while (h && (h->edition != edition || !h->ops->stat || !h->ops->stat(h, st)))
		h = h->next_of_inode;
	return h;
}

int fs_handle_opened_as(struct fs_handle *h, unsigned char edition)
{
	pthread_mutex_t *lock = &h->inode->lock;
	struct fs_handle *other;
	struct stat st;
	int rc = 0;

	pthread_mutex_lock(lock);
	if (h->edition != edition) {
		other = fs_edition_find(h->inode, edition, &st);
		if (other && (h->flags & O_ACCMODE) != O_WRONLY && other->ops->join &&
		    !other->ops->join(other, h))
			rc = -ESTALE;
		else
			h->edition = edition;
	}
	pthread_mutex_unlock(lock);
	return rc;
}

fuse_ino_t fs_inode_replace(struct fs_mount *m, struct fs_inode *i,
			    const struct fs_file_handle *h, ino_t ino, int fd,
			    void *version)
{
	const fuse_ino_t before = fs_inode_number(m, i);
	bool stay = false;

	/* Held so that nobody asks for attributes in between. */
	pthread_mutex_lock(&i->lock);
	fs_inode_rebind(m, i, h, ino, fd);
	for (struct fs_handle *o = i->handles; o; o = o->next_of_inode)
		stay |= o->ops->stay && o->ops->stay(o, version);
	if (stay)
		next_edition(i);
	pthread_mutex_unlock(&i->lock);
	return before;
}
