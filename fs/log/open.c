/* SPDX-License-Identifier: MIT */
#include "log/open.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/caller.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "file/file.h"
#include "log/block.h"
#include "log/events.h"
#include "log/follow.h"
#include "log/handle.h"
#include "log/openlog.h"
#include "log/reader.h"
#include "log/rewriter.h"
#include "log/writer.h"
#include "record/known.h"
#include "record/writer.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/descriptor.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "vault/account.h"

static int open_writer(fuse_req_t req, struct fs_log_handle *g, struct fs_inode *i,
		       off_t visible)
{
	const struct jsonl_settings *s = g->settings;
	struct jsonl_writer_options opt = {
	    .limits = s->limits,
	    .onbad = s->onbad,
	    .seed = jsonl_known_seed(g->m->known),
	};
	int rc = g->kind->open(req, i, g, &opt);

	if (rc)
		return rc;
	g->sync_each =
	    s->sync == JSONL_SYNC_WRITE || (g->base.flags & (O_DSYNC | O_SYNC));
	opt.settle_each = g->sync_each;
	return jsonl_writer_new(fs_openlog_file(g->log), &opt, &fs_log_writer_events, g,
				visible, &g->writer);
}

static int open_directory(struct fs_mount *m, struct fs_log_handle *g,
			  struct fs_inode *dir)
{
	int fd = fs_inode_open(m, dir, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return fd;
	jsonl_file_set_directory(fs_openlog_file(g->log), fd,
				 jsonl_writer_user(g->writer));
	return 0;
}

/* Makes the name of an empty log durable together with its first record: the open that
 * created the log may have failed to. */
static int open_directory_of(struct fs_mount *m, struct fs_log_handle *g,
			     struct fs_inode *i)
{
	cleanup_free char *name = NULL;
	struct jsonl_file_state state;
	struct fs_inode *dir;
	int rc;

	jsonl_file_get_state(fs_openlog_file(g->log), &state);
	if (state.poisoned)
		return 0; /* its sync has failed, and is tried again before the first
			     record */
	rc = fs_inode_place(m, i, &dir, &name);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	rc = open_directory(m, g, dir);
	fs_inode_unref(m, dir);
	return rc;
}

/* Makes the handle, charges the user for it, and opens the log behind it. 0 or
 * -errno. */
static int writer_new(fuse_req_t req, struct fs_inode *i, int flags,
		      const struct jsonl_settings *settings, struct fs_log_handle **made)
{
	const struct fs_log_kind *kind =
	    settings->commit == JSONL_COMMIT_CLOSE ? &fs_block_kind : &fs_writer_kind;
	struct fs_mount *m = fs_mount_of(req);
	struct fs_log_handle *g = calloc(1, kind->size);
	int rc;

	if (!g)
		return -ENOMEM;
	g->m = m;
	g->settings = settings;
	g->opener = fs_caller_ids(req);
	g->kind = kind;
	g->base.ops = kind->ops;
	g->base.flags = flags;
	g->base.inode = i; /* only for its path; fs_handle_link sets it properly */
	rc = fs_account_open(&m->vault, fuse_req_ctx(req)->uid, &g->account);
	if (!rc)
		rc = fs_openlog_get(m, i, true, &g->log);
	if (rc) {
		fs_account_close(&m->vault, g->account);
		free(g);
		return rc;
	}
	*made = g;
	return 0;
}

/* Does all that can fail before the handle is entered into the lists. 0 or -errno. */
static int writer_begin(fuse_req_t req, struct fs_log_handle *g, struct fs_inode *i,
			const char *path, struct fs_inode *created_in)
{
	struct fs_mount *m = g->m;
	off_t visible;
	int rc;

	rc = fs_account_file(&m->vault, g->account, &g->log->payer);
	if (!rc)
		rc = jsonl_file_visible(fs_openlog_file(g->log), &visible);
	if (!rc)
		rc = fs_log_allowed(req, g->settings, path, g->base.flags, visible);
	if (!rc)
		rc = open_writer(req, g, i, visible);
	if (!rc && g->settings->sync != JSONL_SYNC_NONE) {
		if (created_in)
			rc = open_directory(m, g, created_in);
		else if (!visible)
			rc = open_directory_of(m, g, i);
	}
	if (!rc && (g->base.flags & O_TRUNC) && visible > 0)
		rc = fs_rewrite_begin(g, fuse_req_ctx(req), 0, true);
	return rc;
}

int fs_log_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi,
		struct fs_inode *created_in)
{
	const struct jsonl_settings *settings;
	struct fs_mount *m = fs_mount_of(req);
	struct fs_log_handle *g;
	char path[PATH_MAX];
	bool follows;
	int rc;

	fs_path_of(m, i, path, sizeof(path));
	settings = jsonl_policy_settings(m->vault.policy, path);
	if (!settings)
		return -ENOMEM;
	if ((fi->flags & O_ACCMODE) == O_RDONLY)
		return fs_reader_open(req, i, fi, path, settings, created_in);
	rc = writer_new(req, i, fi->flags, settings, &g);
	if (rc)
		return rc;
	rc = writer_begin(req, g, i, path, created_in);
	if (!rc)
		rc = fs_log_link(m, &g->base, i, created_in);
	if (rc) {
		fs_writer_free(g, false);
		return rc;
	}
	follows = g->kind->follows && (fi->flags & O_APPEND) &&
		  settings->follow == JSONL_FOLLOW_PATH;
	if (follows || m->vault.config.shared != JSONL_SHARED_OFF)
		rc = fs_follow_new(g, follows);
	if (rc) {
		fs_writer_free(g, true);
		return rc;
	}
	fi->fh = (uintptr_t)&g->base;
	/* Also for readers: beside a direct writer, cached readers see NULs and half
	 * records. */
	fi->direct_io = 1;
	return 0;
}
