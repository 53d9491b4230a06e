/* SPDX-License-Identifier: MIT */
/* Renames as the backing file system does; where a name has a class, the classes of both
 * sides decide (tree/classes.h). */
#include "names/rename.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/payer.h"
#include "names/generation.h"
#include "names/rename_directory.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/hold.h"
#include "tree/inode.h"
#include "tree/lookup.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "tree/renaming.h"
#include "tree/stat.h"
#include "vault/archive.h"
#include "vault/deferred.h"
#include "vault/vault.h"

#ifndef RENAME_WHITEOUT
#define RENAME_WHITEOUT (1 << 2)
#endif

#define RENAME_AT_ONCE (1 << 20) /* more bytes are left to the pool */

/* ---- exchange ---- */

/* Returns true when this side must not be exchanged: a log, and a file whose class would
 * change. */
static bool side_fixed(struct fs_renaming *r, const struct fs_inode *i, const char *path)
{
	const struct fs_class_ops *from = fs_class_of(r->m, i);
	const struct fs_class_ops *to =
	    r->m->tree.classes[jsonl_policy_classify(r->m->vault.policy, path)];

	return S_ISREG(i->type) && (from->append_only || from != to);
}

static int rename_exchange(struct fs_renaming *r)
{
	int rc = 0;

	if (!r->dst)
		return -ENOENT;
	if (side_fixed(r, r->src, r->new_path) || side_fixed(r, r->dst, r->old_path))
		return fs_rename_refuse(
		    r, -EPERM, r->new_path,
		    "RENAME_EXCHANGE with a log on either side, or of a "
		    "state file with another file");
	if (S_ISDIR(r->src->type))
		rc = fs_directory_may_move(r, r->old_fd, r->old_name, r->old_path,
					   r->new_path);
	if (!rc && S_ISDIR(r->dst->type))
		rc = fs_directory_may_move(r, r->new_fd, r->new_name, r->new_path,
					   r->old_path);
	return rc ? rc : fs_rename_plain(r);
}

/* ---- one way ---- */

static int rename_regular(struct fs_renaming *r)
{
	const struct fs_class_ops *from = fs_class_of(r->m, r->src);
	const struct fs_class_ops *to = r->m->tree.classes[r->settings->class];

	/* Two names of one file: rename(2) does nothing. */
	if (from == to && r->dst && r->src->dev == r->dst->dev &&
	    r->src->ino == r->dst->ino)
		return fs_rename_plain(r);
	if (r->dst && S_ISREG(r->dst->type) && to->rename_onto)
		return to->rename_onto(r);
	if (from != to && from->rename_out)
		return from->rename_out(r);
	if (to->rename_into)
		return to->rename_into(r);
	return from == to ? fs_rename_plain(r) : fs_rename_class(r);
}

static void rename_done(struct fs_renaming *r)
{
	const struct fs_class_ops *from = fs_class_of(r->m, r->src);
	const struct fs_class_ops *to = r->m->tree.classes[r->settings->class];

	if (from->renamed)
		from->renamed(r);
	else if (to->renamed)
		to->renamed(r);
}

static int rename_decided(struct fs_renaming *r)
{
	if (r->flags & RENAME_EXCHANGE)
		return rename_exchange(r);
	if (r->dst && (r->flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (S_ISDIR(r->src->type))
		return fs_rename_directory(r);
	if ((r->flags & RENAME_WHITEOUT) && fs_class_of(r->m, r->src)->append_only)
		return -EINVAL;
	if (S_ISREG(r->src->type) && !(r->dst && S_ISDIR(r->dst->type)))
		return rename_regular(r);
	if (r->dst && fs_class_of(r->m, r->dst)->append_only && r->dst_st.st_size)
		return fs_rename_refuse(r, -EPERM, r->new_path,
					"it would replace a log with records");
	return fs_rename_plain(r);
}

/* ---- the request ---- */

/* Returns true when the rename has nothing to do with logs, as most: neither side needs
 * a look. */
static bool rename_is_simple(struct fs_renaming *r)
{
	struct stat st;

	return !(r->flags & RENAME_EXCHANGE) &&
	       !jsonl_policy_may_govern(r->m->vault.policy, r->old_name) &&
	       !jsonl_policy_may_govern(r->m->vault.policy, r->new_name) &&
	       fstatat(r->old_fd, r->old_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       !S_ISDIR(st.st_mode);
}

static int rename_look(struct fs_renaming *r)
{
	int rc = fs_inode_lookup(r->m, r->old_dir, r->old_name, &r->src, &r->src_st);

	if (rc)
		return rc;
	/* "": too long; such a file is plain. */
	if (fs_inode_path(r->m, r->old_dir, r->old_name, r->old_path,
			  sizeof(r->old_path)))
		r->old_path[0] = '\0';
	if (fs_inode_path(r->m, r->new_dir, r->new_name, r->new_path,
			  sizeof(r->new_path)))
		r->new_path[0] = '\0';
	r->settings = jsonl_policy_settings(r->m->vault.policy, r->new_path);
	if (!r->settings)
		return -ENOMEM;
	/* With match=* everything is a log. */
	if (!r->new_path[0] && r->settings->class != JSONL_CLASS_PLAIN)
		return -ENAMETOOLONG;
	rc = fs_inode_lookup(r->m, r->new_dir, r->new_name, &r->dst, &r->dst_st);
	if (rc == -ENOENT) {
		r->dst = NULL;
		rc = 0;
	}
	return rc;
}

/* Returns true when the rename has so much to judge or compare that it would occupy a
 * worker for too long, or may have to wait for another daemon. */
static bool is_long(const struct fs_renaming *r)
{
	if (fs_hold_may_wait(r->m) && S_ISREG(r->src->type) &&
	    (r->src->class != JSONL_CLASS_PLAIN ||
	     r->settings->class != JSONL_CLASS_PLAIN))
		return true;
	return !fs_defer_here() && S_ISREG(r->src->type) &&
	       r->src_st.st_size > RENAME_AT_ONCE &&
	       r->settings->class != JSONL_CLASS_PLAIN &&
	       (r->dst || (int)r->src->class != r->settings->class);
}

static int rename_run(struct fs_renaming *r)
{
	const bool simple = rename_is_simple(r);
	char kept[JSONL_ARCHIVED_NAME] = "";
	int rc = simple ? 0 : rename_look(r);

	if (!rc && !simple && is_long(r))
		rc = -EINPROGRESS;
	if (!rc)
		rc = fs_generation_replace(r, kept);
	if (!rc)
		rc = simple ? fs_rename_plain(r) : rename_decided(r);
	if (!rc && !simple && S_ISREG(r->src->type) && !(r->flags & RENAME_EXCHANGE))
		rename_done(r);
	if (rc && kept[0])
		fs_archive_unlink(&r->m->vault, kept);
	if (r->dst)
		fs_inode_unref(r->m, r->dst);
	if (r->src)
		fs_inode_unref(r->m, r->src);
	return rc;
}

/* Renames. 0 or -errno; -EINPROGRESS: nothing has happened, the pool is to do it. */
static int rename_request(fuse_req_t req, fuse_ino_t parent, const char *name,
			  fuse_ino_t newparent, const char *newname, unsigned flags)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_renaming r = {.req = req,
				.m = m,
				.old_dir = fs_inode_of(m, parent),
				.new_dir = fs_inode_of(m, newparent),
				.old_name = name,
				.new_name = newname,
				.flags = flags,
				.chain = fs_generation_chain};
	struct fs_ids ids;
	int rc;

	if (fs_name_is_state(m, r.old_dir, name) ||
	    fs_name_is_state(m, r.new_dir, newname))
		return -EPERM;
	r.old_fd = fs_inode_fd_get(m, r.old_dir);
	if (r.old_fd < 0)
		return r.old_fd;
	r.new_fd = fs_inode_fd_get(m, r.new_dir);
	ids = fs_caller_ids(req);
	fs_payer_set(&ids);
	rc = r.new_fd < 0 ? r.new_fd : rename_run(&r);
	fs_payer_clear();
	if (r.new_fd >= 0)
		fs_inode_fd_put(m, r.new_dir, r.new_fd);
	fs_inode_fd_put(m, r.old_dir, r.old_fd);
	return rc;
}

/* Keeps a rename that has to wait, or to judge a large file. The kernel keeps both
 * directories until the answer. */
struct later {
	struct fs_job job; /* first: cast back */
	fuse_req_t req;
	fuse_ino_t parent, newparent;
	unsigned flags;
	const char *newname;
	char name[];
};

static int later_run(struct fs_job *job, bool last)
{
	struct later *l = (struct later *)job;
	int rc = rename_request(l->req, l->parent, l->name, l->newparent, l->newname,
				l->flags);

	(void)last;
	fuse_reply_err(l->req, -rc);
	free(l);
	return 0;
}

void fs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		  fuse_ino_t newparent, const char *newname, unsigned flags)
{
	int rc = rename_request(req, parent, name, newparent, newname, flags);
	size_t len = strlen(name) + 1;
	struct later *l;

	if (rc != -EINPROGRESS) {
		fuse_reply_err(req, -rc);
		return;
	}
	l = malloc(sizeof(*l) + len + strlen(newname) + 1);
	if (l) {
		*l = (struct later){.job = {.run = later_run,
					    .uid = fuse_req_ctx(req)->uid,
					    .timeout_ms = UINT32_MAX},
				    .req = req,
				    .parent = parent,
				    .newparent = newparent,
				    .flags = flags};
		l->newname = strcpy(stpcpy(l->name, name) + 1, newname);
		if (fs_defer(fs_vault_of(req), &l->job) == 0)
			return;
		free(l);
	}
	fuse_reply_err(req, ENOMEM);
}
