/* follow=path: a handle that was opened with O_APPEND goes on where its name leads to. A
 * program that never opens its log again would write into the rotated file for ever; here
 * its next record goes to the new one, whole, and to one of the two only.
 *
 * The handle goes over between two of its writes. What it appended before is made durable
 * first, so that a later close or fsync vouches for it without looking back. */
#include "governed.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

/* A rotation outside the mount changes no counter: look by the clock, too. */
#define FOLLOW_LOOK_MS 1000

struct fs_follow {
	pthread_mutex_t lock;
	struct fs_inode *dir; /* constant, holds a reference; and the name in it */
	char *name;
	/* Constant; the kernel has it as long as the handle: the node of its WRITEs. */
	const struct fs_inode *opened;
	/* Under lock, as is governed->shared: */
	unsigned flushing;
	uint64_t seen; /* mount->log_names when the name led to this file */
	int64_t looked;
	bool warned;
};

int fs_follow_new(struct governed *g)
{
	struct fs_follow *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return -ENOMEM;
	f->seen = g->m->log_names;
	f->looked = fs_now_ms();
	f->opened = g->base.inode;
	rc = fs_inode_place(g->m, g->base.inode, &f->dir, &f->name);
	if (rc) {
		free(f);
		/* It lost its name while it was being opened: nothing to follow. */
		return rc == -ENOENT ? 0 : rc;
	}
	pthread_mutex_init(&f->lock, NULL);
	g->follow = f;
	return 0;
}

void fs_follow_free(struct governed *g)
{
	struct fs_follow *f = steal_ptr(&g->follow);

	if (!f)
		return;
	fs_inode_unref(g->m, f->dir);
	pthread_mutex_destroy(&f->lock);
	free(f->name);
	free(f);
}

struct fs_shared *fs_follow_hold(struct governed *g, struct fs_shared **held)
{
	*held = NULL;
	if (!g->follow)
		return g->shared;
	pthread_mutex_lock(&g->follow->lock);
	*held = fs_shared_ref(g->shared);
	pthread_mutex_unlock(&g->follow->lock);
	return *held;
}

static void flushing_add(struct governed *g, int n)
{
	if (!g->follow)
		return;
	pthread_mutex_lock(&g->follow->lock);
	g->follow->flushing += (unsigned)n;
	pthread_mutex_unlock(&g->follow->lock);
}

void fs_follow_flush_begins(struct governed *g)
{
	flushing_add(g, 1);
}

void fs_follow_flush_ends(struct governed *g)
{
	flushing_add(g, -1);
}

/* The handle is a right to write to the old file, not to whatever takes its name. With an
 * ACL the mode does not tell what it grants, so then only the owner passes. */
static bool caller_may_write(fuse_req_t req, struct fs_mount *m, struct fs_inode *i,
			     const struct stat *st)
{
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	cleanup_close int fd = -1;

	if (caller->uid == 0 || m->uid != 0)
		return true;
	if (caller->uid == st->st_uid)
		return st->st_mode & S_IWUSR;
	fd = fs_inode_open(m, i, O_RDONLY);
	if (fd < 0 || fgetxattr(fd, "system.posix_acl_access", NULL, 0) >= 0)
		return false;
	if (fs_caller_in_group(req, st->st_gid))
		return st->st_mode & S_IWGRP;
	return st->st_mode & S_IWOTH;
}

static void follow_stays(fuse_req_t req, struct governed *g, const char *why)
{
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	char path[PATH_MAX];

	if (g->follow->warned)
		return;
	g->follow->warned = true;
	if (fs_inode_path(g->m, g->follow->dir, g->follow->name, path, sizeof(path)))
		snprintf(path, sizeof(path), "%s", g->follow->name);
	FS_LOG(LOG_WARNING, caller->uid, "follow-refused", FS_STR("path", path),
	       FS_STR("reason", why), FS_INT("pid", caller->pid),
	       FS_INT("uid", caller->uid),
	       FS_STR("next", "its records go on into the rotated file; let the new one "
			      "have the owner and mode of the old, or restart the program"));
}

/* Links the handle to its new inode, unless that has just lost its class again. */
static bool relink(struct governed *g, struct fs_inode *i)
{
	struct fs_mount *m = g->m;
	bool stale;

	pthread_rwlock_rdlock(&m->tree_lock);
	pthread_mutex_lock(&i->lock);
	stale = i->stale;
	pthread_mutex_unlock(&i->lock);
	if (!stale) {
		fs_handle_unlink(m, &g->base);
		fs_handle_link(m, &g->base, i);
	}
	pthread_rwlock_unlock(&m->tree_lock);
	return !stale;
}

static int go_over(struct governed *g, struct fs_inode *i)
{
	struct fs_shared *old = g->shared, *new;
	cleanup_close int dir = -1;
	off_t visible;
	int rc = fs_shared_get(g->m, i, true, &new);

	if (rc)
		return rc;
	/* A new name may not be on the disk yet, and what is behind it is about to be
	 * vouched for. */
	if (g->settings->sync != JSONL_SYNC_NONE) {
		dir = fs_inode_open(g->m, g->follow->dir, O_RDONLY | O_DIRECTORY);
		rc = dir < 0 ? dir : 0;
	}
	if (!rc)
		rc = fs_account_file(g->m, g->account, &new->payer);
	if (!rc)
		rc = jsonl_file_visible(new->file, &visible);
	if (!rc && !relink(g, i))
		rc = -ESTALE;
	if (rc) {
		fs_shared_put(g->m, new);
		return rc;
	}
	jsonl_writer_retarget(g->writer, new->file, visible);
	g->shared = new;
	g->moved = i != g->follow->opened;
	fs_shared_put(g->m, old);
	if (dir >= 0)
		jsonl_file_set_directory(new->file, steal_fd(&dir),
					 jsonl_writer_user(g->writer));
	g->m->stats.followed++;
	return 0;
}

/* Where does the name lead to by now? True when the handle is on that file. */
static bool look(fuse_req_t req, struct governed *g)
{
	struct fs_follow *f = g->follow;
	struct fs_inode *i;
	bool there = false;
	struct stat st;
	int rc;

	/* Between a rename and the new file there is none: the old one it is, until then. */
	if (fs_inode_lookup(g->m, f->dir, f->name, &i, &st))
		return false;
	if (i == g->base.inode) {
		there = true;
	} else if (S_ISREG(i->type) && i->class == JSONL_CLASS_GOVERNED) {
		rc = caller_may_write(req, g->m, i, &st) ? go_over(g, i) : -EACCES;
		there = !rc;
		if (rc && rc != -ESTALE)
			follow_stays(req, g, jsonl_error_text(rc));
	}
	fs_inode_unref(g->m, i);
	return there;
}

void fs_follow_name(fuse_req_t req, struct governed *g)
{
	struct fs_follow *f = g->follow;
	uint64_t names = g->m->log_names;
	int64_t now;

	if (!f)
		return;
	now = fs_now_ms();
	pthread_mutex_lock(&f->lock);
	/* Whose close is under way has a place in the queue of the old file. */
	if (!f->flushing && (f->seen != names || now - f->looked >= FOLLOW_LOOK_MS)) {
		f->looked = now;
		if (look(req, g)) {
			f->seen = names;
			f->warned = false;
		}
	}
	pthread_mutex_unlock(&f->lock);
}
