/* SPDX-License-Identifier: MIT */
#include "tree/lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/path.h"
#include "base/syslog.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/descriptor.h"
#include "tree/identity.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "tree/virtual.h"
#include "vault/statedir.h"

/* Returns the class of a name. A file whose path is too long is plain: that works as
 * without the mount. */
static int class_of(struct fs_mount *m, struct fs_inode *parent, const char *name,
		    const struct stat *st, enum jsonl_class *class)
{
	char path[PATH_MAX];
	int r;

	*class = JSONL_CLASS_PLAIN;
	if (!S_ISREG(st->st_mode) || !jsonl_policy_may_govern(m->vault.policy, name))
		return 0;
	r = fs_inode_path(m, parent, name, path, sizeof(path));
	if (!r)
		*class = jsonl_policy_classify(m->vault.policy, path);
	else if (!m->vault.stats.ungoverned++)
		FS_SYSLOG(LOG_WARNING, (uid_t)-1, "ungoverned", FS_STR("path", name),
			  FS_STR("reason",
				 "its path is longer than 4,095 bytes: such files "
				 "are plain"));
	return 0;
}

static bool is_state(const struct fs_mount *m, const struct fs_inode *parent,
		     const struct stat *st)
{
	return parent->state ||
	       (st->st_dev == m->vault.state_dev && st->st_ino == m->vault.state_ino);
}

int fs_inode_adopt(struct fs_mount *m, struct fs_inode *parent, const char *name, int fd,
		   struct fs_inode **inode, struct stat *st)
{
	cleanup_close int own = fd;
	struct fs_inode *spare, *i;
	enum jsonl_class class;
	struct fs_file_handle h;
	unsigned serial;
	bool state;
	int r;

	/* Comes first, because nothing must be asked about a file of our own mount. */
	r = fs_identity_of(m, fd, &h);
	if (r)
		return r;
	if (fstat(fd, st))
		return -errno;
	state = is_state(m, parent, st);
	class = JSONL_CLASS_PLAIN;
	/* Read before the rules are asked: a reload in between makes the next open ask
	 * again. */
	serial = jsonl_policy_serial(m->vault.policy);
	if (!state)
		r = class_of(m, parent, name, st, &class);
	if (r)
		return r;
	spare = fs_node_new(m, st, class, &h);
	if (!spare)
		return -ENOMEM;
	spare->state = state;
	spare->serial = serial;
	spare->priv->device = (unsigned char)fs_identity_device(m, st->st_dev);
	i = fs_node_enter(m, parent, name, &spare, &h);
	i->serial = serial;
	if (spare) {
		fs_node_free(m, spare);
		pthread_mutex_lock(&i->lock);
		if (!i->seized)
			i->stale = false; /* it has a name of its class again */
		pthread_mutex_unlock(&i->lock);
	}
	fs_descriptor_offer(m, i, steal_fd(&own));
	/* A file that can neither be opened by a handle nor be found by a path stays
	 * open. */
	if (fs_identity_handles(m) && i->priv->mount < 0)
		fs_descriptor_keep(m, i);
	*inode = i;
	return 0;
}

/* status.json and writers.json have no backing file. */
static int lookup_virtual(struct fs_mount *m, struct fs_inode *parent, const char *name,
			  enum fs_virtual what, struct fs_inode **inode, struct stat *st)
{
	struct fs_file_handle none = {.mount = -1};
	struct stat key = {.st_ino = (ino_t)what, .st_mode = S_IFREG};
	struct fs_inode *spare = fs_node_new(m, &key, JSONL_CLASS_PLAIN, &none);

	if (!spare)
		return -ENOMEM;
	spare->state = true;
	spare->virtual = (int)what;
	*inode = fs_node_enter(m, parent, name, &spare, &none);
	if (spare)
		fs_node_free(m, spare);
	fs_virtual_stat(m, *inode, st);
	return 0;
}

int fs_inode_may_rebind(struct fs_mount *m, const struct fs_inode *i, int fd,
			struct fs_file_handle *h)
{
	const struct fs_inode_private *p = i->priv;
	struct stat st;
	int rc = fs_identity_of(m, fd, h);

	if (rc)
		return rc;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != i->dev || h->bytes != p->handle_bytes || h->mount != p->mount ||
	    (h->bytes && h->type != p->handle_type))
		return -EXDEV;
	return 0;
}

static int lookup_backing(struct fs_mount *m, struct fs_inode *parent, const char *name,
			  struct fs_inode **inode, struct stat *st)
{
	int dir, fd;

	if (parent == &m->tree.root && strcmp(name, FS_STATE_NAME) == 0) {
		/* A vault that is mounted read-only may never have had one. */
		fd = m->vault.state_fd < 0
			 ? -ENOENT
			 : fs_descriptor_openat(m, m->vault.state_fd, ".",
						O_PATH | O_DIRECTORY, 0);
	} else {
		dir = fs_inode_fd_get(m, parent);
		if (dir < 0)
			return dir;
		fd = fs_descriptor_openat(m, dir, name, O_PATH | O_NOFOLLOW, 0);
		fs_inode_fd_put(m, parent, dir);
	}
	return fd < 0 ? fd : fs_inode_adopt(m, parent, name, fd, inode, st);
}

static int lookup_once(struct fs_mount *m, struct fs_inode *parent, const char *name,
		       struct fs_inode **inode, struct stat *st)
{
	int rc;

	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return -EINVAL;
	if (parent->state) {
		enum fs_virtual what = fs_virtual_of(m, parent, name);

		if (what != FS_VIRTUAL_NONE)
			return lookup_virtual(m, parent, name, what, inode, st);
	}
	if (!jsonl_policy_may_govern(m->vault.policy, name))
		return lookup_backing(m, parent, name, inode, st);
	/* Or the file could be replaced before its node is. */
	pthread_rwlock_rdlock(&m->tree.lock);
	rc = lookup_backing(m, parent, name, inode, st);
	pthread_rwlock_unlock(&m->tree.lock);
	return rc;
}

int fs_inode_lookup(struct fs_mount *m, struct fs_inode *parent, const char *name,
		    struct fs_inode **inode, struct stat *st)
{
	int dir, rc = lookup_once(m, parent, name, inode, st);

	if (!m->vault.remote || (rc != -ESTALE && (rc || !(*inode)->gone)))
		return rc;
	/* The name led to a file that another host has replaced. */
	if (!rc) {
		/* If it is there after all, once is enough; else it is noted anew. */
		(*inode)->gone = false;
		fs_inode_unref(m, *inode);
	}
	dir = fs_inode_fd_get(m, parent);
	if (dir < 0)
		return dir;
	fs_name_ask(dir, name);
	fs_inode_fd_put(m, parent, dir);
	return lookup_once(m, parent, name, inode, st);
}
